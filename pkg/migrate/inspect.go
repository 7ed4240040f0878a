package migrate

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"dcni/pkg/network/catalog"
)

// inspected is a network in what `docker network inspect` prints (moby, api/types/network).
type inspected struct {
	Name                 string
	Scope, Driver        string
	EnableIPv4           *bool
	EnableIPv6           *bool
	Internal, Attachable bool
	Ingress              bool
	ConfigOnly           bool
	ConfigFrom           struct{ Network string }
	Options              map[string]text
	Labels               map[string]text
	IPAM                 struct {
		Driver  string
		Options map[string]text
		Config  []struct {
			Subnet, IPRange, Gateway string
			AuxiliaryAddresses       map[string]string
		}
	}
}

// written are options that Docker writes into a network by itself, and that are flags.
var written = []string{"com.docker.network.enable_ipv4", "com.docker.network.enable_ipv6"}

// plain says in plain words that a value has another type.
func plain(err error) error {
	e, is := errors.AsType[*json.UnmarshalTypeError](err)
	if !is {
		return err
	}
	return fmt.Errorf("%s at byte %d: must be %s, is %s", cmp.Or(e.Field, "a network"), e.Offset, wanted(e), e.Value)
}

// wanted says in plain words what a value must be that has another type.
func wanted(e *json.UnmarshalTypeError) string {
	switch e.Type.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	default:
		return "an object"
	}
}

// readInspect reads a list of networks.
func readInspect(data []byte) (*Source, error) {
	var list []inspected
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("is not what docker network inspect prints: %w", plain(err))
	}
	out := &Source{}
	seen := map[string]bool{}
	for i, one := range list {
		switch {
		case one.Name == "":
			return nil, fmt.Errorf("is not what docker network inspect prints: entry %d has no Name", i+1)
		case seen[one.Name]:
			return nil, fmt.Errorf("has network %s twice", one.Name)
		case catalog.Predefined(one.Name):
			out.Left = append(out.Left, Left{one.Name, "is predefined, and there already"})
			continue
		case one.Ingress || one.Name == "docker_gwbridge":
			out.Left = append(out.Left, Left{one.Name, "is the swarm's own, and there is no swarm"})
			continue
		}
		seen[one.Name] = true
		n, err := one.network()
		if err != nil {
			return nil, err
		}
		out.Networks = append(out.Networks, n)
	}
	return out.sorted(), nil
}

func (one inspected) network() (Network, error) {
	n := Network{ConfigOnly: one.ConfigOnly}
	n.Name, n.Driver, n.Internal, n.Attachable = one.Name, one.Driver, one.Internal, one.Attachable
	if n.ConfigFrom = one.ConfigFrom.Network; n.ConfigFrom != "" {
		return n, nil // it says the rest
	}
	if n.ConfigOnly {
		n.Driver, n.Attachable = "bridge", false
	}
	n.DriverOptions, n.Labels, n.IPAMOptions, n.IPAMDriver = texts(one.Options), texts(one.Labels), texts(one.IPAM.Options), one.IPAM.Driver
	for _, option := range written {
		delete(n.DriverOptions, option)
	}
	if n.IPAMDriver == "" || n.Driver == "overlay" {
		n.IPAMDriver = "default"
	}
	var subnets []subnet
	for _, c := range one.IPAM.Config {
		subnets = append(subnets, subnet{c.Subnet, c.IPRange, c.Gateway, c.AuxiliaryAddresses})
	}
	err := n.setSubnets(subnets)
	n.setFamilies(one.EnableIPv4, one.EnableIPv6)
	return n, err
}
