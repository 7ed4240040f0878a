#!/bin/sh
# Of two programs that translate the same packets, the one that was loaded last decides.
#
# Version: Linux 6.18, nft 1.0.6 (Debian 12)
# Chains of one hook are asked in the order of their priority. Where they have the same one, the kernel puts a new
# chain before the others, and of chains of the type nat the first that translates a connection decides. So when a
# firewall loads its rules again, as each does with `delete table`, a port that two programs lead somewhere changes
# hands, though neither rule changed. A priority of one's own, one below, settles it.
. "$(dirname "$0")/common.sh"
debian nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2 libnftnl11 libmnl0 libxtables12

cat >"$work/order.sh" <<'END'
load() {
	nft "add table ip $1; delete table ip $1; add table ip $1; add chain ip $1 c { type nat hook output priority $2; }; \
		add rule ip $1 c tcp dport 80 counter redirect to :81"
}
# who: which program's rule counts a new connection
who() {
	bash -c '</dev/tcp/127.0.0.1/80' 2>/dev/null
	for t in one two; do
		nft list table ip $t | grep -q 'counter packets 1 ' && echo $t
	done
	return 0
}
ip link set lo up
load one -100; load two -100
echo "loaded one, two: $(who)"
load two -100; load one -100
echo "loaded two, one: $(who)"
load one -101; load two -100
echo "loaded one, which is before, and two: $(who)"
END
seen "$(cat <<-'END'
	loaded one, two: two
	loaded two, one: one
	loaded one, which is before, and two: one
END
)" "$(alone sh "$work/order.sh")"
