#!/bin/sh
# The name server of Podman's networks sends answers of any size by UDP and has no TCP, and Go programs find 75 of 80 containers without an error.
#
# Version: aardvark-dns 1.4.0, which Debian 12 has, with the resolver of Go's standard library
# A client says how long an answer by UDP it can take, 512 bytes if it says nothing (RFC 1035, 4.2.1; RFC 6891, 6.2.5). A server cuts longer ones,
# says so, and answers by TCP. This one sends 1,301 bytes to a client that says nothing, as to one that takes 1,232, and refuses
# TCP. Of what is longer than 1,232 bytes Go's resolver sees the beginning, and takes the addresses that are in it for all. One would expect
# a cut answer that says so, and a server by TCP. An alias that many containers share does not reach each of them.
. "$(dirname "$0")/common.sh"
debian aardvark-dns=1.4.0-3 iproute2=6.1.0-3 libbpf1 libelf1
module github.com/miekg/dns@v1.1.73
cat >main.go <<'END'
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/miekg/dns"
)

func main() {
	q := new(dns.Msg).SetQuestion("all.", dns.TypeA)
	c := dns.Client{UDPSize: 4096}
	for range 50 { // the server begins
		a, _, err := c.Exchange(q, "10.77.0.1:53")
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		a.Compress = true
		fmt.Printf("without EDNS: %d addresses, %d bytes, cut: %v\n", len(a.Answer), a.Len(), a.Truncated)
		break
	}
	c.Net = "tcp"
	_, _, err := c.Exchange(q, "10.77.0.1:53")
	fmt.Println("TCP:", errors.Unwrap(errors.Unwrap(err)))
	r := net.Resolver{PreferGo: true}
	for _, name := range []string{"db.", "all."} {
		found, err := r.LookupHost(context.Background(), name)
		fmt.Printf("Go's resolver, %s: %d addresses, error: %v\n", name, len(found), err)
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
{
	echo 10.77.0.1
	printf '%064d 10.77.0.2  db,all\n' 1
	for i in $(seq 3 81); do printf '%064d 10.77.0.%d  all\n' "$i" "$i"; done
} >"$work/names/web"
aardvark-dns -c "$work/names" -p 53 run 2>/dev/null &
ip netns exec c1 ask
kill "$(cat "$work/names/aardvark.pid")"
END
export work
PATH=$work/bin:$work/debian/usr/lib/podman:$PATH
seen "$(cat <<-'END'
	without EDNS: 80 addresses, 1301 bytes, cut: false
	TCP: connection refused
	Go's resolver, db.: 1 addresses, error: <nil>
	Go's resolver, all.: 75 addresses, error: <nil>
END
)" "$(alone sh "$work/script" 2>&1)"
