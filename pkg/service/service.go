// Package service decides what a service is: a name with an address of its network, behind
// which are tasks.
//
// A task is a container of the network that bears the service's name, as its own or as an
// alias. Nothing here starts tasks: a runtime does. The containers of the network are the
// service's clients, its own tasks among them. Each finds the service under its name, and
// its virtual address is rewritten to a task's in the client's own network namespace: see
// [Network.Balanced].
package service

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"dcni/pkg/names"
	"dcni/pkg/wire"
)

// MaxTasks is how many tasks a service may have: the map of its turns is one message of
// elements for each 250 of them, and so many bounds what a client has.
const MaxTasks = 256

// Modes of services, as `docker service create --endpoint-mode` calls them.
const (
	VIP   = "vip"   // the name is the virtual address
	DNSRR = "dnsrr" // the name is the addresses of the tasks that are ready
)

// Affinities of services.
const (
	NoAffinity     = "none"   // a client's connections go to the tasks by turns
	ClientAffinity = "client" // all of a client's connections go to one task
)

// A Service is one service of a network.
type Service struct {
	Name     string       `json:"name"`
	Network  string       `json:"network"`
	Mode     string       `json:"mode"`              // [VIP] or [DNSRR]
	VIPs     []netip.Addr `json:"vips,omitempty"`    // one of each family of the network; none for [DNSRR]
	Affinity string       `json:"affinity"`          // [NoAffinity] or [ClientAffinity]
	Health   string       `json:"health,omitempty"`  // how tasks are checked, see [ParseHealth]; "": they are ready at once
	Ports    []Port       `json:"ports,omitempty"`   // of the host that lead to its tasks
	Local    bool         `json:"local,omitzero"`    // its ports lead to tasks of the same node only
	Removing bool         `json:"removing,omitzero"` // it is on its way out: it has no names, and no rules
}

// vip returns its virtual address of a family, the zero Addr where it has none.
func (s Service) vip(six bool) netip.Addr {
	for _, a := range s.VIPs {
		if a.Is6() == six {
			return a
		}
	}
	return netip.Addr{}
}

// An Endpoint is a container on the network, as far as services are concerned.
type Endpoint struct {
	Owner     wire.Attachment `json:"owner"`
	Node      string          `json:"node,omitempty"`  // of a cluster, where the container is; "": this host
	Name      string          `json:"name,omitempty"`  // of the container, as the runtime calls it
	Names     []string        `json:"names,omitempty"` // see [names.Identity.Names]
	Addresses []netip.Addr    `json:"addresses"`
	Starting  bool            `json:"starting,omitzero"` // its ADD has not ended: it is no task yet
	Dead      bool            `json:"dead,omitzero"`     // its node is not alive
	Drained   bool            `json:"drained,omitzero"`  // it is to get no more connections
	Healthy   []string        `json:"healthy,omitempty"` // the services whose last check of it has succeeded
	Since     int64           `json:"since,omitempty"`   // seconds since 1970: when that became so; 0: see its record
}

// is reports whether two are the same container.
func (e Endpoint) is(o Endpoint) bool { return e.Owner == o.Owner && e.Node == o.Node }

// Bears reports whether the container is a task of a service of that name.
func (e Endpoint) Bears(service string) bool {
	is := func(name string) bool { return strings.EqualFold(name, service) }
	return is(e.Name) || slices.ContainsFunc(e.Names, is)
}

// State is how a task is.
type State string

// The states of tasks.
const (
	Ready     State = "ready"     // it gets connections
	Draining  State = "draining"  // it gets no more, and keeps those it has
	Unhealthy State = "unhealthy" // its check has not succeeded, or does not any more

	// Unreachable is one whose node does not say that it is alive. It may be cut off.
	Unreachable State = "unreachable"
)

// A Task is a container that is one of a service's.
type Task struct {
	Endpoint
	State State
}

// Address returns the task's first address of a family, the zero Addr where it has none.
func (t Task) Address(six bool) netip.Addr {
	for _, a := range t.Addresses {
		if a.Is6() == six {
			return a
		}
	}
	return netip.Addr{}
}

// A Network is all that is known of a network's services.
type Network struct {
	Name      string     `json:"name"`
	Services  []Service  `json:"services,omitempty"`
	Endpoints []Endpoint `json:"endpoints,omitempty"`
}

// A Picture is what a node of a cluster knows of an overlay network's services, and of their
// tasks on all nodes: as the cluster's store had it last.
type Picture struct {
	Node    string `json:"node"`             // this one
	Drained bool   `json:"drained,omitzero"` // its tasks are to get no more connections, also those that come
	Network
}

// Join returns the network with the node's own containers as their records have them, in place
// of what the store says of these: a record is there sooner, and also while the store is away.
// What the store alone knows is whether they are drained.
func (p Picture) Join(own []Endpoint) Network {
	n := p.Network
	n.Endpoints = nil
	drained := map[wire.Attachment]bool{}
	for _, e := range p.Endpoints {
		if e.Node == p.Node {
			drained[e.Owner] = e.Drained
		} else {
			n.Endpoints = append(n.Endpoints, e)
		}
	}
	for _, e := range own {
		e.Drained = p.Drained || drained[e.Owner]
		n.Endpoints = append(n.Endpoints, e)
	}
	return n
}

