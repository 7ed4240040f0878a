#!/bin/sh
# nft's name for a priority holds in some hooks only.
#
# Version: nft 1.0.6 (Debian 12)
# A chain's priority can be said by name. `dstnat` is -100, the priority of destination NAT, which a host does in
# prerouting for what comes in and in output for what it sends itself. nft takes the name in prerouting and refuses it in
# output, where the number is right. So a rule set must have numbers there.
. "$(dirname "$0")/common.sh"
debian nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2 libnftnl11 libmnl0 libxtables12

try() { alone nft -c "add table ip t; add chain ip t c { type nat hook $1 priority $2; }" 2>&1 | sed -n 1p; }
seen "$(cat <<-'END'
	prerouting dstnat: 
	output -100: 
	output dstnat: Error: invalid priority expression value in this context.
END
)" "$(for p in "prerouting dstnat" "output -100" "output dstnat"; do echo "$p: $(try $p)"; done)"
