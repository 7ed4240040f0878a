// Package container is Docker's network mode container:NAME, the plugin dcontainer: a
// container is in the network namespace of another one, the donor. Both see the same
// interfaces and addresses, and reach each other on localhost.
//
// The path that the runtime will join leads to the donor's namespace for as long as that
// takes: see [wire.NetNSBind]. The donor need not be attached by dcni.
package container

import (
	"fmt"

	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// Plugin is dcontainer. Docker has no driver of that kind: it makes no network.
var Plugin = &network.Plugin{Type: "dcontainer", Kind: network.NoInterface, Parse: parse, Roots: roots, Validate: validate}

// options mirrors the JSON of what there is to choose.
type options struct {
	Container string `json:"container"`
}

// Container is the network of another container.
type Container struct {
	*network.Guest
	donor string
}

func parse(conf network.Conf) (network.Mode, error) {
	var o options
	n, err := conf.Guest(&o)
	switch {
	case err != nil:
		return nil, err
	case o.Container == "":
		return nil, wire.Errorf(wire.CodeConfig, "container: missing; must be the ID, the beginning of the ID, or the name of the container whose network is to be shared")
	}
	return Container{n, o.Container}, nil
}

// Describe returns what the engine must know.
func (c Container) Describe() network.Description {
	return network.Description{Name: c.Name, DNS: c.DNS, Joins: c.donor}
}

// validate refuses a sandbox where the container would not be where its user thinks, and
// what only a container with a network of its own can have. The words are Docker's (moby,
// daemon/internal/runconfig). A sandbox that is in the donor's namespace already is
// accepted.
func validate(j network.Join) error {
	if err := refuse(j.Asked); err != nil {
		return err
	}
	switch {
	case j.Chained:
		return wire.Errorf(wire.CodeConfig, "prevResult: must not be given: what plugins before dcontainer made in the sandbox would be lost to the container")
	case j.Host && j.Args["K8S_POD_INFRA_CONTAINER_ID"] != "":
		// containerd's own loopback plugin would take the host's lo down.
		return wire.Errorf(wire.CodeSandbox, "container: is in the host's network namespace, which is not for pods of Kubernetes by network %s: set hostNetwork: true in the pod's spec",
			j.Network)
	case j.There:
		return nil
	}
	return j.Exchangeable("the runtime's own switch: ctr run --with-ns network:PATH, nerdctl run --network container:NAME, podman run --network container:NAME, dnet run --network container:NAME")
}

func refuse(a network.Asked) error {
	field, why := "", ""
	switch {
	case a.Ports:
		field, why = "portMappings", "conflicting options: port publishing and the container type network mode"
	case a.MAC != "":
		field, why = "mac "+a.MAC, "conflicting options: mac-address and the network mode"
	case len(a.IPs) > 0:
		field, why = fmt.Sprint("ips ", a.IPs), "user specified IP address is supported on user defined networks only"
	case a.Ranges:
		field, why = "ipRanges", "must not be given: the addresses are those of the other container"
	case len(a.Aliases) > 0:
		field, why = fmt.Sprint("aliases ", a.Aliases), "network-scoped aliases are only supported for user-defined networks"
	default:
		return nil
	}
	return wire.Errorf(wire.CodeConfig, "%s: %s", field, why)
}

// roots is the bind, where it is known what it would be.
func roots(e network.Endpoint) []wire.Object { return []wire.Object{e.Bind()} }

// Plan says what must be there for one attachment. If the donor is in the host's network
// namespace, so will be the container: root must allow that.
func (c Container) Plan(e network.Endpoint) (wire.Plan, error) {
	if e.Source == network.HostNetNS {
		return wire.Plan{Own: []wire.Object{network.HostPermission(), e.Bind()}}, nil
	}
	return wire.Plan{Own: []wire.Object{e.SharedLo(), e.Bind()}}, nil
}
