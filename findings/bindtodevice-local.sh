#!/bin/sh
# Of a packet that a host sends to its own address, nft says that it came in by lo, and a socket that it came in by the address's link.
#
# Version: Linux 6.18, socat 1.7.4.4, nftables 1.0.6 and iproute2 6.1.0 (Debian 12)
# A rule about `iif lo` counts the packet and one about the link does not, and a capture shows it on lo. So one expects a socket
# bound to the link (SO_BINDTODEVICE) to be deaf to the host's own packets, and one bound to lo to hear them. It is the other way
# round: the kernel compares with the link of the route, which is the address's, in IPv4 and IPv6. A server that is bound to a
# bridge to serve the guests behind it serves the host as well, and no rule about the bridge keeps the host out.
. "$(dirname "$0")/common.sh"
debian iproute2=6.1.0-3 libbpf1 libelf1 libmnl0 libxtables12 socat=1.7.4.4-2 libwrap0 libssl3 libreadline8 \
	nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2 libnftnl11

cat >"$work/script" <<'END'
ip link set lo up
ip link add br0 type bridge
ip address add 10.1.0.1/24 dev br0
ip address add fd00::1/64 dev br0 nodad
ip link set br0 up
nft -f rules
port=5000
for family in 4 6; do
	[ $family = 4 ] && address=10.1.0.1 || address=[fd00::1]
	for link in br0 lo; do
		port=$((port + 1))
		timeout 2 socat -u UDP$family-RECVFROM:$port,so-bindtodevice=$link OPEN:heard.$port,creat & server=$!
		until grep -qi ":$(printf %04x $port) " /proc/net/udp /proc/net/udp6; do sleep 0.05; done
		echo hello | socat -u - UDP$family-SENDTO:$address:$port 2>/dev/null
		wait $server || :
		echo "IPv$family, a socket bound to $link heard: $(grep -s . heard.$port || echo nothing)"
	done
done
nft list table inet count | sed -n 's/.*iif "\(.*\)" udp.*packets \([0-9]*\) .*/rules: \2 came in by \1/p'
END
cat >"$work/rules" <<'END'
table inet count {
	chain input {
		type filter hook input priority 0
		iif lo udp dport 5000-5999 counter
		iif br0 udp dport 5000-5999 counter
	}
}
END
cd "$work"
seen "$(cat <<-'END'
	IPv4, a socket bound to br0 heard: hello
	IPv4, a socket bound to lo heard: nothing
	IPv6, a socket bound to br0 heard: hello
	IPv6, a socket bound to lo heard: nothing
	rules: 4 came in by lo
	rules: 0 came in by br0
END
)" "$(alone sh "$work/script")"
