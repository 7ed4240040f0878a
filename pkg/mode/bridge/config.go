package bridge

import (
	"cmp"
	"encoding/json"
	"net/netip"
	"slices"

	"dcni/pkg/firewall"
	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// rawBridge mirrors the JSON of a dbridge configuration, after Docker's names
// were replaced by ours. Pointers tell "not given" from the zero value.
type rawBridge struct {
	CNIVersion    string          `json:"cniVersion"`
	Name          string          `json:"name"`
	Bridge        string          `json:"bridge"`
	DefaultBridge bool            `json:"defaultBridge"`
	ICC           *bool           `json:"icc"`
	Internal      bool            `json:"internal"`
	Masquerade    *bool           `json:"masquerade"`
	IPMasq        *bool           `json:"ipMasq"`
	SNATIPv4      string          `json:"snatIPv4"`
	SNATIPv6      string          `json:"snatIPv6"`
	HostBinding   string          `json:"hostBinding"`
	GatewayMode4  string          `json:"gatewayModeIPv4"`
	GatewayMode6  string          `json:"gatewayModeIPv6"`
	InhibitIPv4   bool            `json:"inhibitIPv4"`
	MTU           int             `json:"mtu"`
	IPv4          *bool           `json:"ipv4"`
	IPv6          *bool           `json:"ipv6"`
	Trusted       []string        `json:"trustedHostInterfaces"`
	GwPriority    int             `json:"gwPriority"`
	Firewall      string          `json:"firewall"`
	IPForward     *bool           `json:"ipForward"`
	NoDrop        bool            `json:"ipForwardNoDrop"`
	AcceptRA      bool            `json:"acceptRA"`
	AntiSpoof     bool            `json:"antiSpoof"`
	Options       json.RawMessage `json:"options"`
	IPAM          json.RawMessage `json:"ipam"`
	DNS           *network.DNS    `json:"dns"`
	Names         json.RawMessage `json:"names"`
}

// A Bridge is a bridge network, configured.
type Bridge struct {
	Name        string // the network's
	Link        string // the bridge's
	MAC         string // the bridge's; "": made from its name
	Default     bool   // Docker's default bridge: no names unless asked for
	ICC         bool   // containers of the network reach each other
	Internal    bool   // no route out of the host, no published ports
	Masquerade  bool   // outgoing connections take the host's address
	Mode4       Mode
	Mode6       Mode
	InhibitIPv4 bool         // the bridge has no IPv4 address
	NoIPv4      bool         // the network has no IPv4
	Trusted     []string     // interfaces of the host, from which published ports are reached by the containers' addresses
	SNAT        []netip.Addr // instead of whichever address the host has there, one a family at most
	HostBinding netip.Addr   // for ports published with no host address; zero: any
	MTU         int          // bytes; 0: that of the host's default route
	IPv6        *bool        // nil: as the subnets say
	GwPriority  int          // the sandbox's default gateway is of the network with the highest
	IPForward   bool         // forwarding may be switched on
	NoDrop      bool         // where it was switched on, the host routes for others as well
	IfPrefix    string       // of the interfaces' names in containers; "": any
	Firewall    string       // what carries the rules out: firewall.IPTables; "": nftables
	AcceptRA    bool         // router advertisements count in the sandbox
	AntiSpoof   bool         // a container sends from its own MAC and addresses only
	IPAM        network.IPAM
	DNS         *network.DNS
	Names       *network.Names // how containers find names; nil: as the runtime has it
}

// Limits of the MTU.
const (
	minMTU  = 68    // RFC 791: every host forwards that much
	minMTU6 = 1280  // RFC 8200, section 5
	maxMTU  = 65535 // of a veth (ETH_MAX_MTU)
)

// defaultLink is the link of the default bridge network, as docker0 is Docker's.
const defaultLink = "dcni0"

// Link returns the link of a user-defined network: stable, unique, and of the form
// that Docker users know.
func Link(name string) string { return "br-" + network.ID(name)[:network.ShortID] }

// known are the keys of a dbridge configuration.
func known() []string {
	return slices.Concat(network.Known(&rawBridge{}), network.Known(&rawReference{}), network.StandardKeys())
}

// parse reads a dbridge configuration.
func parse(conf network.Conf) (network.Mode, error) {
	b, err := parseBridge(conf)
	if err != nil {
		return nil, err
	}
	return b, nil
}

func parseBridge(conf network.Conf) (*Bridge, error) {
	keys, err := conf.Keys(known())
	if err != nil {
		return nil, err
	}
	return readBridge(conf, keys, nil)
}

// An ipamReader returns what reads the ipam section of a network that is without default
// gateways of some families.
type ipamReader = func(gateways ipam.Ungated) func(section json.RawMessage) (network.IPAM, error)

// Extended reads the configuration of a network that is a bridge network and more: more
// takes the keys that only it has, without names those that it has not. How it reads the
// ipam section is the caller's.
func Extended(conf network.Conf, more any, without []string, addresses ipamReader) (*Bridge, error) {
	keys, err := conf.Keys(Keys(more, without))
	if err != nil {
		return nil, err
	}
	b, err := readBridge(conf, keys, addresses)
	if err != nil {
		return nil, err
	}
	for _, key := range without { // given by Docker's name
		if _, given := keys[key]; given {
			return nil, wire.Errorf(wire.CodeConfig, "%s: must not be given: the network's bridge has no other name and no other kind", key)
		}
	}
	return b, keys.Decode("", more)
}

// Keys are those of a dbridge configuration and more, without some.
func Keys(more any, without []string) []string {
	return slices.DeleteFunc(append(known(), network.Known(more)...), func(key string) bool { return slices.Contains(without, key) })
}

// readBridge reads a configuration. Keys under Docker's names are then among the keys under
// their own. Where addresses is nil, the ipam section is read as any network's.
func readBridge(conf network.Conf, keys network.Object, addresses ipamReader) (*Bridge, error) {
	prefix := network.PrefixOf(keys)
	if err := options.Replace(keys); err != nil {
		return nil, err
	}
	if err := keys.Alias("masquerade", "ipMasq", new(bool)); err != nil {
		return nil, err
	}
	var raw rawBridge
	if err := keys.Decode("", &raw); err != nil {
		return nil, err
	}
	b, err := raw.typed(addresses)
	if err != nil {
		return nil, err
	}
	var reference rawReference
	if err := keys.Decode("", &reference); err != nil {
		return nil, err
	}
	if err := reference.check(b); err != nil {
		return nil, err
	}
	b.IfPrefix = prefix
	b.Names, err = conf.Names()
	if err == nil && b.Names != nil && b.Names.Gateway && !b.hasGateway() {
		err = wire.Invalid("names.gateway", true, "must be false: the bridge has no gateway's address (isolated, or inhibitIPv4)")
	}
	return b, err
}

// typed checks the values, and fills in the defaults.
func (r *rawBridge) typed(addresses ipamReader) (*Bridge, error) {
	if r.Firewall != "" && r.Firewall != firewall.NFTables && r.Firewall != firewall.IPTables {
		return nil, wire.Invalid("firewall", r.Firewall, "must be nftables or iptables")
	}
	b := &Bridge{
		Name:        r.Name,
		Link:        r.Bridge,
		Default:     r.DefaultBridge,
		ICC:         or(r.ICC, true),
		Internal:    r.Internal,
		Masquerade:  or(r.Masquerade, true),
		MTU:         r.MTU,
		IPv6:        r.IPv6,
		GwPriority:  r.GwPriority,
		IPForward:   or(r.IPForward, true),
		NoDrop:      r.NoDrop,
		AcceptRA:    r.AcceptRA,
		AntiSpoof:   r.AntiSpoof,
		InhibitIPv4: r.InhibitIPv4,
		NoIPv4:      !or(r.IPv4, true),
		DNS:         r.DNS,
	}
	if r.Firewall == firewall.IPTables { // else the rules' usual backend
		b.Firewall = r.Firewall
	}
	if r.AcceptRA && r.Bridge == "" {
		return nil, wire.Invalid("acceptRA", true, `must be false without the key "bridge": only containers could send router advertisements on a bridge of dbridge's own`)
	}
	if err := b.setLink(); err != nil {
		return nil, err
	}
	var err error
	if err = r.modes(b); err != nil {
		return nil, err
	}
	if b.Trusted, err = r.trusted(); err != nil {
		return nil, err
	}
	if b.SNAT, err = r.snat(); err != nil {
		return nil, err
	}
	if b.HostBinding, err = hostBinding(r.HostBinding); err != nil {
		return nil, err
	}
	if addresses == nil {
		addresses = network.ParseIPAMWithout
	}
	if b.IPAM, err = addresses(b.ungated())(r.IPAM); err != nil {
		return nil, err
	}
	return b, b.combinations()
}

func or(p *bool, otherwise bool) bool {
	if p == nil {
		return otherwise
	}
	return *p
}

// setLink fills in and checks the bridge's name.
func (b *Bridge) setLink() error {
	if b.Link == "" {
		b.Link = Link(b.Name)
		if b.Default {
			b.Link = defaultLink
		}
	}
	if !network.ValidLink(b.Link) {
		return wire.Invalid("bridge", b.Link, "must be "+network.LinkRule)
	}
	return nil
}

func hostBinding(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.IsMulticast() {
		return netip.Addr{}, wire.Invalid("hostBinding", s, "must be an address of the host, 0.0.0.0 (IPv4 only), :: (IPv6 only), or empty (any)")
	}
	return a.Unmap(), nil
}

// combinations checks what only goes together.
func (b *Bridge) combinations() error {
	has6 := b.hasIPv6Subnet()
	switch {
	case b.MTU != 0 && (b.MTU < minMTU || b.MTU > maxMTU):
		return wire.Invalid("mtu", b.MTU, "must be 0 (that of the host's way out) or 68 to 65535")
	case b.NoIPv4 && network.HasFamily(b.IPAM.Own.Subnets, false):
		return wire.Invalid("ipv4", false, "must not be false with an IPv4 subnet in ipam")
	case b.NoIPv4 && b.IPAM.Type == "dipam" && !has6 && !or(b.IPv6, false):
		return wire.Invalid("ipv4", false, `needs "ipv6": true, or an IPv6 subnet in ipam`)
	case b.IPv6 != nil && !*b.IPv6 && has6:
		return wire.Invalid("ipv6", *b.IPv6, "must not be false with an IPv6 subnet in ipam")
	case b.AntiSpoof && b.AcceptRA:
		return wire.Invalid("antiSpoof", true, `must be false with "acceptRA": which addresses a container makes itself is not known`)
	case b.MTU != 0 && b.MTU < minMTU6 && (has6 || or(b.IPv6, false)):
		return wire.Invalid("mtu", b.MTU, "must be at least 1280 on a network with IPv6 (RFC 8200)")
	}
	if err := cmp.Or(b.apart(), b.leadsIn()); err != nil {
		return err
	}
	return b.leaves()
}

// hasIPv6Subnet reports whether the configuration gives an IPv6 subnet.
func (b *Bridge) hasIPv6Subnet() bool {
	return slices.ContainsFunc(b.IPAM.Own.Subnets, func(s ipam.Subnet) bool { return s.Prefix.Addr().Is6() })
}
