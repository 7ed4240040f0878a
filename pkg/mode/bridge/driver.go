package bridge

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"dcni/pkg/firewall"
	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
	"dcni/pkg/wire"
)

// driver is Docker's driver bridge: what dnet does with bridge networks.
type driver struct{}

var (
	_ catalog.Creator   = driver{}
	_ catalog.Inspector = driver{}
	_ catalog.Remover   = driver{}
)

// Name is Docker's.
func (driver) Name() string { return "bridge" }

// defaultBridge is Docker's option for the network that every host has.
const defaultBridge = "com.docker.network.bridge.default_bridge"

// options are Docker's (moby, libnetwork/netlabel and drivers/bridge/labels.go).
var options = network.DockerOptions{
	"com.docker.network.bridge.name":                    network.StringOption("bridge"),
	defaultBridge:                                       network.BoolOption("defaultBridge"),
	"com.docker.network.bridge.enable_icc":              network.BoolOption("icc"),
	"com.docker.network.bridge.enable_ip_masquerade":    network.BoolOption("masquerade"),
	"com.docker.network.bridge.host_binding_ipv4":       bindingOption(),
	"com.docker.network.bridge.gateway_mode_ipv4":       network.StringOption("gatewayModeIPv4"),
	"com.docker.network.bridge.gateway_mode_ipv6":       network.StringOption("gatewayModeIPv6"),
	"com.docker.network.bridge.inhibit_ipv4":            network.BoolOption("inhibitIPv4"),
	"com.docker.network.bridge.trusted_host_interfaces": network.ListOption("trustedHostInterfaces"),
	"com.docker.network.driver.mtu":                     network.NumberOption("mtu"),
	"com.docker.network.host_ipv4":                      network.StringOption("snatIPv4"),
	"com.docker.network.host_ipv6":                      network.StringOption("snatIPv6"),
	"com.docker.network.enable_ipv4":                    network.BoolOption("ipv4"),
	"com.docker.network.enable_ipv6":                    network.BoolOption("ipv6"),
	network.IfacePrefix:                                 network.PrefixOption(),
	"antiSpoof":                                         network.FlagOption("antiSpoof"), // dcni's own
	"firewall":                                          network.StringOption("firewall"),
}

// bindingOption is Docker's address for published ports. Its 0.0.0.0 stands for both families, as if none were
// given; so it is shown for Docker's own default network.
func bindingOption() network.DockerOption {
	o := network.StringOption("hostBinding")
	o.JSON = func(v string) (json.RawMessage, error) {
		if v == "0.0.0.0" {
			v = ""
		}
		return network.Quote(v), nil
	}
	return o
}

// created is dbridge's configuration as dnet writes it. Options stay under Docker's
// names, so that dnet inspect shows them as they were given.
type created struct {
	Type         string            `json:"type"`
	Capabilities map[string]bool   `json:"capabilities"`
	Internal     bool              `json:"internal,omitempty"`
	IPv6         *bool             `json:"ipv6,omitempty"`
	Options      map[string]string `json:"options,omitempty"`
	Names        *struct{}         `json:"names,omitempty"`
	IPAM         ipam.Raw          `json:"ipam"`
}

// OptionNames are Docker's.
func (driver) OptionNames() []string { return options.Names() }

// Configure returns the configuration of a new network. Its containers find one
// another by name, as in Docker; on a default bridge they do not.
func (driver) Configure(o *catalog.Options, addresses ipam.Raw, ipv6 *bool) (any, error) {
	if err := options.Check(o.DriverOptions); err != nil {
		return nil, err
	}
	c := created{
		Type: Plugin.Type, Internal: o.Internal, IPv6: ipv6, Options: o.DriverOptions, IPAM: addresses,
		Capabilities: map[string]bool{"aliases": true, "bandwidth": true, "ips": true, "mac": true, "portMappings": true},
	}
	if isDefault, _ := strconv.ParseBool(o.DriverOptions[defaultBridge]); !isDefault {
		c.Names = &struct{}{}
		c.Capabilities["dns"], c.Capabilities["io.kubernetes.cri.pod-annotations"] = true, true
	}
	return c, nil
}

// Probes wants the link to be a bridge, if it is there.
func (driver) Probes(d network.Description) []wire.Object {
	return []wire.Object{&wire.Bridge{Name: d.Link}}
}

// Options returns what a configuration says under Docker's names. What inspect
// shows elsewhere is left out.
func (driver) Options(conf network.Conf) (map[string]string, error) {
	keys, err := conf.Keys(known())
	if err != nil {
		return map[string]string{}, err
	}
	return ShowOptions(keys, nil)
}

// ShowOptions returns what a configuration's keys say under Docker's names: the bridge's,
// and more.
func ShowOptions(keys network.Object, more network.DockerOptions) (map[string]string, error) {
	for _, key := range slices.Concat([]string{"internal", "ipv4", "ipv6", "names"}, network.Known(&rawReference{}), network.StandardKeys()) {
		delete(keys, key)
	}
	if v, ok := keys["ipMasq"]; ok { // another word for masquerade
		delete(keys, "ipMasq")
		keys["masquerade"] = v
	}
	table := maps.Clone(options)
	maps.Copy(table, more)
	return table.Show(keys)
}

// Link is the link of a network whose configuration can't be read.
func (driver) Link(name string) string { return Link(name) }

// Leftovers are the bridge and what the firewall knows of the network. The bridge
// comes last, and so is removed first: an ADD that misses it waits for the
// network's lock.
func (driver) Leftovers(name, link string) []wire.Object {
	return []wire.Object{
		&firewall.Network{Name: name, Bridge: link},
		&wire.Bridge{Name: link, MAC: wire.BridgeMAC(link)},
	}
}
