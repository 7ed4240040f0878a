package network

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"dcni/pkg/names"
	"dcni/pkg/wire"
)

// rawDDNS mirrors the JSON of a ddns configuration. Pointers tell "not given"
// from the zero value.
type rawDDNS struct {
	Name      string          `json:"name"`
	Servers   []string        `json:"servers"`
	Search    []string        `json:"search"`
	Options   []string        `json:"options"`
	TTL       *int64          `json:"ttl"`
	Intercept bool            `json:"intercept"`
	Hosts     []string        `json:"hosts"`
	Names     *bool           `json:"names"`
	IPAM      json.RawMessage `json:"ipam"`
	DNS       *DNS            `json:"dns"`
	Runtime   json.RawMessage `json:"runtimeConfig"`
	Prev      json.RawMessage `json:"prevResult"`
}

var (
	keysOfDDNS = sync.OnceValue(func() []string { return append(Known(&rawDDNS{}), standard...) })
	keysOfDNS  = sync.OnceValue(func() []string { return Known(&DNS{}) })
)

// DDNS is how a network's containers find names.
type DDNS struct {
	Name      string
	Servers   []netip.AddrPort // asked from within the container, in place of the host's; none: the host's
	TTL       uint32           // of the network's own names, in seconds
	Intercept bool             // queries to any other name server are answered, too
	Names     *bool            // whether the network's containers have names; nil: as the network is
	DNS       *DNS             // the result's

	hosts []string
}

// DDNS reads the configuration as ddns's. What is said of name servers, search
// domains and options in several places counts in this order: by the runtime for
// the container (the capability dns), by the configuration, by its dns section,
// by the plugins before it.
func (c Conf) DDNS() (*DDNS, error) {
	keys, err := c.Keys(keysOfDDNS())
	if err != nil {
		return nil, err
	}
	var raw rawDDNS
	if err := keys.Decode("", &raw); err != nil {
		return nil, err
	}
	if given(raw.IPAM) {
		return nil, wire.Errorf(wire.CodeConfig, "ipam: must not be given: ddns gives no addresses")
	}
	return raw.typed()
}

