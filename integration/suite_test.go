package integration

import (
	"maps"
	"os"
	"path/filepath"
)

// A suite is a set of plugins to run a script against. Its conf are fragments
// of configuration that the plugins' own scripts use in place of a type:
//
//	{"cniVersion": "1.0.0", "name": "web", "plugins": [
//		{$BRIDGE, "bridge": "br0", "ipam": {$IPAM, "subnet": "10.1.0.0/24"}}$PORTS]}
type suite struct {
	name string
	bins []string          // of ours that must be built
	conf map[string]string // variable to fragment

	noBridgeNetfilter bool // bridged packets don't pass the host's IP rules
	namesInBridge     bool // dbridge sees to names, and no ddns behind it
}

var reference = suite{
	name: "reference",
	conf: map[string]string{
		"BRIDGE": `"type": "bridge", "isDefaultGateway": true, "ipMasq": true, "capabilities": {"ips": true, "mac": true}`,
		"IPAM":   `"type": "host-local"`,
		"PORTS":  `, {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}}`,
	},
}

var dcni = suite{
	name: "dcni",
	bins: []string{"dbridge", "dmacvlan", "dipvlan", "doverlay", "dipam", "dnone", "dhost", "dcontainer", "ddns", "dnetd", "dnet", "dclusterd"},
	conf: map[string]string{
		"BRIDGE": `"type": "dbridge", "capabilities": {"portMappings": true, "ips": true, "mac": true, "aliases": true}`,
		"IPAM":   `"type": "dipam"`,
		"PORTS":  ``,

		"FIREWALL": "nftables", // which carries out the rules, where a script says that
	},
}

// withoutBridgeNetfilter is dcni, in hosts with another setting.
var withoutBridgeNetfilter = func() suite { s := dcni; s.noBridgeNetfilter = true; return s }()

// namesInBridge is dcni, with configurations of another form.
var namesInBridge = func() suite { s := dcni; s.namesInBridge = true; return s }()

// byIPTables is dcni, whose networks' rules are iptables'.
var byIPTables = func() suite {
	s := dcni
	s.name, s.conf = "iptables", maps.Clone(dcni.conf)
	s.conf["FIREWALL"] = "iptables"
	s.conf["BRIDGE"] = `"firewall": "iptables", ` + dcni.conf["BRIDGE"]
	return s
}()

// missing returns the first binary of the suite that is not built, or "".
func (s suite) missing() string {
	for _, name := range s.bins {
		if _, err := os.Stat(filepath.Join(binaries, name)); err != nil {
			return name
		}
	}
	return ""
}
