// Command dhost is the CNI plugin for Docker's network "host": a container is in
// the host's own network namespace.
//
// A CNI plugin is given a sandbox and can't choose another. It can make the path
// that the runtime will join lead elsewhere, for as long as it takes: see
// [wire.Bind]. README.md beside this file is its manual, and says which runtimes
// it works under.
package main

import (
	"dcni/pkg/cni"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

var plugin = &cni.Plugin{Name: "dhost", Parse: parse, Roots: roots, Guest: &cni.Guest{Admit: admit}}

func main() { cni.Main(plugin) }

// hostNetNS is the host's network namespace: the one that the plugin, and so
// the runtime, is in.
const hostNetNS = "/proc/self/ns/net"

// allowed is the file by which root allows it. With the host's network, a
// container reaches whatever listens on the host's 127.0.0.1, and who may write
// networks into a runtime's configuration need not be trusted with that.
var allowed = wire.Permission{Path: "/etc/dcni/allow-host-network", What: "to share the host's network"}

// Host is the host's network.
type Host struct{ *network.Guest }

func parse(conf network.Conf) (cni.Mode, error) {
	n, err := conf.Guest()
	if err != nil {
		return nil, err
	}
	return Host{n}, nil
}

// Network is what the engine must know.
func (h Host) Network() cni.Network {
	return cni.Network{Name: h.Name, DNS: h.DNS, Shares: hostNetNS}
}

// admit refuses where the host would be harmed, or the container would not be
// where its user thinks. A sandbox that is in the host's namespace already is
// welcome.
func admit(r *cni.Request, found wire.Survey) error {
	switch {
	case r.Args["K8S_POD_INFRA_CONTAINER_ID"] != "":
		// containerd's own loopback plugin would take the host's lo down.
		return wire.Errorf(wire.CodeSandbox, "CNI_ARGS K8S_POD_INFRA_CONTAINER_ID: network %s is not for pods of Kubernetes: set hostNetwork: true in the pod's spec",
			r.Network)
	case r.Prev != nil:
		return wire.Errorf(wire.CodeConfig, "prevResult: must not be given: what plugins before dhost made in the sandbox would be lost to the container")
	case found.Own:
		return nil
	}
	return r.Vacant(found, "the runtime's own switch: ctr run --net-host, nerdctl run --network host, podman run --network host")
}

// roots is the bind, where it is known what it would be.
func roots(s cni.Site) []wire.Object { return []wire.Object{bind(s)} }

func bind(s cni.Site) *wire.Bind {
	return &wire.Bind{Owner: s.Attachment, Path: s.NetNS, Source: hostNetNS, Over: s.Cookie, Target: s.Target}
}

// Plan says what must be there for one attachment.
func (h Host) Plan(s cni.Site) (wire.Plan, error) {
	return wire.Plan{Own: []wire.Object{&allowed, bind(s)}}, nil
}
