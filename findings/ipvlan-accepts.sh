#!/bin/sh
# An ipvlan accepts, without an error, a MAC that it does not take, an MTU that its parent can't pass, and its parent's own address.
#
# Version: iproute2 6.1.0 (Debian 12), Linux 6.12
# A macvlan takes the MAC and refuses the MTU. With the parent's address in a container, the ipvlan gets what is for the host: a host
# that is reached by that address is lost. Two ipvlans of one parent can't have one address, in whichever namespaces they are; of the
# parent's own the kernel takes no notice. A program that makes ipvlans must compare all three itself.
. "$(dirname "$0")/common.sh"
here=$(realpath "$(dirname "$0")")
debian iproute2=6.1.0-3 libbpf1 libelf1 libmnl0 libxtables12

cat >"$work/script" <<'END'
mount -t tmpfs run /run
ip link add p0 address 02:00:00:00:00:01 type veth peer name p1
ip addr add 192.0.2.1/24 dev p0
ip link set p0 up
show() { ip -o link show "$1" | sed 's/.* mtu \([0-9]*\).*link\/ether \([0-9a-f:]*\).*/mtu \1, \2/'; }
ip link add link p0 name m0 mtu 9000 type macvlan 2>/dev/null || echo "macvlan of 9000 bytes: refused"
ip link add link p0 name i0 address 02:00:00:00:00:02 mtu 9000 type ipvlan mode l2
echo "ipvlan of 9000 bytes, made with ..02: $(show i0)"
ip link set i0 address 02:00:00:00:00:02 2>/dev/null || echo "set to ..02 later: refused"
ip netns add c1
ip link set i0 netns c1
ip -n c1 addr add 192.0.2.1/24 dev i0 && echo "the parent's address: taken"
END
set -- unshare -n -m sh "$work/script"
# Where this kernel has no ipvlan, in the virtual machine.
modprobe -q -n ipvlan 2>/dev/null || set -- "$here/../scripts/vm/run" env LD_LIBRARY_PATH="$LD_LIBRARY_PATH" "$@"
seen "$(cat <<-'END'
	macvlan of 9000 bytes: refused
	ipvlan of 9000 bytes, made with ..02: mtu 9000, 02:00:00:00:00:01
	set to ..02 later: refused
	the parent's address: taken
END
)" "$("$@")"
