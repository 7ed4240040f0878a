// Package network holds what a network is: its typed configuration and the
// JSON form that runtimes keep in /etc/cni/net.d.
//
// Text becomes typed in one place and once ([ParseBridge]); nothing after it
// validates again. Errors carry the CNI code and name the field, its value and
// what is allowed.
package network

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"dcni/pkg/ipam"
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
	IPv6          *bool           `json:"ipv6"`
	Trusted       []string        `json:"trustedHostInterfaces"`
	GwPriority    int             `json:"gwPriority"`
	Firewall      string          `json:"firewall"`
	IPForward     *bool           `json:"ipForward"`
	Options       json.RawMessage `json:"options"`
	IPAM          json.RawMessage `json:"ipam"`
	DNS           *DNS            `json:"dns"`
	Names         json.RawMessage `json:"names"`
}

// DNS is the dns part of a configuration or result, as the CNI specification
// has it.
type DNS struct {
	Nameservers []string `json:"nameservers,omitempty"`
	Domain      string   `json:"domain,omitempty"`
	Search      []string `json:"search,omitempty"`
	Options     []string `json:"options,omitempty"`
}

// Given reports whether it says anything.
func (d *DNS) Given() bool {
	return d != nil && (d.Domain != "" || len(d.Nameservers)+len(d.Search)+len(d.Options) > 0)
}

// Bridge is a bridge network.
type Bridge struct {
	Name        string     // the network's
	Bridge      string     // link name
	Default     bool       // Docker's default bridge: no names unless asked for
	ICC         bool       // containers of the network reach each other
	Internal    bool       // no way out, none in
	Masquerade  bool       // outgoing connections take the host's address
	HostBinding netip.Addr // for ports published with no host address; zero: any
	MTU         int        // bytes; 0: that of the host's way out
	IPv6        *bool      // nil: as the subnets say
	GwPriority  int        // the highest of a sandbox's networks is its default gateway
	IPForward   bool       // forwarding may be switched on
	IPAM        IPAM
	DNS         *DNS
	Names       *Names // how containers find names; nil: as the runtime has it
}

// IPAM is a network's source of addresses.
type IPAM struct {
	Type string      // dipam, or another plugin's name
	Own  ipam.Config // for dipam
}

// Limits of fields.
const (
	minMTU     = 68    // RFC 791: every host forwards that much
	minMTU6    = 1280  // RFC 8200, section 5
	maxMTU     = 65535 // of a veth (ETH_MAX_MTU)
	maxLinkLen = 15    // IFNAMSIZ - 1
)

// DefaultBridgeName is the link of the default bridge network, as docker0 is
// Docker's.
const DefaultBridgeName = "dcni0"

// BridgeName returns the link of a user-defined network: stable, unique, and
// of the form that Docker users know.
func BridgeName(network string) string { return "br-" + ID(network)[:ShortID] }

// BridgeMAC returns the MAC of a bridge that is ours: fixed by the bridge's name,
// so that it outlives every port, and the proof that we made it.
func BridgeMAC(bridge string) string {
	sum := sha256.Sum256([]byte(bridge))
	return fmt.Sprintf("02:42:%02x:%02x:%02x:%02x", sum[0], sum[1], sum[2], sum[3])
}

// ParseBridge reads a dbridge configuration.
func ParseBridge(conf []byte) (*Bridge, error) {
	c, err := ReadConf(conf)
	if err != nil {
		return nil, err
	}
	return c.Bridge()
}

// Bridge reads the configuration as dbridge's.
func (c Conf) Bridge() (*Bridge, error) {
	keys, err := c.Keys(append(Known(&rawBridge{}), standard...))
	if err != nil {
		return nil, err
	}
	if err := keys.docker(); err != nil {
		return nil, err
	}
	if v, ok := keys["ipMasq"]; ok {
		if err := keys.merge("masquerade", v, "ipMasq"); err != nil {
			return nil, err
		}
	}
	var raw rawBridge
	if err := keys.Decode("", &raw); err != nil {
		return nil, err
	}
	b, err := raw.typed()
	if err != nil {
		return nil, err
	}
	b.Names, err = c.Names()
	return b, err
}

