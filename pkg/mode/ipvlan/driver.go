package ipvlan

import (
	"fmt"
	"slices"

	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
	"dcni/pkg/wire"
)

// driver is Docker's driver ipvlan: what dnet does with ipvlan networks. They leave
// nothing on the host.
type driver struct{}

var (
	_ catalog.Creator   = driver{}
	_ catalog.Inspector = driver{}
)

// Name is Docker's.
func (driver) Name() string { return "ipvlan" }

// options are Docker's (moby, libnetwork/drivers/ipvlan/ipvlan_setup.go and netlabel).
var options = network.DockerOptions{
	"parent":                         network.StringOption("parent"),
	"ipvlan_mode":                    network.StringOption("mode"),
	"ipvlan_flag":                    network.StringOption("flag"),
	"com.docker.network.driver.mtu":  network.NumberOption("mtu"),
	"com.docker.network.enable_ipv6": network.BoolOption("ipv6"),
	network.IfacePrefix:              network.PrefixOption(),
}

// OptionNames are Docker's.
func (driver) OptionNames() []string { return options.Names() }

// Configure returns the configuration of a new network. The errors are Docker's.
func (driver) Configure(o *catalog.Options, addresses ipam.Raw, ipv6 *bool) (any, error) {
	if err := options.Check(o.DriverOptions); err != nil {
		return nil, err
	}
	if m := o.DriverOptions["ipvlan_mode"]; m != "" && !slices.Contains(modes, m) {
		return nil, fmt.Errorf("requested ipvlan mode '%s' is not valid, 'l2' mode is the ipvlan driver default", m)
	}
	if f := o.DriverOptions["ipvlan_flag"]; f != "" && !slices.Contains(flags, f) {
		return nil, fmt.Errorf("requested ipvlan flag '%s' is not valid, 'bridge' is the ipvlan driver default", f)
	}
	return catalog.CreateOnParent(Plugin.Type, o, addresses, ipv6), nil
}

// Probes wants the parent to be fit, and the kernel to have ipvlans.
func (driver) Probes(d network.Description) []wire.Object {
	return append(d.Parent.Objects(), d.Parent.Child(network.Endpoint{}, ""))
}

// Options returns what a configuration says under Docker's names.
func (driver) Options(conf network.Conf) (map[string]string, error) { return reader.Show(conf) }
