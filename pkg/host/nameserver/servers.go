package nameserver

import (
	"net/netip"
	"os"

	"dcni/pkg/names"
)

// Nameservers lists the servers of /etc/resolv.conf.
func Nameservers() []netip.Addr {
	text, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return nil
	}
	return names.ParseResolvConf(string(text)).Addresses()
}
