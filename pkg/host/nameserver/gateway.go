package nameserver

import (
	"errors"
	"net/netip"
	"path/filepath"

	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/dnssock"
	"dcni/pkg/host/hostports"
	"dcni/pkg/names"
	"dcni/pkg/netns"
	"dcni/pkg/wire"
)

// OpenAtGateway opens the sockets at a gateway address on a bridge of the host. An error about a port that is
// taken says who has it.
func OpenAtGateway(bridge string, a netip.Addr) (dnssock.NameServer, error) {
	cookie, err := netns.CookieAt(netns.Own)
	if err != nil {
		return dnssock.NameServer{}, err
	}
	s, err := dnssock.OpenAtGateway(cookie, bridge, a)
	if errors.Is(err, unix.EADDRINUSE) {
		if err = GatewayTaken(a); err == nil {
			err = taken(a, "a container that publishes it, or a socket of another program's that no process has open, has it")
		}
	}
	return s, err
}

// GatewayTaken returns an error that says which program listens at port 53 of a gateway address, or of
// all addresses: dnetd can't. It is nil where none does but dnetd.
func GatewayTaken(a netip.Addr) error {
	for _, proto := range []string{"udp", "tcp"} {
		list, err := hostports.Listeners(proto)
		if err != nil {
			return err
		}
		port := firewall.Port{HostIP: a, HostPort: names.DNSPort, Protocol: proto}
		for _, l := range list {
			if l.Port != names.DNSPort || !l.Takes(port, a.Is6()) {
				continue
			}
			who := "another program"
			if p := l.Holder(); p != 0 {
				if filepath.Base(p.Executable()) == "dnetd" {
					continue
				}
				who = "process " + p.String()
			}
			return taken(a, who+" listens on "+netip.AddrPortFrom(l.Addr, l.Port).String()+"/"+proto+
				"; have it listen on its own addresses only, and not on those of bridges")
		}
	}
	return nil
}

func taken(a netip.Addr, why string) error {
	return wire.Errorf(wire.CodePortTaken, "names.gateway: port %d of %s can't be had: %s", names.DNSPort, a, why)
}
