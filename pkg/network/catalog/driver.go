package catalog

import (
	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// SingleDriver is a driver of which every host has one network, and no second. It
// has nothing to inspect or remove.
type SingleDriver string

// Name is Docker's.
func (d SingleDriver) Name() string { return string(d) }

// A Creator is a driver of which dnet creates networks.
type Creator interface {
	network.Driver
	// Configure returns the plugin's configuration as dnet writes it: a value that
	// is encoded as JSON.
	Configure(o *Options, addresses ipam.Raw, ipv6 *bool) (any, error)
	// Probes are the objects that the host must be able to have before the network
	// is created.
	Probes(d network.Description) []wire.Object
}

// An Inspector is a driver whose networks have more to show than a network of
// another suite.
type Inspector interface {
	network.Driver
	// Options returns a configuration's options, by Docker's names where it has
	// them. The map is never nil.
	Options(conf network.Conf) (map[string]string, error)
}

// Optioned is a driver that networks are created of with options.
type Optioned interface {
	Name() string // Docker's, of the driver
	// OptionNames returns the names of all options, sorted.
	OptionNames() []string
}

// A Remover is a driver whose networks leave objects on the host when their last
// attachment is gone.
type Remover interface {
	network.Driver
	// Link is the link of a network, unless its configuration or its registration
	// names another.
	Link(network string) string
	// Leftovers are what a network leaves. The last one is removed first.
	Leftovers(network, link string) []wire.Object
}

// pluginOf returns the plugin that makes networks of a CNI type, nil if the type
// is another suite's.
func pluginOf(plugins []*network.Plugin, cniType string) *network.Plugin {
	for _, p := range plugins {
		if p.Type == cniType && p.Driver != nil {
			return p
		}
	}
	return nil
}

// creatorOf returns the plugin of one of Docker's drivers, and how it creates
// networks. Errors are Docker's.
func creatorOf(plugins []*network.Plugin, driver string) (*network.Plugin, Creator, error) {
	for _, p := range plugins {
		if p.Driver == nil || p.Driver.Name() != driver && p.Type != driver {
			continue
		}
		if c, ok := p.Driver.(Creator); ok {
			return p, c, nil
		}
		return nil, nil, network.Refuse(network.Forbidden, "only one instance of %q network is allowed", driver)
	}
	return nil, nil, noPlugin(driver)
}

// noPlugin says that a word is no driver.
func noPlugin(word string) error {
	return network.Refuse(network.NotFound, "plugin %q not found", word)
}
