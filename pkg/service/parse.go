package service

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"dcni/pkg/firewall"
	"dcni/pkg/names"
)

// ArgService is a key of CNI_ARGS: the services that the container is a task of, a list
// with commas. Each is an alias of the container; a service that the network does not have
// is an error.
const ArgService = "DNET_SERVICE"

// A Health says how a task is checked: by a TCP connection to a port, or by an HTTP
// request that is answered with a status from 200 to 399.
type Health struct {
	HTTP bool
	Port uint16
	Path string // of HTTP, with its slash
}

// ParseHealth reads tcp:PORT or http:PORT/PATH.
func ParseHealth(s string) (h Health, err error) {
	bad := fmt.Errorf("health %q: must be tcp:PORT or http:PORT/PATH, as tcp:5432 or http:8080/healthz", s)
	scheme, rest, _ := strings.Cut(s, ":")
	port := rest
	switch scheme {
	case "tcp":
	case "http":
		i := strings.IndexByte(rest, '/')
		if i < 0 || strings.ContainsFunc(rest[i:], func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return h, bad
		}
		port, h.Path, h.HTTP = rest[:i], rest[i:], true
	default:
		return h, bad
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return h, bad
	}
	h.Port = uint16(n)
	return h, nil
}

// A Wish is what `dnet service create` is told.
type Wish struct {
	Name, Mode, Affinity, Health string
	VIPs                         []string
	Ports                        []Port
	Local                        bool
}

// Parse checks the words of a wish, and returns the service without its network and with the
// virtual addresses that are asked for.
func (w Wish) Parse() (s Service, err error) {
	s = Service{Name: strings.ToLower(w.Name), Mode: w.Mode, Affinity: w.Affinity, Health: w.Health, Ports: w.Ports, Local: w.Local}
	const longest = 63 // letters of a label, RFC 1035
	switch {
	case names.Check("name", s.Name) != nil || strings.Contains(s.Name, ".") || len(s.Name) > longest:
		return s, fmt.Errorf("service name %q: must be 1 to %d letters, digits, - and _, for it is a label of a domain name", w.Name, longest)
	case s.Mode != VIP && s.Mode != DNSRR:
		return s, fmt.Errorf("mode %q: must be %s or %s", s.Mode, VIP, DNSRR)
	case s.Affinity != NoAffinity && s.Affinity != ClientAffinity:
		return s, fmt.Errorf("affinity %q: must be %s or %s", s.Affinity, NoAffinity, ClientAffinity)
	case s.Mode == DNSRR && s.Affinity != NoAffinity:
		return s, fmt.Errorf("affinity %q: needs mode %s: with %s a client chooses among addresses by itself", s.Affinity, VIP, DNSRR)
	case s.Mode == DNSRR && len(s.Ports) > 0: // Docker's words
		return s, fmt.Errorf("port published with ingress mode can't be used with %s mode", DNSRR)
	case s.Local && len(s.Ports) == 0:
		return s, errors.New("--local: needs a published port, -p PUBLISHED:TARGET")
	case s.Mode == DNSRR && len(w.VIPs) > 0:
		return s, fmt.Errorf("vip %s: needs mode %s: with %s the name has the tasks' addresses", w.VIPs[0], VIP, DNSRR)
	}
	for _, p := range s.Ports {
		if p.Published == 0 || p.Target == 0 || !slices.Contains(firewall.Protocols(), p.Protocol) {
			return s, fmt.Errorf("port %s: must be two ports, 1 to 65535, and tcp, udp or sctp", p)
		}
	}
	if s.Health != "" {
		if _, err := ParseHealth(s.Health); err != nil {
			return s, err
		}
	}
	for _, text := range w.VIPs {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" || a.Is4In6() {
			return s, fmt.Errorf("vip %q: must be an IP address of the network", text)
		}
		if slices.ContainsFunc(s.VIPs, func(o netip.Addr) bool { return o.Is6() == a.Is6() }) {
			return s, fmt.Errorf("vip %s: is the second of its family, a service has one of each", a)
		}
		s.VIPs = append(s.VIPs, a)
	}
	return s, nil
}

// NotFoundError says that a network has no such service.
type NotFoundError struct{ Service, Network string }

func (e *NotFoundError) Error() string {
	if e.Network == "" {
		return "no such service: " + e.Service
	}
	return fmt.Sprintf("no such service: %s on network %s", e.Service, e.Network)
}
