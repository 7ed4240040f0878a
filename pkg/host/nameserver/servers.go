package nameserver

import (
	"net/netip"

	"dcni/pkg/names"
	"dcni/pkg/records/disk"
)

// Nameservers lists the servers of /etc/resolv.conf.
func Nameservers() []netip.Addr {
	text, err := disk.ReadLimited("/etc/resolv.conf", 0, names.MaxResolvConf)
	if err != nil {
		return nil
	}
	return names.ParseResolvConf(string(text)).Addresses()
}
