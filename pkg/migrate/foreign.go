package migrate

import (
	"encoding/json"
	"errors"
	"slices"

	"dcni/pkg/network/catalog"
)

// ours are words of `dnet create -d` that are not CNI types there.
var ours = []string{"bridge", "macvlan", "ipvlan", "overlay", "host", "null"}

// errMore says that a network has what `dnet create` does not write.
var errMore = errors.New("has more plugins than dnet create writes")

// ofForeign says what is in the configuration of another suite's plugin, or of one of ours
// with another suite's IPAM plugin.
func (n *Network) ofForeign(c *catalog.Conflist) error {
	var conf map[string]json.RawMessage
	if err := json.Unmarshal(c.Plugins[0], &conf); err != nil {
		return err
	}
	var section map[string]json.RawMessage
	if conf["ipam"] != nil {
		if err := json.Unmarshal(conf["ipam"], &section); err != nil {
			return err
		}
	}
	n.IPAMDriver = "null"
	if section != nil {
		_ = json.Unmarshal(section["type"], &n.IPAMDriver) // without a type the plugin refuses it
		n.IPAMOptions = catalog.OptionsOf(section, "type")
	}
	if c.Main != nil {
		return nil
	}
	if n.Driver = c.Type; slices.Contains(ours, c.Type) {
		n.Driver = catalog.ForeignPrefix + c.Type
	}
	n.DriverOptions = catalog.ForeignOptions(conf)
	if capabilities := catalog.OptionsOf(conf)["capabilities"]; capabilities != "" && capabilities != `{"ips":true}` {
		n.DriverOptions["capabilities"] = capabilities
	}
	if internal := catalog.OptionsOf(conf)["internal"]; internal != "" {
		n.DriverOptions["internal"] = internal
	}
	if n.IPAMDriver == "dipam" {
		return n.ofDipam(conf["ipam"])
	}
	return nil
}

// ofDipam says what is in a section of dipam's.
func (n *Network) ofDipam(section json.RawMessage) error {
	n.IPAMDriver = "default"
	for _, key := range []string{"subnet", "ipRange", "gateway", "auxAddresses", "subnets", "routes"} {
		delete(n.IPAMOptions, key)
	}
	subnets, err := catalog.DipamSubnets(section)
	if err != nil {
		return err
	}
	return n.SetSubnets(subnets)
}
