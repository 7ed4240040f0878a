package overlay

import (
	"dcni/pkg/mode/bridge"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
	"dcni/pkg/wire"
)

// driver is Docker's driver overlay: what dnet does with overlay networks besides making
// them, which is the cluster's.
type driver struct{}

var (
	_ catalog.Inspector = driver{}
	_ catalog.Remover   = driver{}
)

// Name is Docker's.
func (driver) Name() string { return "overlay" }

// Options returns what a configuration says under Docker's names. What inspect shows
// elsewhere is left out.
func (driver) Options(conf network.Conf) (map[string]string, error) {
	keys, err := conf.Keys(bridge.Keys(&raw{}, notOurs))
	if err != nil {
		return map[string]string{}, err
	}
	return bridge.ShowOptions(keys, options)
}

// options are Docker's of overlay networks (moby, daemon/libnetwork/drivers/overlay) that
// have another name than their key here.
var options = network.DockerOptions{
	"com.docker.network.driver.overlay.vxlanid_list": network.NumberOption("vni"),
}

// OptionNames are those that dnet takes: Docker's, and dcni's own.
func (driver) OptionNames() []string {
	return append([]string{"antiSpoof", "com.docker.network.driver.mtu"}, append(options.Names(), "encrypted", "firewall", "flood", "nodeAddresses")...)
}

// Link is the bridge of a network on each node.
func (driver) Link(name string) string { return bridge.Link(name) }

// Leftovers are what a network has on this node.
func (driver) Leftovers(name, link string) []wire.Object { return leftovers(name, link) }
