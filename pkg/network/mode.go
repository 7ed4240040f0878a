package network

import (
	"net/netip"
	"strings"

	"dcni/pkg/wire"
)

// A Plugin is what a CNI plugin of ours is: which kind, and how it reads a
// configuration. Package mode has the table of them.
type Plugin struct {
	Type string // as configurations name it
	Kind Kind
	// Parse reads a configuration; its errors carry their CNI codes.
	Parse func(conf Conf) (Mode, error)
	// Roots are the objects that DEL removes when the record does not say all.
	// Of the endpoint it knows who, and where an ADD had begun, the sandbox.
	Roots func(e Endpoint) []wire.Object
	// Validate tells why a plugin of kind NoInterface must not work on a sandbox,
	// or nil. Other kinds have none.
	Validate func(j Join) error
	// Driver is Docker's driver that the plugin is; nil for plugins that make no
	// network of their own.
	Driver Driver
}

// A Kind says what a plugin does with a sandbox.
type Kind int

const (
	// MakesInterface is for plugins that make an interface in the sandbox, with
	// addresses of an IPAM plugin.
	MakesInterface Kind = iota
	// NoInterface is for plugins whose sandboxes use interfaces that are there
	// already. No IPAM gives addresses, an address or MAC that is asked for is an
	// error, published ports are discarded. The result has the addresses that are
	// there, under no interface.
	NoInterface
	// Meta is for plugins that add to the interface that another one made, and pass
	// its result on (CNI's meta plugin). What the runtime asks of an interface is
	// the other plugin's.
	Meta
)

// A Mode is a network of one kind, configured: it says what must be there.
type Mode interface {
	// Describe returns what the engine itself must know.
	Describe() Description
	// Plan says what must be there for one attachment. It is pure: everything
	// that was found or chosen comes in the endpoint.
	Plan(e Endpoint) (wire.Plan, error)
}

// A Description is what the engine must know of a mode.
type Description struct {
	Name     string
	Link     string // whose on-link routes are the network's own; "" for none
	IPAM     IPAM
	Families Families
	MTU      int // bytes; 0: that of the link of the default route
	Ports    Ports
	DNS      *DNS
	Names    *Names // how containers find names, where the plugin is to see to it; nil: not
	Info     Info
	Shares   string // path of the network namespace that the network's sandboxes share; "": their own
}

// Families says which subnets a network gets that its configuration does not
// name.
type Families struct {
	ULA     bool // a unique local IPv6 /64
	Refuse6 bool // IPv6 addresses are an error: "ipv6": false
	Need6   bool // no IPv6 address is an error: "ipv6": true
}

// Ports says how a network publishes ports.
type Ports struct {
	Ignore  bool       // internal networks publish nothing, as in Docker
	Default netip.Addr // host address where a mapping names none; zero: any
}

// A Join is a sandbox that a plugin without an interface is to work on.
type Join struct {
	wire.Attachment
	NetNS   string            // CNI_NETNS
	Args    map[string]string // CNI_ARGS
	Chained bool              // a plugin before has been at work: there is a prevResult
	Found   wire.NetNSInfo    // what is in the sandbox
}

// Exchangeable tells why a sandbox can't be made to share another namespace, or
// nil: what has been in it would stay behind. Where the runtime has a switch for
// what is meant, the error names that instead.
func (j Join) Exchangeable(instead string) error {
	switch {
	case j.Found.Fixed:
		return wire.Errorf(wire.CodeSandbox, "CNI_NETNS %q: is a process's own network namespace, which can't be exchanged: use %s",
			j.NetNS, instead)
	case len(j.Found.Links) > 0:
		return wire.Errorf(wire.CodeSandbox, "CNI_NETNS %q: has %s besides lo, which would stay behind; network %s goes together with no other",
			j.NetNS, strings.Join(j.Found.Links, ", "), j.Network)
	case len(j.Found.Processes) > 0:
		return wire.Errorf(wire.CodeSandbox, "CNI_NETNS %q: process %s is in it already, and would stay behind",
			j.NetNS, j.Found.Processes[0])
	}
	return nil
}