func (r *rawBridge) typed() (*Bridge, error) {
	if err := r.later(); err != nil {
		return nil, err
	}
	b := &Bridge{
		Name:       r.Name,
		Bridge:     r.Bridge,
		Default:    r.DefaultBridge,
		ICC:        or(r.ICC, true),
		Internal:   r.Internal,
		Masquerade: or(r.Masquerade, true),
		MTU:        r.MTU,
		IPv6:       r.IPv6,
		GwPriority: r.GwPriority,
		IPForward:  or(r.IPForward, true),
		DNS:        r.DNS,
	}
	if err := b.link(); err != nil {
		return nil, err
	}
	var err error
	if b.HostBinding, err = hostBinding(r.HostBinding); err != nil {
		return nil, err
	}
	if b.IPAM, err = ParseIPAM(r.IPAM); err != nil {
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

// later refuses what the contract knows and this version can't do: to ignore
// it would publish or hide what its author did not mean to.
func (r *rawBridge) later() error {
	for field, v := range map[string]string{"gatewayModeIPv4": r.GatewayMode4, "gatewayModeIPv6": r.GatewayMode6} {
		switch v {
		case "", "nat":
		case "nat-unprotected", "routed", "isolated":
			return wire.Errorf(wire.CodeUnsupported, "%s %q: not supported by this version, which has nat only", field, v)
		default:
			return wire.Invalid(field, v, "must be nat, nat-unprotected, routed or isolated")
		}
	}
	switch r.Firewall {
	case "", "nftables":
	case "iptables":
		return wire.Errorf(wire.CodeUnsupported, `firewall "iptables": not supported by this version, which has nftables only`)
	default:
		return wire.Invalid("firewall", r.Firewall, "must be nftables or iptables")
	}
	for field, given := range map[string]bool{
		"snatIPv4": r.SNATIPv4 != "", "snatIPv6": r.SNATIPv6 != "",
		"inhibitIPv4": r.InhibitIPv4, "trustedHostInterfaces": len(r.Trusted) > 0,
	} {
		if given {
			return wire.Errorf(wire.CodeUnsupported, "%s: not supported by this version", field)
		}
	}
	return nil
}

// link fills in and checks the bridge's name.
func (b *Bridge) link() error {
	if b.Bridge == "" {
		b.Bridge = BridgeName(b.Name)
		if b.Default {
			b.Bridge = DefaultBridgeName
		}
	}
	if !ValidLink(b.Bridge) {
		return wire.Invalid("bridge", b.Bridge, "must be "+LinkRule)
	}
	return nil
}

// NameRule says what [ValidName] takes.
const NameRule = "letters, digits, '_', '.' and '-', and begin with a letter or digit"

// ValidName reports whether a name may be a network's or a container's ID (CNI
// specification, "Network configuration objects" and "Parameters"). A regular
// expression would be compiled in each call of a plugin.
func ValidName(name string) bool {
	for i := range len(name) {
		c := name[i]
		alphanumeric := '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !alphanumeric && (i == 0 || c != '_' && c != '.' && c != '-') {
			return false
		}
	}
	return name != ""
}

// LinkRule says what [ValidLink] takes.
const LinkRule = `a link name: 1 to 15 bytes of ASCII without white space and / : " % *, and not ., .., all or default`

// ValidLink reports whether the kernel takes a name for a link
// (dev_valid_name), as far as sysctl paths and people can live with it: all and
// default are directories of settings, and the kernel makes no such link.
func ValidLink(name string) bool {
	switch name {
	case "", ".", "..", "all", "default":
		return false
	}
	if len(name) > maxLinkLen {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || r == '/' || r == ':' || r == '"' || r == '%' || r == '*'
	})
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
	_, has6 := b.families()
	switch {
	case b.MTU != 0 && (b.MTU < minMTU || b.MTU > maxMTU):
		return wire.Invalid("mtu", b.MTU, "must be 0 (that of the host's way out) or 68 to 65535")
	case b.IPv6 != nil && !*b.IPv6 && has6:
		return wire.Invalid("ipv6", *b.IPv6, "must not be false with an IPv6 subnet in ipam")
	case b.MTU != 0 && b.MTU < minMTU6 && (has6 || or(b.IPv6, false)):
		return wire.Invalid("mtu", b.MTU, "must be at least 1280 on a network with IPv6 (RFC 8200)")
	}
	return nil
}

// families reports which families the configuration gives subnets of.
func (b *Bridge) families() (has4, has6 bool) {
	for _, s := range b.IPAM.Own.Subnets {
		if s.Prefix.Addr().Is6() {
			has6 = true
		} else {
			has4 = true
		}
	}
	return has4, has6
}

// WantsULA reports whether the network is to get an IPv6 subnet that nobody
// named: a unique local one.
func (b *Bridge) WantsULA() bool {
	_, has6 := b.families()
	return or(b.IPv6, false) && !has6
}

// ParseIPAM reads the ipam section. Without one, addresses come from dipam's
// default pools, as a Docker network's do.
func ParseIPAM(section json.RawMessage) (IPAM, error) {
	if len(section) == 0 || string(section) == "null" {
		section = json.RawMessage(`{"type": "dipam"}`)
	}
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(section, &head); err != nil {
		return IPAM{}, DecodeError(wire.CodeConfig, "ipam", err)
	}
	switch {
	case head.Type == "":
		return IPAM{}, wire.Invalid("ipam.type", head.Type, "must name an IPAM plugin, as dipam")
	case strings.ContainsAny(head.Type, "/\\"):
		return IPAM{}, wire.Invalid("ipam.type", head.Type, "must be a plugin's name, not a path")
	case head.Type != "dipam":
		return IPAM{Type: head.Type}, nil
	}
	var raw ipam.Raw
	if err := Strict(section, "ipam", &raw); err != nil {
		return IPAM{}, err
	}
	own, err := raw.Config()
	return IPAM{Type: head.Type, Own: own}, err
}