// DrainedAlone reports whether one of the node's own containers is drained, and not the node.
func (p Picture) DrainedAlone(a wire.Attachment) bool {
	return !p.Drained && slices.ContainsFunc(p.Endpoints, func(e Endpoint) bool {
		return e.Owner == a && e.Node == p.Node && e.Drained
	})
}

// Untold returns the node's own containers of which the store has not yet that they have
// started, or which checks have succeeded. What the store does not have at all is not among them.
func (p Picture) Untold(n Network) (list []Endpoint) {
	told := map[wire.Attachment]Endpoint{}
	for _, e := range p.Endpoints {
		if e.Node == p.Node {
			told[e.Owner] = e
		}
	}
	for _, e := range n.Endpoints {
		t, known := told[e.Owner]
		if e.Node == "" && known && (t.Starting || !slices.Equal(t.Healthy, e.Healthy)) {
			list = append(list, e)
		}
	}
	return list
}

// Tasks returns a service's tasks, in the order of their containers' IDs.
func (n Network) Tasks(s Service) (tasks []Task) {
	for _, e := range n.Endpoints {
		if !e.Starting && e.Bears(s.Name) {
			tasks = append(tasks, e.of(s))
		}
	}
	slices.SortFunc(tasks, inOrder)
	return tasks
}

// of returns the container as a task of a service.
func (e Endpoint) of(s Service) Task {
	switch {
	case e.Dead:
		return Task{e, Unreachable}
	case e.Drained:
		return Task{e, Draining}
	case s.Health != "" && !slices.Contains(e.Healthy, s.Name):
		return Task{e, Unhealthy}
	}
	return Task{e, Ready}
}

func inOrder(a, b Task) int {
	return cmp.Or(strings.Compare(a.Owner.String(), b.Owner.String()), strings.Compare(a.Node, b.Node))
}

// tasks returns the tasks of each service, as [Network.Tasks] does, with one look at each
// container.
func (n Network) tasks() [][]Task {
	all := make([][]Task, len(n.Services))
	named := make(map[string]int, len(n.Services))
	for i, s := range n.Services {
		named[strings.ToLower(s.Name)] = i
	}
	for _, e := range n.inOrder() {
		if e.Starting {
			continue
		}
		var of []int
		for _, name := range append([]string{e.Name}, e.Names...) {
			if i, is := named[strings.ToLower(name)]; is && !slices.Contains(of, i) {
				of = append(of, i)
				all[i] = append(all[i], e.of(n.Services[i]))
			}
		}
	}
	return all
}

// inOrder returns the containers in the order of tasks.
func (n Network) inOrder() []Endpoint {
	type keyed struct {
		key string
		at  int
	}
	order := make([]keyed, len(n.Endpoints))
	for i, e := range n.Endpoints {
		order[i] = keyed{e.Owner.String() + "\x00" + e.Node, i}
	}
	slices.SortFunc(order, func(a, b keyed) int { return strings.Compare(a.key, b.key) })
	list := make([]Endpoint, len(order))
	for i, o := range order {
		list[i] = n.Endpoints[o.at]
	}
	return list
}

// addresses returns the addresses of a family of tasks in one of the states.
func addresses(tasks []Task, six bool, states ...State) (list []netip.Addr) {
	for _, t := range tasks {
		if a := t.Address(six); a.IsValid() && slices.Contains(states, t.State) && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// Hosts returns the names that services have on the network, in place of those of
// containers: the service's name, and tasks.NAME for the addresses of all its tasks.
func (n Network) Hosts() (hosts []names.HostEntry) {
	all := n.tasks()
	for i, s := range n.Services {
		if s.Removing {
			continue
		}
		tasks := all[i]
		own, each := slices.Clone(s.VIPs), []netip.Addr(nil)
		for _, six := range []bool{false, true} {
			if s.Mode == DNSRR {
				own = append(own, addresses(tasks, six, Ready)...)
			}
			each = append(each, addresses(tasks, six, Ready, Draining, Unhealthy)...)
		}
		hosts = append(hosts, names.HostEntry{Name: s.Name, Addresses: own}, names.HostEntry{Name: "tasks." + s.Name, Addresses: each})
	}
	return hosts
}

// turned returns tasks beginning with another one for each client: many clients that make
// one connection each reach all tasks.
func turned(weight uint64, tasks []netip.Addr) []netip.Addr {
	if len(tasks) < 2 {
		return tasks
	}
	first := int(weight % uint64(len(tasks)))
	return slices.Concat(tasks[first:], tasks[:first])
}

// chosen returns the one task of a client with affinity: the one of the greatest weight for
// it (rendezvous hashing). When another task comes or goes, only clients move that it has the
// greatest weight for.
func chosen(client wire.Attachment, tasks []netip.Addr) []netip.Addr {
	if len(tasks) < 2 {
		return tasks
	}
	return []netip.Addr{slices.MaxFunc(tasks, func(a, b netip.Addr) int {
		wa, wb := weight(client.String(), a.String()), weight(client.String(), b.String())
		switch {
		case wa < wb:
			return -1
		case wa > wb:
			return 1
		}
		return a.Compare(b)
	})}
}

func weight(client, task string) uint64 {
	sum := sha256.Sum256([]byte(client + "\x00" + task))
	return binary.BigEndian.Uint64(sum[:])
}