func given(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

func (r *rawDDNS) typed() (*DDNS, error) {
	d := &DDNS{Name: r.Name, TTL: names.DefaultTTL, Intercept: r.Intercept, Names: r.Names, hosts: r.Hosts}
	var err error
	if r.TTL != nil {
		if d.TTL, err = names.CheckTTL("ttl", *r.TTL); err != nil {
			return nil, err
		}
	}
	// Which gateway host-gateway is will be known at ADD.
	if _, err := names.ParseHosts("hosts", r.Hosts, []netip.Addr{netip.IPv4Unspecified()}); err != nil {
		return nil, err
	}
	sources, err := r.sources()
	if err != nil {
		return nil, err
	}
	return d, d.resolve(sources)
}

// A dnsSource is one place where the resolver of a container is described.
type dnsSource struct {
	servers, search, options, domain string // what errors call the fields
	DNS
}

// sources returns all of them, what counts most first.
func (r *rawDDNS) sources() ([]dnsSource, error) {
	capability, err := capabilityDNS(r.Runtime)
	if err != nil {
		return nil, err
	}
	before, err := previousDNS(r.Prev)
	if err != nil {
		return nil, err
	}
	section := DNS{}
	if r.DNS != nil {
		section = *r.DNS
	}
	return []dnsSource{
		{"runtimeConfig.dns.servers", "runtimeConfig.dns.searches", "runtimeConfig.dns.options", "", capability},
		{"servers", "search", "options", "", DNS{Nameservers: r.Servers, Search: r.Search, Options: r.Options}},
		{"dns.nameservers", "dns.search", "dns.options", "dns.domain", section},
		{"prevResult.dns.nameservers", "prevResult.dns.search", "prevResult.dns.options", "prevResult.dns.domain", before},
	}, nil
}

// capabilityDNS reads the capability dns (CNI's conventions; go-cni capitalises
// the keys). Keys that are not known are left alone, as everywhere in there.
func capabilityDNS(runtime json.RawMessage) (DNS, error) {
	rc, err := Pick(runtime, "runtimeConfig", "dns")
	if err != nil {
		return DNS{}, err
	}
	const path = "runtimeConfig.dns"
	keys, err := Pick(rc["dns"], path, "servers", "searches", "options")
	if err != nil {
		return DNS{}, err
	}
	var of struct {
		Servers  []string `json:"servers"`
		Searches []string `json:"searches"`
		Options  []string `json:"options"`
	}
	err = keys.Decode(path, &of)
	return DNS{Nameservers: of.Servers, Search: of.Searches, Options: of.Options}, err
}

// previousDNS reads the dns part of the result of the plugins before. Ours is in
// it at CHECK.
func previousDNS(result json.RawMessage) (DNS, error) {
	prev, err := Pick(result, "prevResult", "dns")
	if err != nil {
		return DNS{}, err
	}
	keys, err := Pick(prev["dns"], "prevResult.dns", keysOfDNS()...)
	if err != nil {
		return DNS{}, err
	}
	var before DNS
	err = keys.Decode("prevResult.dns", &before)
	before.Nameservers = slices.DeleteFunc(before.Nameservers, func(s string) bool { return s == names.Address.String() })
	return before, err
}

// resolve checks all that the sources say, and takes of each what is said first.
func (d *DDNS) resolve(sources []dnsSource) error {
	d.DNS = &DNS{Nameservers: []string{names.Address.String()}}
	for _, s := range sources {
		servers, err := s.check()
		if err != nil {
			return err
		}
		d.Servers = first(d.Servers, servers)
		d.DNS.Search = first(d.DNS.Search, s.Search)
		d.DNS.Options = first(d.DNS.Options, s.Options)
		if d.DNS.Domain == "" {
			d.DNS.Domain = s.Domain
		}
	}
	if slices.Equal(d.DNS.Search, []string{noSearch}) {
		d.DNS.Search, d.DNS.Domain = nil, ""
	}
	if !slices.ContainsFunc(d.DNS.Options, isNdots) {
		// Names of containers have no dots, and are to be asked for as they are.
		d.DNS.Options = append(slices.Clone(d.DNS.Options), ndots+"0")
	}
	return nil
}

// check returns the source's servers, or what is wrong with it.
func (s dnsSource) check() ([]netip.AddrPort, error) {
	servers, err := nameServers(s.servers, s.Nameservers)
	if err != nil {
		return nil, err
	}
	if err := checkSearch(s.search, s.Search); err != nil {
		return nil, err
	}
	if s.Domain != "" {
		if err := names.Check(s.domain, strings.TrimSuffix(s.Domain, ".")); err != nil {
			return nil, err
		}
	}
	return servers, checkOptions(s.options, s.Options)
}

func first[T any](have, next []T) []T {
	if len(have) > 0 {
		return have
	}
	return next
}

// nameServers reads upstream servers. The container's own name server is none:
// it would ask itself.
func nameServers(field string, list []string) ([]netip.AddrPort, error) {
	servers, err := names.ParseServers(field, list)
	if err != nil {
		return nil, err
	}
	for i, s := range servers {
		if s.Addr() == names.Address {
			return nil, wire.Invalid(fmt.Sprintf("%s[%d]", field, i), list[i], "must not be the container's own name server")
		}
	}
	return servers, nil
}

// noSearch as the only search domain says that there is none, as docker run's
// --dns-search does.
const noSearch = "."

func checkSearch(field string, list []string) error {
	for i, domain := range list {
		if domain == noSearch && len(list) == 1 {
			return nil
		}
		if err := names.Check(fmt.Sprintf("%s[%d]", field, i), strings.TrimSuffix(domain, ".")); err != nil {
			return err
		}
	}
	return nil
}

// ndots begins the option that says how many dots a name must have to be asked
// for before search domains are put behind it (resolv.conf(5)).
const ndots = "ndots:"

func isNdots(option string) bool { return strings.HasPrefix(option, ndots) }

func checkOptions(field string, list []string) error {
	for i, option := range list {
		field := fmt.Sprintf("%s[%d]", field, i)
		if option == "" || strings.ContainsFunc(option, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return wire.Invalid(field, option, "must be one option of resolv.conf(5), such as ndots:1 or use-vc")
		}
		if value, ok := strings.CutPrefix(option, ndots); ok {
			if _, err := strconv.ParseUint(value, 10, 8); err != nil {
				return wire.Invalid(field, option, "must be ndots: and a number from 0 to 255")
			}
		}
	}
	return nil
}

// Hosts returns the extra hosts of the network, once its gateways are known.
func (d *DDNS) Hosts(gateways []netip.Addr) ([]names.HostEntry, error) {
	return names.ParseHosts("hosts", d.hosts, gateways)
}

// Quiet reports whether the network's containers have no names.
func (d *DDNS) Quiet(t Traits) bool {
	if d.Names != nil {
		return !*d.Names
	}
	return t.Quiet
}
