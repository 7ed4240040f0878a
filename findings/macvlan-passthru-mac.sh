#!/bin/sh
# A MAC that is given where a macvlan of mode passthru is made is ignored without an error; one that is given later becomes the parent's.
#
# Version: iproute2 6.1.0 (Debian 12), Linux 6.18 and 6.12
# In the other modes `ip link add link PARENT address MAC type macvlan` makes a link of that MAC. In mode passthru the same command
# succeeds, and the link has the parent's. `ip link set LINK address MAC` then works and changes the parent as well, which gets its
# own MAC back when the link goes. A program that makes such a link in one message runs with another MAC than it was told to.
. "$(dirname "$0")/common.sh"
debian iproute2=6.1.0-3 libbpf1 libelf1 libmnl0 libxtables12

cat >"$work/script" <<'END'
mac() { ip -o link show "$1" | sed 's/.*link\/ether \([0-9a-f:]*\).*/\1/'; }
ip link add p0 address 02:00:00:00:00:01 type veth peer name p1
for mode in bridge passthru; do
	ip link add link p0 name m0 address 02:00:00:00:00:02 type macvlan mode $mode
	echo "$mode, made with ..02: $(mac m0)"
	[ $mode = bridge ] || { ip link set m0 address 02:00:00:00:00:03; echo "$mode, set to ..03: $(mac m0), the parent $(mac p0)"; }
	ip link del m0
done
echo "then: the parent $(mac p0)"
END
seen "$(cat <<-'END'
	bridge, made with ..02: 02:00:00:00:00:02
	passthru, made with ..02: 02:00:00:00:00:01
	passthru, set to ..03: 02:00:00:00:00:03, the parent 02:00:00:00:00:03
	then: the parent 02:00:00:00:00:01
END
)" "$(alone sh "$work/script")"
