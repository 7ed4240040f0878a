package network

// A driver is one of Docker's network drivers, and the plugin that it is here.
type driver struct {
	name   string // Docker's
	plugin string // the CNI type
}

// drivers are those that dcni has plugins for.
var drivers = []driver{
	{"bridge", "dbridge"},
	{"host", "dhost"},
	{"null", "dnone"},
	{"macvlan", "dmacvlan"},
	{"ipvlan", "dipvlan"},
	{"overlay", "doverlay"},
}

// DriverOf returns Docker's name for what a plugin makes: dbridge is bridge.
// ours is false for the plugins of other suites, which keep their type.
func DriverOf(plugin string) (name string, ours bool) {
	for _, d := range drivers {
		if d.plugin == plugin {
			return d.name, true
		}
	}
	return plugin, false
}
