#!/bin/sh
# A chain of type nat is not asked as long as no rule of the namespace needs connection tracking, whatever rules it has.
#
# Version: Linux 6.18, nftables 1.0.6 and socat 1.7.4.4 (Debian 12)
# nft takes a chain of type nat that only counts or refuses, lists it, and its rules see no packet: the kernel gives nat chains the first
# packet of each connection that it tracks, and tracks only where a rule asks for that (a translation, or ct). One rule anywhere in
# the namespace that does switches the others on, and its removal off again. So what such a chain refuses depends on rules that have
# nothing to do with it: a service's chain that loses its last translation, and is to refuse from then on, lets all through.
. "$(dirname "$0")/common.sh"
debian iproute2=6.1.0-3 libbpf1 libelf1 libmnl0 libxtables12 socat=1.7.4.4-2 libwrap0 libssl3 libreadline8 \
	nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2 libnftnl11

cat >"$work/script" <<'END'
ip link set lo up
nft -f rules
timeout 20 socat TCP-LISTEN:5000,fork,reuseaddr OPEN:/dev/null & server=$!
until grep -q ":1388 " /proc/net/tcp; do sleep 0.05; done
ask() {
	socat -u OPEN:/dev/null TCP:127.0.0.1:5000 2>/dev/null && answer=connected || answer=refused
	echo "$1: $answer, $(nft list chain ip t out | sed -n 's/.*packets \([0-9]*\) .*/\1/p') packets counted"
}
ask "the chain alone"
nft add table ip other
nft add chain ip other c '{ type filter hook input priority 0; }'
nft add rule ip other c ct state invalid counter
ask "another table asks for a connection's state"
nft delete table ip other
ask "that table is gone"
kill $server
END
cat >"$work/rules" <<'END'
table ip t {
	chain out {
		type nat hook output priority 0
		tcp dport 5000 counter reject with tcp reset
	}
}
END
cd "$work"
seen "$(cat <<-'END'
	the chain alone: connected, 0 packets counted
	another table asks for a connection's state: refused, 1 packets counted
	that table is gone: connected, 1 packets counted
END
)" "$(alone sh "$work/script")"
