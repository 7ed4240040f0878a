#!/bin/sh
# CHECK of the plugin tuning refuses an interface that a program has put into a bridge or listens on, also where its configuration says
# nothing of promiscuous mode.
#
# Version: github.com/containernetworking/plugins v1.9.1
# tuning compares what its configuration sets: without "mtu" any MTU will do, without "allmulti" either state. "promisc" has no such third
# state: left out it is false, and CHECK wants a count of zero, which the kernel also raises for a port of a bridge and for a packet socket.
# One would expect that a list which sets an MTU alone passes CHECK while a program in the container captures packets. A
# runtime that calls CHECK takes the sandbox for broken as long as that lasts.
. "$(dirname "$0")/common.sh"
module github.com/containernetworking/plugins@v1.9.1
go build -o "$work/bin/" github.com/containernetworking/plugins/plugins/meta/tuning

cat >"$work/script" <<'END'
mount -t tmpfs tmpfs /run
mkdir /run/netns
ip netns add c1
ip link add host0 type veth peer name eth0 netns c1
tuning() {
	printf '{"cniVersion": "1.0.0", "name": "lan", "type": "tuning", "mtu": 1400, "prevResult": {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/run/netns/c1"}]}}' |
		CNI_COMMAND=$1 CNI_CONTAINERID=c1 CNI_IFNAME=eth0 CNI_NETNS=/run/netns/c1 CNI_PATH="$work/bin" "$work/bin/tuning"
}
tuning ADD >"$work/result"
tuning CHECK && echo "CHECK passes"
ip -n c1 link add br0 type bridge
ip -n c1 link set eth0 master br0
tuning CHECK
echo
ip -n c1 link set eth0 nomaster
tuning CHECK && echo "CHECK passes again"
END
export work
seen 'CHECK passes
Error: Tuning link eth0 configured promisc is false, current value is 1
CHECK passes again' "$(alone sh "$work/script" 2>&1 | sed -n 's/.*"msg": "\(.*\)".*/\1/p;/^CHECK/p')"
