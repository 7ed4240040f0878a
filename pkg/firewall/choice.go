package firewall

import "fmt"

// A Choice is ports of an endpoint that have no host port yet and are alike: what is free for
// one of them is free for each. Ports that differ in their host address only are a group, and
// get the same one.
type Choice struct {
	endpoint *Endpoint
	groups   [][]int // that have none yet, by index of their ports
	taken    taken
}

// Choices returns the endpoint's ports that have no host port yet, in the order of the first
// of each.
func (e *Endpoint) Choices() (list []*Choice) {
	groups := e.unchosen()
	if len(groups) == 0 {
		return nil
	}
	all := make(taken, len(e.Ports))
	for _, p := range e.Ports {
		all.add(p)
	}
	alike := map[string]*Choice{}
	for _, group := range groups {
		kind := e.Ports[group[0]].Protocol
		for _, i := range group {
			kind += fmt.Sprint(" ", e.Ports[i].HostIP)
		}
		if alike[kind] == nil {
			alike[kind] = &Choice{endpoint: e, taken: all}
			list = append(list, alike[kind])
		}
		alike[kind].groups = append(alike[kind].groups, group)
	}
	return list
}

// unchosen returns the groups of ports that have no host port.
func (e *Endpoint) unchosen() (groups [][]int) {
	type inside struct {
		protocol string
		port     uint16
	}
	same := map[inside][]int{} // the groups, by index, that have a port of the container
	for i, p := range e.Ports {
		if _, binds := e.bound(p); p.HostPort != 0 || !binds {
			continue
		}
		in, joined := inside{p.Protocol, p.ContainerPort}, false
		for _, g := range same[in] {
			if joined = e.apart(groups[g], p); joined {
				groups[g] = append(groups[g], i)
				break
			}
		}
		if !joined {
			same[in] = append(same[in], len(groups))
			groups = append(groups, []int{i})
		}
	}
	return groups
}

// apart reports whether p has another host address than all of a group.
func (e *Endpoint) apart(group []int, p Port) bool {
	for _, i := range group {
		if p.Overlaps(e.Ports[i]) {
			return false
		}
	}
	return true
}

// Left is how many host ports are still to be chosen.
func (c *Choice) Left() int { return len(c.groups) }

// Propose returns an endpoint with the ports of a group for each of some host ports, in their
// order. Those that the endpoint publishes itself are left out.
func (c *Choice) Propose(hostPorts []uint16) *Endpoint {
	e := c.endpoint
	proposal := &Endpoint{Owner: e.Owner, Bridge: e.Bridge, Addresses: e.Addresses, Routed: e.Routed, NotGateway: e.NotGateway}
next:
	for n, hostPort := range hostPorts {
		group := c.groups[min(n, len(c.groups)-1)]
		at := len(proposal.Ports)
		for _, i := range group {
			p := e.Ports[i]
			p.HostPort = hostPort
			if c.taken.overlaps(p) {
				proposal.Ports = proposal.Ports[:at]
				continue next
			}
			proposal.Ports = append(proposal.Ports, p)
		}
	}
	return proposal
}

// Take gives a host port that was proposed to the next group.
func (c *Choice) Take(hostPort uint16) {
	for _, i := range c.groups[0] {
		p := &c.endpoint.Ports[i]
		p.HostPort = hostPort
		c.taken.add(*p)
	}
	c.groups = c.groups[1:]
}

// taken has the ports that an endpoint publishes, by protocol and host port.
type taken map[portKey][]Port

type portKey struct {
	protocol string
	port     uint16
}

// add notes a port that has a host port.
func (t taken) add(p Port) {
	if k := (portKey{p.Protocol, p.HostPort}); p.HostPort != 0 {
		t[k] = append(t[k], p)
	}
}

// overlaps reports whether one of them takes packets that are for p.
func (t taken) overlaps(p Port) bool {
	for _, q := range t[portKey{p.Protocol, p.HostPort}] {
		if p.Overlaps(q) {
			return true
		}
	}
	return false
}
