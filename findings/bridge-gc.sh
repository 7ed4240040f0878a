#!/bin/sh
# The reference plugins don't hand GC on to host-local, which would give addresses back.
#
# Version: github.com/containernetworking/plugins v1.10.0
# host-local of this version has GC: it gives back the addresses of attachments that are not among cni.dev/valid-attachments. But
# runtimes call GC of the plugins of a list, and host-local is called by one of these. bridge, ptp and macvlan answer GC with success
# and call nothing, though STATUS they hand on. So the addresses of containers that vanished without DEL stay taken, unless the
# runtime (libcni does, by its cache) remembers each one and sends DEL for it.
. "$(dirname "$0")/common.sh"
debian iproute2=6.1.0-3 libbpf1 libelf1 libmnl0 libxtables12
module github.com/containernetworking/plugins@v1.10.0
plugins=github.com/containernetworking/plugins/plugins
go build -o "$work/bin/" $plugins/main/bridge $plugins/main/ptp $plugins/main/macvlan $plugins/ipam/host-local

cat >"$work/script" <<'END'
mount -t tmpfs tmpfs /run
mkdir /run/netns
ip link set lo up
ip link add p0 type veth peer name p1
cni() {
	conf="{\"cniVersion\": \"1.1.0\", \"name\": \"$2\", \"type\": \"$2\", \"master\": \"p0\", \"cni.dev/valid-attachments\": [],
		\"ipam\": {\"type\": \"host-local\", \"dataDir\": \"$work/leases\", \"ranges\": [[{\"subnet\": \"10.1.0.0/24\"}]]}}"
	echo "$conf" | CNI_COMMAND=$1 CNI_CONTAINERID=c1 CNI_IFNAME=eth0 CNI_NETNS=/run/netns/c1 CNI_PATH=$work/bin "$work/bin/$3" >/dev/null || echo "$1 failed"
}
leases() { find "$work/leases/$1" -name '10.*' | wc -l; }
for plugin in bridge ptp macvlan; do
	ip netns add c1
	cni ADD $plugin $plugin
	ip netns del c1
	cni GC $plugin $plugin
	echo "$plugin: after its GC $(leases $plugin) address taken"
	cni GC $plugin host-local
	echo "$plugin: after host-local's GC $(leases $plugin)"
done
END
export work
seen "$(cat <<-'END'
	bridge: after its GC 1 address taken
	bridge: after host-local's GC 0
	ptp: after its GC 1 address taken
	ptp: after host-local's GC 0
	macvlan: after its GC 1 address taken
	macvlan: after host-local's GC 0
END
)" "$(alone sh "$work/script")"
