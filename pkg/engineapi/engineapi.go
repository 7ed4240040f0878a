// Package engineapi serves the part of Docker's Engine API that is about networks: /networks,
// what /containers says of them, /events, /info, /version and /_ping, in the versions
// [MinVersion] to [MaxVersion] (moby, api/docs). Docker's command line, its libraries, Ansible
// and Terraform speak it.
//
// The package reads requests and writes answers. What is asked for, a [Backend] does.
package engineapi

import (
	"net/netip"
	"time"

	"dcni/pkg/container"
	"dcni/pkg/network/catalog"
)

// The versions of the API that are served: that of Docker 20.10, and the newest of Docker's
// Go library v0.6.3.
const (
	MinVersion = "1.41"
	MaxVersion = "1.57"
)

// A Backend does what clients ask for. Its methods are called by many goroutines at once. An
// error's class (network.ClassOf) becomes the status of the answer, its text the message.
type Backend interface {
	// Networks returns all networks of the host.
	Networks() ([]Network, error)
	// Create creates a network and returns its ID.
	Create(c Create) (id string, err error)
	// Remove removes the network that a word means: by ID, name or beginning of the ID.
	Remove(word string) error
	// Prune removes those networks that pass and that no container is on, and returns their
	// names.
	Prune(passes func(n *catalog.Conflist, created time.Time) bool) (removed []string, err error)
	// Connect attaches the running container that a word means to a network.
	Connect(n container.Network, word string) error
	// Disconnect detaches the container that a word means from the network that one means.
	Disconnect(network, word string, force bool) error
	// Containers returns the containers, of whichever runtime, the newest first.
	Containers() ([]Container, error)
	// Host describes the host.
	Host() (Host, error)
	// Watch returns a function that tells what has happened since it was called last; at its
	// first call, nothing.
	Watch() func() ([]Event, error)
}

// A Create is a network to be created.
type Create struct {
	*catalog.Options
	Scope      string // "": what the driver has
	Ingress    bool
	ConfigOnly bool
	ConfigFrom string // "": no configuration network
}

// A Network is one of the host's.
type Network struct {
	*catalog.Conflist
	// InUse reports whether a container is attached.
	InUse func() bool
	// Describe describes the network; with detail also its containers and addresses in use.
	Describe func(detail bool) (*catalog.Inspection, error)
}

// A Container is one that is attached to networks, or that dnet runs.
type Container struct {
	ID       string
	Names    []string // without a slash in front; the first is its name, and it has one
	Hostname string
	Command  []string // nil: not known
	Labels   map[string]string
	State    string // created, running or exited
	Created  time.Time
	Started  time.Time
	Finished time.Time // zero: it runs
	ExitCode int
	PID      int      // of its first process; 0: not known
	NetNS    string   // path of its network namespace; "": it does not run
	Files    string   // directory of its resolv.conf, hosts and hostname; "": the runtime's
	Output   string   // file that has what it printed; "": there is none
	User     string   // as asked for; "": root
	Exposed  []string // ports, "80/tcp"
	Env      []string // as asked for
	Workdir  string
	// AutoRemove says that it is forgotten when it ends.
	AutoRemove bool
	Mode       string // Docker's network mode: a network, host, none, or container:ID
	Endpoints  []Endpoint
	// PortBindings are the ports as they were asked for, by container port, "80/tcp". nil: that is
	// not known, and those that were published count.
	PortBindings map[string][]catalog.InspectedPort
	// PublishAll says that the exposed ports were to be published besides.
	PublishAll bool
}

// An Endpoint is a container's attachment to a network.
type Endpoint struct {
	catalog.ShownEndpoint
	IPv4, IPv6 netip.Addr        // that were asked for
	Aliases    []string          // that were asked for
	Links      []string          // that were asked for, NAME:ALIAS
	DriverOpts map[string]string // that were asked for
	DNSNames   []string          // by which others find it
	GwPriority int
}

// A Host is what is told of the host.
type Host struct {
	Name     string // host name
	Kernel   string // release of the kernel
	System   string // the distribution's name
	Machine  string // the kernel's word for the architecture, x86_64
	Memory   int64  // bytes
	Drivers  []string
	Forwards bool   // IPv4 packets
	Firewall string // what carries the rules out: nftables, or nftables+iptables
	StateDir string // where dcni keeps what outlives a reboot
}

// An Event is one thing that happened, with Docker's names.
type Event struct {
	Type   string // network, or daemon
	Action string // create, destroy, connect, disconnect, prune
	Actor  struct {
		ID         string
		Attributes map[string]string
	}
	Scope    string `json:"scope"`
	Time     int64  `json:"time"`     // seconds since 1970
	TimeNano int64  `json:"timeNano"` // nanoseconds since 1970
}
