#!/bin/sh
# The reference bridge leaves its masquerading rules when the namespace is gone.
#
# Version: github.com/containernetworking/plugins v1.9.1, with iptables 1.8.9 (Debian 12)
# DEL with a namespace removes the rules that ADD made for an address. When the namespace has gone before, DEL succeeds, gives
# the address back to host-local, and the rules stay: bridge reads the addresses from the interface in the namespace. Such a
# DEL is usual: CNI asks plugins to do without the namespace, and containerd sends a second one so.
. "$(dirname "$0")/common.sh"
debian iptables=1.8.9-2 libxtables12 libnftnl11 libmnl0 libip4tc2 libip6tc2 iproute2=6.1.0-3 libbpf1 libelf1
module github.com/containernetworking/plugins@v1.9.1
go build -o "$work/bin/" github.com/containernetworking/plugins/plugins/main/bridge \
	github.com/containernetworking/plugins/plugins/ipam/host-local

cat >"$work/script" <<'END'
mount -t tmpfs tmpfs /run
mkdir /run/netns
cni() { CNI_COMMAND=$1 CNI_CONTAINERID=c1 CNI_IFNAME=eth0 CNI_NETNS=$2 CNI_PATH=$work/bin bridge <"$work/conf" >/dev/null || echo "$1 failed"; }
rules() { iptables-legacy -t nat -S 2>/dev/null | grep -c 10.77.0 || true; }
for when in "there at DEL" "gone at DEL"; do
	ip netns add c1
	cni ADD /run/netns/c1
	echo "attached: $(rules) rules"
	if [ "$when" = "there at DEL" ]; then
		cni DEL /run/netns/c1
		ip netns del c1
	else
		ip netns del c1
		cni DEL ""
	fi
	echo "namespace $when: $(rules) rules"
done
END
cat >"$work/conf" <<END
{"cniVersion": "1.0.0", "name": "web", "type": "bridge", "isGateway": true, "ipMasq": true, "ipMasqBackend": "iptables",
 "ipam": {"type": "host-local", "subnet": "10.77.0.0/24", "dataDir": "$work/leases"}}
END
mkdir "$work/path"
ln -s "$(command -v iptables-legacy)" "$work/path/iptables"
ln -s "$(command -v ip6tables-legacy)" "$work/path/ip6tables"
PATH=$work/path:$work/bin:$PATH
export work
seen "$(cat <<-'END'
	attached: 2 rules
	namespace there at DEL: 0 rules
	attached: 2 rules
	namespace gone at DEL: 2 rules
END
)" "$(alone sh "$work/script" 2>&1)"
