package network

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"

	"dcni/pkg/ipam"
	"dcni/pkg/wire"
)

// A Plugin is what a CNI plugin of ours is: which kind, and how it reads a
// configuration. Package mode has the table of them.
type Plugin struct {
	Type string // as configurations name it
	Kind Kind
	// Inside says that the host has no end of the interface that the plugin makes: only
	// the sandbox tells whether it is there.
	Inside bool
	// Parse reads a configuration; its errors carry their CNI codes.
	Parse func(conf Conf) (Mode, error)
	// Roots are the objects that DEL removes when the record does not say all.
	// The endpoint has its identity, and the sandbox if an ADD had begun.
	Roots func(e Endpoint) []wire.Object
	// Validate tells why a plugin of kind NoInterface must not work on a sandbox,
	// or nil. Other kinds have none.
	Validate func(j Join) error
	// Driver is Docker's driver that the plugin is; nil for plugins that make no
	// network of their own.
	Driver Driver
}

// A Driver is one of Docker's network drivers. What dnet does with the driver's
// networks beside listing them, the driver says by the interfaces of package catalog.
type Driver interface {
	Name() string // Docker's
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
	Link     string       // whose on-link routes are the network's own; "" for none
	Bridge   *wire.Bridge // the network's, which may be another owner's; nil for none
	Parent   *Parent      // of the network's interfaces; nil for none
	Routed   bool         // the network's interfaces know no neighbours, see [Endpoint]
	IPAM     IPAM
	Families Families
	Isolated ipam.Ungated // families in which the host is not on the network: its subnets have no gateway
	MTU      int          // bytes; 0: that of the link of the default route
	Ports    Ports
	NoMAC    string // why no MAC can be asked for; "": one can
	DNS      *DNS
	Names    *Names // how containers find names, where the plugin is to see to it; nil: not
	Info     Info
	IfPrefix string // with which the names of interfaces in sandboxes are to begin, see [IfacePrefix]; "": any
	Shares   string // path of the network namespace that the network's sandboxes share; "": their own, or that of Joins
	// Overlay is what the configuration of an overlay network says of it, with examples in
	// place of what is left out; nil for other networks.
	Overlay *Overlay
	// Leftovers are the network's objects on the host where those go with its last
	// attachment there, the last one first. nil: they stay until the network is removed.
	Leftovers []wire.Object
	Joins     string // container whose network namespace they share, by ID, the beginning of that, or name; "": none's
	// ConflictDetection says that ADD asks the LAN for an attachment's addresses before it
	// sets them (RFC 5227 and RFC 4862), through the interface once it is up. An address that
	// a machine has is remembered, and the next one is tried; one that was asked for by
	// value, or that another IPAM plugin gave, is refused. It is for networks that are
	// [Description.OnLAN].
	ConflictDetection bool
}

// OnLAN reports whether the network is one of the host's own: its containers are
// neighbours of machines that dcni knows nothing of. The MAC of an interface is then no
// other host's, see [Endpoint.SandboxMAC], and its addresses are announced.
func (d Description) OnLAN() bool { return d.Parent != nil && !d.Parent.Own && !d.Routed }

// WithoutGateways returns addresses and subnets as they are on the network, whichever gateways
// an IPAM plugin gave.
func (d Description) WithoutGateways(addresses []ipam.Assigned, subnets []ipam.Subnet) ([]ipam.Assigned, []ipam.Subnet) {
	addresses, subnets = slices.Clone(addresses), slices.Clone(subnets)
	for i, a := range addresses {
		if d.Isolated.Has(a.Address.Addr()) {
			addresses[i].Gateway = netip.Addr{}
		}
	}
	for i, s := range subnets {
		if d.Isolated.Has(s.Prefix.Addr()) {
			subnets[i].Gateway = netip.Addr{}
		}
	}
	return addresses, subnets
}

// RoutesOf returns routes as they are on the network, whichever an IPAM plugin gave: an
// internal network on a parent has no default route.
func (d Description) RoutesOf(routes []ipam.Route) []ipam.Route {
	if d.Parent == nil || !d.Info.Internal {
		return routes
	}
	return slices.DeleteFunc(slices.Clone(routes), func(r ipam.Route) bool { return r.Dst.Bits() == 0 })
}

// Shared reports whether sandboxes share a network namespace that is not theirs.
func (d Description) Shared() bool { return d.Shares != "" || d.Joins != "" }

// Default reports whether the network is the one that every host has, as Docker's
// "bridge": the first of the default pools is its.
func (d Description) Default() bool { return d.Name == "bridge" || d.Info.NoNames }

// Families says which subnets a network gets that its configuration does not
// name.
type Families struct {
	ULA     bool // a unique local IPv6 /64
	Refuse4 bool // IPv4 addresses are an error: "ipv4": false
	Refuse6 bool // IPv6 addresses are an error: "ipv6": false
	Need6   bool // no IPv6 address is an error: "ipv6": true
}

// Ports says how a network publishes ports.
type Ports struct {
	Ignore  bool       // internal networks publish nothing, as in Docker
	Refuse  string     // why a network publishes none; "": it does
	Default netip.Addr // host address where a mapping names none; zero: any
}

// A Join is a sandbox that a plugin without an interface is to work on.
type Join struct {
	wire.Attachment
	NetNS   string            // CNI_NETNS
	Args    map[string]string // CNI_ARGS
	Chained bool              // a plugin before has been at work: there is a prevResult
	Found   wire.NetNSInfo    // what is in the sandbox
	There   bool              // the sandbox is in the namespace that it is to share
	Host    bool              // that is the host's own
	Asked   Asked
}

// Asked is what the runtime asks for that only an interface can have.
type Asked struct {
	IPs     []netip.Addr
	MAC     string
	Ranges  bool // of addresses
	Ports   bool // that are to be published
	Aliases []string
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

// ParseFamilies reads the key "ipv6": not given, it is as the subnets say.
func ParseFamilies(ipv6 *bool, subnets []ipam.Subnet) (Families, error) {
	switch has6 := HasFamily(subnets, true); {
	case ipv6 == nil:
		return Families{}, nil
	case !*ipv6 && has6:
		return Families{}, wire.Invalid("ipv6", false, "must not be false with an IPv6 subnet in ipam")
	default:
		return Families{ULA: *ipv6 && !has6, Refuse6: !*ipv6, Need6: *ipv6}, nil
	}
}

// Least MTUs.
const (
	MinMTU  = 68   // RFC 791: every host forwards that much
	MinMTU6 = 1280 // RFC 8200, section 5
)

// Describe reads a plugin's configuration as a runtime will send it.
func (p *Plugin) Describe(name string, plugin json.RawMessage) (Description, error) {
	conf, err := Named(name, plugin)
	if err != nil {
		return Description{}, err
	}
	mode, err := p.Parse(conf)
	if err != nil {
		return Description{}, err
	}
	return mode.Describe(), nil
}

// Named puts a network's name into a plugin's configuration, as runtimes do.
func Named(name string, plugin json.RawMessage) (Conf, error) {
	var conf map[string]json.RawMessage
	if err := json.Unmarshal(plugin, &conf); err != nil {
		return Conf{}, err
	}
	conf["name"] = Quote(name)
	return Conf{conf}, nil
}
