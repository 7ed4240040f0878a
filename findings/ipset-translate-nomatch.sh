#!/bin/sh
# ipset-translate makes an exception of a set into a member of it.
#
# Version: ipset 7.17 and nftables 1.0.6 (Debian 12)
# `add office 10.1.2.0/24 nomatch` says that this part of 10.1.0.0/16 is not in the set. The translation drops the word without a
# comment: the part becomes an element like others, and nft then refuses the file, for the two overlap, or, where the exception stands
# first or alone, takes it for what the set matches. Ranges and prefixes of sets of addresses and of ports are translated into elements that
# nft refuses, for the set has no intervals. So of the sets that people move to nftables only those of single values come through.
. "$(dirname "$0")/common.sh"
debian ipset=7.17-1 libipset13=7.17-1 libmnl0 iproute2=6.1.0-3 libbpf1 libelf1 nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2 libnftnl11 libjansson4

cat >"$work/script" <<'END'
load() {
	ipset-translate restore <sets >rules
	grep element rules
	nft -f rules 2>&1 | sed -n 's/.*Error: //p'
	nft flush ruleset
}
cat >sets <<-SETS
	create office hash:net
	add office 10.1.0.0/16
	add office 10.1.2.0/24 nomatch
SETS
ipset restore <sets
for a in 10.1.1.1 10.1.2.1; do ipset -q test office $a && echo "ipset: $a is in the set" || echo "ipset: $a is not"; done
load
cat >sets <<-SETS
	create ports bitmap:port range 0-65535
	add ports 8000-8010
SETS
load
END
cd "$work"
seen "$(cat <<-'END'
	ipset: 10.1.1.1 is in the set
	ipset: 10.1.2.1 is not
	add element inet global office { 10.1.0.0/16 }
	add element inet global office { 10.1.2.0/24 }
	conflicting intervals specified
	add element inet global ports { 8000-8010 }
	You must add 'flags interval' to your set declaration if you want to add range elements
END
)" "$(alone sh "$work/script")"
