#!/bin/sh
# portmap's CHECK fails for every healthy container with a published port.
#
# Version: github.com/containernetworking/plugins v1.1.1, which Debian 12 has, with iptables 1.8.9
# ADD makes a chain in the table of each family that the container has an address of. CHECK then looks for it in both tables, so
# a container with one family fails by the table of the other. With both, CHECK puts the rules of both addresses into
# one list, and expects the first family's in the second's table. One would expect success until a rule is missing. A runtime that calls
# CHECK after ADD (CRI-O) starts no container with such a chain. With v1.9.1 all three succeed.
. "$(dirname "$0")/common.sh"
debian iptables=1.8.9-2 libxtables12 libnftnl11 libmnl0 libip4tc2 libip6tc2 iproute2=6.1.0-3 libbpf1 libelf1
module github.com/containernetworking/plugins@v1.1.1
go build -o "$work/bin/" github.com/containernetworking/plugins/plugins/main/bridge \
	github.com/containernetworking/plugins/plugins/ipam/host-local github.com/containernetworking/plugins/plugins/meta/portmap 2>/dev/null
cat >"$work/script" <<'END'
mount -t tmpfs tmpfs /run
mkdir /run/netns
ip link set lo up
plugin() { CNI_COMMAND=$1 CNI_CONTAINERID=c1 CNI_IFNAME=eth0 CNI_NETNS=/run/netns/c1 CNI_PATH=$work/bin $2; }
conf() { # PREVRESULT
	printf '{"cniVersion": "1.0.0", "name": "web", "type": "portmap", "backend": "iptables", "prevResult": %s, "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}}' "$1"
}
try() { # RANGES
	ip netns add c1
	printf '{"cniVersion": "1.0.0", "name": "web", "type": "bridge", "isGateway": true, "ipam": {"type": "host-local", "ranges": [%s], "dataDir": "%s"}}' "$1" "$work/leases" >"$work/conf"
	first=$(plugin ADD bridge <"$work/conf") || echo "bridge: $first"
	second=$(conf "$first" | plugin ADD portmap) || echo "portmap: $second"
	conf "$second" | plugin CHECK portmap >"$work/out" && echo "CHECK succeeds" || sed -n 's,.*"msg": "\(.*\) rule .*,CHECK: \1 rules not found,p;t;s,.*"msg": "\(.*\) chain CNI-DN-[0-9a-f]*\(.*\)".*,CHECK: \1 chain\2,p' "$work/out"
	conf "$second" | plugin DEL portmap; plugin DEL bridge <"$work/conf"
	ip netns del c1
}
echo "IPv4:"; try '[{"subnet": "10.77.0.0/24"}]'
echo "IPv6:"; try '[{"subnet": "fd00:77::/64"}]'
echo "both:"; try '[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd00:77::/64"}]'
END
mkdir "$work/path"
for p in iptables ip6tables; do ln -s "$(command -v $p-legacy)" "$work/path/$p"; done
PATH=$work/path:$work/bin:$PATH
export work
seen "$(cat <<-'END'
	IPv4:
	CHECK: could not check ipv6 dnat: chain not found in iptables table nat
	IPv6:
	CHECK: could not check ipv4 dnat: chain not found in iptables table nat
	both:
	CHECK: could not check ipv6 dnat: rules not found
END
)" "$(alone sh "$work/script" 2>&1)"
