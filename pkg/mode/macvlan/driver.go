package macvlan

import (
	"fmt"
	"slices"

	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
	"dcni/pkg/wire"
)

// driver is Docker's driver macvlan: what dnet does with macvlan networks. They leave
// nothing on the host.
type driver struct{}

var (
	_ catalog.Creator   = driver{}
	_ catalog.Inspector = driver{}
)

// Name is Docker's.
func (driver) Name() string { return "macvlan" }

// options are Docker's (moby, libnetwork/drivers/macvlan/macvlan_setup.go and netlabel).
var options = network.DockerOptions{
	"parent":                         network.StringOption("parent"),
	"macvlan_mode":                   network.StringOption("mode"),
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
	if mode := o.DriverOptions["macvlan_mode"]; mode != "" && !slices.Contains(modes, mode) {
		return nil, fmt.Errorf("requested macvlan mode '%s' is not valid, 'bridge' mode is the macvlan driver default", mode)
	}
	return catalog.CreateOnParent(Plugin.Type, o, addresses, ipv6), nil
}

// Probes wants the parent to be fit.
func (driver) Probes(d network.Description) []wire.Object { return d.Parent.Objects() }

// Options returns what a configuration says under Docker's names.
func (driver) Options(conf network.Conf) (map[string]string, error) { return reader.Show(conf) }
