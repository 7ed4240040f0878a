package container

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"dcni/pkg/firewall"
)

// A Publish is a parsed -p, or one port of it: a -p with a host port for each
// container port becomes one Publish per port. Where a range of host ports is for one
// container port, the first free port up to Last is taken.
type Publish struct {
	firewall.Port
	Last uint16 // the range's last host port; HostPort if there is no range
}

// ParsePublish reads one -p in Docker's forms:
//
//	[[HOST-IP:][HOST-PORT[-LAST]]:]PORT[-LAST][/tcp|udp|sctp]
//	target=PORT[,published=HOST-PORT][,protocol=tcp|udp|sctp]
//
// The errors are Docker's.
func ParsePublish(s string) ([]Publish, error) {
	spec, err := shortForm(s)
	if err != nil {
		return nil, err
	}
	rest, proto, given := strings.Cut(spec, "/")
	if proto = strings.ToLower(proto); !given || proto == "" {
		proto = "tcp"
	}
	rest, port := cutLast(rest)
	ip, hostPort := cutLast(rest)
	if port == "" {
		return nil, fmt.Errorf("no port specified: %s<empty>", s)
	}
	host, err := hostIP(ip)
	if err != nil {
		return nil, err
	}
	inner, ok := parseRange(port)
	if !ok {
		return nil, fmt.Errorf("invalid containerPort: %s", port)
	}
	outer := span{}
	if hostPort != "" {
		if outer, ok = parseRange(hostPort); !ok && hostPort != "0" {
			return nil, fmt.Errorf("invalid hostPort: %s", hostPort)
		}
	}
	if !slices.Contains(firewall.Protocols(), proto) {
		return nil, fmt.Errorf("invalid proto: %s", proto)
	}
	if outer.first != 0 && outer.size() != inner.size() && inner.size() != 1 {
		return nil, fmt.Errorf("invalid ranges specified for container and host Ports: %s and %s", port, hostPort)
	}
	return publish(firewall.Port{HostIP: host, Protocol: proto}, outer, inner), nil
}

// publish pairs the ports of two ranges.
func publish(p firewall.Port, outer, inner span) []Publish {
	if inner.size() == 1 {
		p.HostPort, p.ContainerPort = outer.first, inner.first
		return []Publish{{Port: p, Last: outer.last}}
	}
	list := make([]Publish, inner.size())
	for i := range list {
		p.ContainerPort = inner.first + uint16(i)
		if outer.first != 0 {
			p.HostPort = outer.first + uint16(i)
		}
		list[i] = Publish{Port: p, Last: p.HostPort}
	}
	return list
}

// shortForm turns the form of --publish with keys into the one with colons.
func shortForm(s string) (string, error) {
	if !strings.Contains(s, "=") {
		return s, nil
	}
	value := map[string]string{"protocol": "tcp"}
	for field := range strings.SplitSeq(s, ",") {
		k, v, ok := strings.Cut(field, "=")
		switch {
		case !ok:
			return "", fmt.Errorf("invalid publish opts format (should be name=value but got '%s')", field)
		case k != "target" && k != "published" && k != "protocol" && k != "mode":
			return "", fmt.Errorf("invalid field key %s", k)
		}
		value[k] = v
	}
	return value["published"] + ":" + value["target"] + "/" + value["protocol"], nil
}

// cutLast cuts a text at its last colon.
func cutLast(s string) (rest, last string) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", s
	}
	return s[:i], s[i+1:]
}

// A span is a range of ports; zero is none.
type span struct{ first, last uint16 }

func (s span) size() int { return int(s.last) - int(s.first) + 1 }

// parseRange reads "80" or "80-90". Port 0 is none.
func parseRange(s string) (span, bool) {
	from, to, ranged := strings.Cut(s, "-")
	if !ranged {
		to = from
	}
	first, err := strconv.ParseUint(from, 10, 16)
	if err != nil || first == 0 {
		return span{}, false
	}
	last, err := strconv.ParseUint(to, 10, 16)
	if err != nil || last < first {
		return span{}, false
	}
	return span{uint16(first), uint16(last)}, true
}

// hostIP reads the host's address; "" is any. Docker takes IPv6 with brackets
// and without.
func hostIP(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	bare := s
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		bare = s[1 : len(s)-1]
	}
	ip, err := netip.ParseAddr(bare)
	if err != nil || ip.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("invalid IP address: %s", s)
	}
	return ip, nil
}

// spread makes each range of host ports begin at a port that no other entry has.
// Entries without a range have their port before the others choose.
func spread(list []Publish) {
	for i := range list {
		if list[i].Last == list[i].HostPort {
			continue
		}
		free := func(p Publish) bool {
			for j, o := range list {
				if j != i && (j < i || o.Last == o.HostPort) && p.clashes(o) {
					return false
				}
			}
			return true
		}
		if p, ok := list[i].from(list[i].HostPort, free); ok {
			list[i] = p
		}
	}
}

// Next moves on an entry with a range of host ports to the next port that no other
// entry has, and reports whether there was one. The entry is the one whose port was
// found taken.
func Next(list []Publish, taken uint16) bool {
	for i := range list {
		if list[i].HostPort != taken || taken == list[i].Last {
			continue
		}
		free := func(p Publish) bool {
			return !slices.ContainsFunc(list, func(o Publish) bool { return o != list[i] && p.clashes(o) })
		}
		if p, ok := list[i].from(taken+1, free); ok {
			list[i] = p
			return true
		}
	}
	return false
}

// from returns the entry with the first free port of its range, beginning at a port.
func (p Publish) from(port uint16, free func(Publish) bool) (Publish, bool) {
	for ; p.HostPort != 0 && port <= p.Last && port != 0; port++ {
		if p.HostPort = port; free(p) {
			return p, true
		}
	}
	return p, false
}

// clashes reports whether two entries use the same host port.
func (p Publish) clashes(o Publish) bool {
	return p.HostPort == o.HostPort && p.Protocol == o.Protocol && p.Overlaps(o.Port)
}

// Ports returns the ports with the host ports to try now.
func Ports(list []Publish) []firewall.Port {
	ports := make([]firewall.Port, len(list))
	for i, p := range list {
		ports[i] = p.Port
	}
	return ports
}

// takenForm finds the host port in what dbridge says of one that is taken.
var takenForm = lazily(`:(\d+)(/[a-z]+: address already in use| failed: port is already allocated)`)

// Taken returns the host port that an error says is taken, or 0 for another error.
func Taken(err error) uint16 {
	m := takenForm().FindStringSubmatch(err.Error())
	if m == nil {
		return 0
	}
	port, _ := strconv.ParseUint(m[1], 10, 16) // more than a port is none
	return uint16(port)
}
