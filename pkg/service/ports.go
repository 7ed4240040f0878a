package service

import (
	"fmt"
	"net/netip"
	"slices"

	"dcni/pkg/firewall"
)

// A Port is a port of the host that leads to a service's tasks.
type Port struct {
	Published uint16 `json:"published"` // on the host
	Target    uint16 `json:"target"`    // of each task
	Protocol  string `json:"protocol"`  // tcp, udp or sctp
}

// String returns the port as `docker service ls` shows it: "*:8080->80/tcp".
func (p Port) String() string { return fmt.Sprintf("*:%d->%d/%s", p.Published, p.Target, p.Protocol) }

// Publishes reports whether a service of the network has ports of the host.
func (n Network) Publishes() bool {
	return slices.ContainsFunc(n.Services, func(s Service) bool { return len(s.Ports) > 0 })
}

// Ingress returns what the network's services have at the host's ports.
func (n Network) Ingress() *firewall.Ingress {
	in := &firewall.Ingress{Network: n.Name}
	for _, s := range n.Services {
		if !s.Removing {
			in.Claims = append(in.Claims, s.Claims()...)
			in.Turns = append(in.Turns, n.turns(s)...)
		}
	}
	return in
}

// Claims returns what takes the service's ports, each by itself: another program may have one.
func (s Service) Claims() (list []*firewall.Endpoint) {
	for _, p := range s.Ports {
		list = append(list, &firewall.Endpoint{
			Owner: firewall.OfService(s.Network, s.Name), Addresses: s.VIPs,
			Ports: []firewall.Port{{HostPort: p.Published, Protocol: p.Protocol, ContainerPort: p.Target}},
		})
	}
	return list
}

// near returns the addresses of tasks that are ready: those of this node, or where it has none, those
// of others, unless local ones only are wanted.
func near(tasks []Task, six, local bool) []netip.Addr {
	here := slices.DeleteFunc(slices.Clone(tasks), func(t Task) bool { return t.Node != "" })
	if list := addresses(here, six, Ready); len(list) > 0 || local {
		return list
	}
	return addresses(tasks, six, Ready)
}

// turns returns where the service's ports lead, one for each port and family.
func (n Network) turns(s Service) (list []firewall.Turn) {
	if len(s.Ports) == 0 {
		return nil
	}
	tasks := n.Tasks(s)
	for _, six := range []bool{false, true} {
		if !s.vip(six).IsValid() {
			continue
		}
		for _, p := range s.Ports {
			turn := firewall.Turn{
				Owner: firewall.Comment(firewall.OfService(n.Name, s.Name)), V6: six, Protocol: p.Protocol, Port: p.Published,
				Sticky: s.Affinity == ClientAffinity,
			}
			for _, a := range near(tasks, six, s.Local) {
				turn.Tasks = append(turn.Tasks, netip.AddrPortFrom(a, p.Target))
			}
			list = append(list, turn)
		}
	}
	return list
}

// Kept returns, for each port of the host, the tasks whose connections go on: those that are ready or
// draining.
func (n Network) Kept() map[firewall.HostPort][]netip.Addr {
	kept := map[firewall.HostPort][]netip.Addr{}
	for _, s := range n.Services {
		turns := n.turns(s)
		if len(turns) == 0 {
			continue
		}
		tasks := n.Tasks(s)
		for _, t := range turns {
			if kept[t.HostPort()] = addresses(tasks, t.V6, Ready, Draining); s.Removing {
				kept[t.HostPort()] = nil
			}
		}
	}
	return kept
}

// Reached returns the tasks that each virtual address and port of a service leads to where rules don't
// lead there, as from ::1.
func (n Network) Reached() map[netip.AddrPort][]netip.AddrPort {
	reached := map[netip.AddrPort][]netip.AddrPort{}
	for _, s := range n.Services {
		for _, t := range n.turns(s) {
			for _, p := range s.Ports {
				if !s.Removing && p.Published == t.Port && p.Protocol == t.Protocol {
					reached[netip.AddrPortFrom(s.vip(t.V6), p.Target)] = t.Tasks
				}
			}
		}
	}
	return reached
}
