#!/bin/sh
# The IPAM plugin whereabouts answers CHECK with an error, so that CHECK of each healthy container fails.
#
# Version: github.com/k8snetworkplumbingwg/whereabouts v0.9.2, with the macvlan of github.com/containernetworking/plugins v1.9.1
# CHECK has been part of CNI since version 0.4.0, and a plugin hands it to its IPAM plugin. whereabouts takes 0.4.0 and later versions, and
# answers CHECK by "not implemented" and code 999, before it looks at its configuration. One would expect success, as of a plugin that has
# nothing to compare. A network with it needs "disableCheck": true in its list where the runtime calls CHECK; libcni then calls no plugin.
. "$(dirname "$0")/common.sh"
module github.com/k8snetworkplumbingwg/whereabouts@v0.9.2 github.com/containernetworking/plugins@v1.9.1
go mod download -json github.com/k8snetworkplumbingwg/whereabouts >"$work/found"
cp -R "$(sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p' "$work/found")" "$work/src"
chmod -R u+w "$work/src"
go build -o "$work/bin/" github.com/containernetworking/plugins/plugins/main/macvlan
# The whole of Kubernetes' client is linked: without optimization, a minute less.
(cd "$work/src" && go build "-gcflags=k8s.io/...=-N -l" -o "$work/bin/whereabouts" ./cmd 2>/dev/null)

cat >"$work/script" <<'END'
mount -t tmpfs tmpfs /run
mkdir /run/netns
ip netns add c1
ip link add parent type veth peer name other
ip link add link parent name eth0 netns c1 type macvlan
ip -n c1 address add 192.0.2.10/24 dev eth0
ip -n c1 link set eth0 up
cat >"$work/conf" <<JSON
{"cniVersion": "1.0.0", "name": "lan", "type": "macvlan", "master": "parent",
 "ipam": {"type": "whereabouts", "range": "192.0.2.0/24", "kubernetes": {"kubeconfig": "/nowhere"}},
 "prevResult": {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "mac": "$(ip -n c1 -br link show eth0 | awk '{print $3}')", "sandbox": "/run/netns/c1"}],
  "ips": [{"address": "192.0.2.10/24", "interface": 0}]}}
JSON
CNI_COMMAND=CHECK CNI_CONTAINERID=c1 CNI_IFNAME=eth0 CNI_NETNS=/run/netns/c1 CNI_PATH="$work/bin" macvlan <"$work/conf" && echo "CHECK succeeds"
END
export work
PATH=$work/bin:$PATH
seen "CNI CHECK method is not implemented" "$(alone sh "$work/script" 2>&1 | sed -n 's/.*"msg": "\(.*\)".*/\1/p;/^CHECK/p')"
