#!/bin/sh
# The name server of Podman's networks answers questions for the name of an address with a record of the root, so that no libc finds it.
#
# Version: aardvark-dns 1.4.0, which Debian 12 has, with glibc 2.36's resolver
# The record of an answer has to belong to the name that was asked for (RFC 1034, 4.3.2). Answers for addresses (PTR) have the right data, and "."
# as the name that they belong to. glibc, which compares both, says that the address has no name, though "dig -x" shows one. One would
# expect what the same server does for names, whose records belong to what was asked for. Who relies on it: programs that log or permit by
# the name of who calls (databases' grants, sshd, mail), which work with Docker's server and see addresses only with this.
. "$(dirname "$0")/common.sh"
debian aardvark-dns=1.4.0-3 iproute2=6.1.0-3 libbpf1 libelf1
module github.com/miekg/dns@v1.1.73
cat >main.go <<'END'
package main

import (
	"fmt"
	"time"

	"github.com/miekg/dns"
)

func main() {
	reverse, _ := dns.ReverseAddr("10.77.0.2")
	for name, kind := range map[string]uint16{"db.": dns.TypeA, reverse: dns.TypePTR} {
		q := new(dns.Msg).SetQuestion(name, kind)
		for range 50 { // the server begins
			a, err := dns.Exchange(q, "10.77.0.1:53")
			if err != nil {
				time.Sleep(100 * time.Millisecond)
				continue
			}
			for _, r := range a.Answer {
				fmt.Printf("%s %s: a record of %q\n", dns.TypeToString[kind], name, r.Header().Name)
			}
			break
		}
	}
}
END
go build -o "$work/bin/ask" . 2>/dev/null
cat >"$work/script" <<'END'
mount -t tmpfs tmpfs /run
echo "nameserver 10.77.0.1" >"$work/resolv.conf"
mount --bind "$work/resolv.conf" /etc/resolv.conf
mkdir "$work/names" /run/netns
ip netns add c1
ip link add br0 type veth peer name eth0 netns c1
ip address add 10.77.0.1/24 dev br0
ip link set br0 up
ip -n c1 address add 10.77.0.2/24 dev eth0
ip -n c1 link set eth0 up
printf '10.77.0.1\n%064d 10.77.0.2  db\n' 1 >"$work/names/web"
aardvark-dns -c "$work/names" -p 53 run 2>/dev/null &
ip netns exec c1 ask | sort
ip netns exec c1 getent hosts 10.77.0.2 || echo "getent hosts: exit status $?"
kill "$(cat "$work/names/aardvark.pid")"
END
export work
PATH=$work/bin:$work/debian/usr/lib/podman:$PATH
seen "$(cat <<-'END'
	A db.: a record of "db."
	PTR 2.0.77.10.in-addr.arpa.: a record of "."
	getent hosts: exit status 2
END
)" "$(alone sh "$work/script" 2>&1)"
