#!/bin/sh
# iptables-translate makes of some rules about connections ones that do something else, without a word.
#
# Version: iptables 1.8.9 and nftables 1.0.6 (Debian 12), Linux 6.18
# What it can't translate it prints as a comment, so one expects the rest to mean the same. But `CONNMARK --set-mark` with a mask becomes a
# statement that clears these bits and sets none. A list of states that names DNAT or SNAT becomes that alone: its
# other states are gone, and with `!` in front the rule matches just what it left out. And a match of the port that a connection was
# first sent to becomes what nft refuses. Who moves rules of ports and of marked connections to nftables has to read each.
. "$(dirname "$0")/common.sh"
debian iptables=1.8.9-2 libxtables12 libnftnl11 libmnl0 libip4tc2 libip6tc2 iproute2=6.1.0-3 libbpf1 libelf1 socat=1.7.4.4-2 libwrap0 libssl3 libreadline8 \
	nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2 libjansson4

cat >"$work/script" <<'END'
ip link set lo up
XTABLES_LIBDIR=$(dirname "$(find "$work/debian" -name libxt_CONNMARK.so)")
export XTABLES_LIBDIR
translate() { xtables-nft-multi iptables-translate "$@" | sed "s/^nft '\(.*\)'$/\1/"; }
packets() {
	nft add table ip seen
	nft add chain ip seen c '{ type filter hook postrouting priority 300; }'
	nft add rule ip seen c udp dport 5000 "$@" counter
	echo hello | socat -u - UDP-SENDTO:127.0.0.1:5000
	nft list table ip seen | sed -n 's/.*packets \([0-9]*\) .*/\1/p'
	nft flush ruleset
}
rule="OUTPUT -p udp -j CONNMARK --set-mark 0x5/0xff"
xtables-nft-multi iptables -t mangle -A $rule
echo "marked 5 by iptables: $(packets ct mark 5)"
nft add table ip mangle
nft add chain ip mangle OUTPUT '{ type filter hook output priority mangle; }'
nft "$(translate -t mangle -A $rule)"
echo "marked 5 by its translation: $(packets ct mark 5)"
translate -A INPUT -m conntrack --ctstate NEW,DNAT -j ACCEPT
translate -A INPUT -m conntrack ! --ctstate NEW,DNAT -j ACCEPT
nft add table ip filter
nft add chain ip filter INPUT
nft "$(translate -A INPUT -m conntrack --ctorigdstport 80 -j ACCEPT)" 2>&1 | sed -n 's/.*Error: //p'
END
export work
seen "$(cat <<-'END'
	marked 5 by iptables: 1
	marked 5 by its translation: 0
	add rule ip filter INPUT ct status dnat counter accept
	add rule ip filter INPUT ct status dnat counter accept
	Can't parse symbolic invalid expressions
END
)" "$(alone sh "$work/script")"
