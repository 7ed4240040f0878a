package network

import "fmt"

// A driver is one of Docker's network drivers, and the plugin that it is here.
type driver struct {
	name   string // Docker's
	plugin string // the CNI type
	single bool   // every host has one network of it, and no second
	// draft makes a network of it; nil where dnet can't create one.
	draft func(*Options) (*Draft, error)
}

// drivers are Docker's. The table is a function, for its functions refer to it.
func drivers() []driver {
	return []driver{
		{name: "bridge", plugin: "dbridge", draft: draftBridge},
		{name: "host", plugin: "dhost", single: true},
		{name: "null", plugin: "dnone", single: true},
		{name: "macvlan", plugin: "dmacvlan"},
		{name: "ipvlan", plugin: "dipvlan"},
		{name: "overlay", plugin: "doverlay"},
	}
}

// DriverOf returns Docker's name for what a plugin makes: dbridge is bridge.
// ours is false for the plugins of other suites, which keep their type.
func DriverOf(plugin string) (name string, ours bool) {
	for _, d := range drivers() {
		if d.plugin == plugin {
			return d.name, true
		}
	}
	return plugin, false
}

// driverNamed returns the driver that a network is to be created with. Errors
// are Docker's.
func driverNamed(name string) (driver, error) {
	for _, d := range drivers() {
		switch {
		case d.name != name:
		case d.single:
			return driver{}, fmt.Errorf("only one instance of %q network is allowed", name)
		case d.draft != nil:
			return d, nil
		}
	}
	return driver{}, fmt.Errorf("plugin %q not found", name)
}
