package proc

import (
	"os"
	"strings"
)

// SysctlDir is where settings of the kernel are.
const SysctlDir = "/proc/sys/"

// Sysctl returns a setting of the calling thread's namespaces, by its path below
// [SysctlDir].
func Sysctl(path string) (string, error) {
	b, err := os.ReadFile(SysctlDir + path)
	return strings.TrimSpace(string(b)), err
}

// BridgeFilters are the settings by which bridged packets go through the IP hooks,
// of IPv4 and of IPv6.
var BridgeFilters = []string{"net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"}

// BridgesFiltered reports whether bridged packets go through the IP hooks. The rule set
// itself then drops what is between two ports of a network without icc. Isolated ports
// would be too much: what is published is rewritten within the bridge, goes from port to
// port, and would be dropped.
func BridgesFiltered() bool {
	for _, filter := range BridgeFilters {
		if have, err := Sysctl(filter); err != nil || have != "1" {
			return false
		}
	}
	return true
}

// FiltersBridges reports whether the kernel could pass what bridges pass from port to port
// through the rules for IP: whether br_netfilter is loaded.
func FiltersBridges() bool {
	_, err := Sysctl(BridgeFilters[0])
	return err == nil
}
