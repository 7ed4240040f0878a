// Package host is Docker's network "host", the plugin dhost: a container is in the
// host's own network namespace.
//
// A CNI plugin is given a sandbox and can't choose another. It can make the path
// that the runtime will join lead elsewhere, for as long as it takes: see
// [wire.NetNSBind].
package host

import (
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
	"dcni/pkg/wire"
)

// Plugin is dhost.
var Plugin = &network.Plugin{Type: "dhost", Kind: network.NoInterface, Parse: parse, Roots: roots, Validate: validate, Driver: catalog.SingleDriver("host")}

// Host is the host's network.
type Host struct{ *network.Guest }

func parse(conf network.Conf) (network.Mode, error) {
	n, err := conf.Guest(nil)
	if err != nil {
		return nil, err
	}
	return Host{n}, nil
}

// Describe returns what the engine must know.
func (h Host) Describe() network.Description {
	return network.Description{Name: h.Name, DNS: h.DNS, Shares: network.HostNetNS}
}

// validate refuses a sandbox where the host would be harmed, or the container would
// not be where its user thinks. A sandbox that is in the host's namespace already
// is accepted.
func validate(j network.Join) error {
	switch {
	case j.Args["K8S_POD_INFRA_CONTAINER_ID"] != "":
		// containerd's own loopback plugin would take the host's lo down.
		return wire.Errorf(wire.CodeSandbox, "CNI_ARGS K8S_POD_INFRA_CONTAINER_ID: network %s is not for pods of Kubernetes: set hostNetwork: true in the pod's spec",
			j.Network)
	case j.Chained:
		return wire.Errorf(wire.CodeConfig, "prevResult: must not be given: what plugins before dhost made in the sandbox would be lost to the container")
	case j.There:
		return nil
	}
	return j.Exchangeable("the runtime's own switch: ctr run --net-host, nerdctl run --network host, podman run --network host")
}

// roots is the bind, where it is known what it would be.
func roots(e network.Endpoint) []wire.Object { return []wire.Object{e.Bind()} }

// Plan says what must be there for one attachment.
func (h Host) Plan(e network.Endpoint) (wire.Plan, error) {
	return wire.Plan{Own: []wire.Object{network.HostPermission(), e.Bind()}}, nil
}
