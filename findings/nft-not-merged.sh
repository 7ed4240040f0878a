#!/bin/sh
# nft makes "neither this source port nor that destination port" into "not both", which matches more.
#
# Version: nft 1.0.6 (Debian 12), Linux 6.18
# Two matches of a rule must both hold: `udp sport != 68 udp dport != 67` should pass over every packet for port 67. nft
# joins comparisons of neighbouring header fields into one of all their bytes, and does so with != as well: the kernel gets
# "the four bytes are not 68, 67", which only a packet from 68 to 67 is not. `nft list` takes the comparison apart
# again and shows the rule as it was written. The same goes for `arp htype != 1 arp ptype != ip` and what else is side by
# side. With == all is well. A rule that says in the positive what passes, or whose matches have another one between them, is safe.
. "$(dirname "$0")/common.sh"
debian nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2 libnftnl11 libmnl0 libxtables12

cat >"$work/merged.sh" <<'END'
ip link set lo up
# hits RULE: does it count a packet from some port to port 67?
hits() {
	nft "flush ruleset; add table ip t; add chain ip t c { type filter hook output priority 0; }; add rule ip t c $1 counter"
	bash -c 'echo >/dev/udp/127.0.0.1/67'
	echo "$(nft list chain ip t c | sed -n 's/^\t*\(.*\) counter packets \([0-9]*\) .*/\1: \2/p')"
}
hits 'udp sport != 68 udp dport != 67'
hits 'udp sport != 68 udp dport != { 67, 69 }'
END
seen "$(cat <<-'END'
	udp sport != 68 udp dport != 67: 1
	udp sport != 68 udp dport != { 67, 69 }: 0
END
)" "$(alone sh "$work/merged.sh")"
