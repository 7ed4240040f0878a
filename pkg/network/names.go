package network

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"dcni/pkg/names"
	"dcni/pkg/wire"
)

// rawNames mirrors the JSON that says how containers find names: of the section
// "names" of a plugin that makes an interface, and of ddns at its top level.
// Pointers tell "not given" from the zero value.
type rawNames struct {
	Servers   []string        `json:"servers"`
	Search    []string        `json:"search"`
	Options   []string        `json:"options"`
	TTL       *int64          `json:"ttl"`
	Intercept bool            `json:"intercept"`
	Gateway   bool            `json:"gateway"`
	Hosts     json.RawMessage `json:"hosts"`
	FromArgs  *[]string       `json:"fromArgs"`
}

// rawDDNS mirrors what else a ddns configuration has.
type rawDDNS struct {
	Name    string          `json:"name"`
	Names   *bool           `json:"names"`
	IPAM    json.RawMessage `json:"ipam"`
	DNS     *DNS            `json:"dns"`
	Runtime json.RawMessage `json:"runtimeConfig"`
	Prev    json.RawMessage `json:"prevResult"`
}

var (
	keysOfDDNS = sync.OnceValue(func() []string {
		return slices.Concat(Known(&rawNames{}), Known(&rawDDNS{}), standard)
	})
	keysOfDNS = sync.OnceValue(func() []string { return Known(&DNS{}) })
)

// Names is how a network's containers find names.
type Names struct {
	Servers   []netip.AddrPort // asked from within the container, in place of the host's; none: the host's
	TTL       uint32           // of the network's own names, in seconds
	Intercept bool             // queries to any other name server are answered, too
	Gateway   bool             // the network's gateway answers as well, for virtual machines behind containers' interfaces
	Given     *bool            // whether the network's containers have names; nil: as the network is
	DNS       *DNS             // the result's
	FromArgs  []string         // keys of CNI_ARGS whose values are names of the container

	hosts []string
}

// DDNS reads the configuration as ddns's. What is said of name servers, search
// domains and options in several places counts in this order: by the runtime for
// the container (the capability dns), by the configuration, by its dns section,
// by the plugins before it.
func (c Conf) DDNS() (*Names, error) {
	keys, err := c.Keys(keysOfDDNS())
	if err != nil {
		return nil, err
	}
	var raw rawDDNS
	if err := keys.Decode("", &raw); err != nil {
		return nil, err
	}
	var own rawNames
	if err := keys.Decode("", &own); err != nil {
		return nil, err
	}
	if raw.IPAM != nil {
		return nil, wire.Errorf(wire.CodeConfig, "ipam: must not be given: ddns gives no addresses")
	}
	n, err := own.typed("", dnsElsewhere{raw.DNS, raw.Runtime, raw.Prev})
	if err != nil {
		return nil, err
	}
	if n.Gateway {
		return nil, wire.Invalid("gateway", true, `must be false: ddns knows no bridge; the key "names" of dbridge and doverlay has it`)
	}
	n.Given = raw.Names
	return n, nil
}

// namesSection is the key of [rawNames] in the configuration of a plugin that
// makes an interface.
const namesSection = "names"

// Names reads the section "names" of the configuration; nil where there is none.
// A network that has it gives its containers names, also one that gives none
// unless asked for.
func (c Conf) Names() (*Names, error) {
	keys := c.Pick(namesSection, "dns", "runtimeConfig", "prevResult")
	section, asked := keys[namesSection]
	if !asked {
		return nil, nil
	}
	var raw rawNames
	if err := Strict(section, namesSection, &raw); err != nil {
		return nil, err
	}
	var dns DNS
	if keys["dns"] != nil {
		if err := Strict(keys["dns"], "dns", &dns); err != nil {
			return nil, err
		}
	}
	n, err := raw.typed(namesSection, dnsElsewhere{&dns, keys["runtimeConfig"], keys["prevResult"]})
	if err != nil {
		return nil, err
	}
	n.Given = &asked
	return n, nil
}

// dnsElsewhere is where else a configuration describes the resolver of a
// container.
type dnsElsewhere struct {
	section       *DNS            // its key dns
	runtime, prev json.RawMessage // its keys runtimeConfig and prevResult
}

// typed checks what is said. The path is as for [Keys].
func (r *rawNames) typed(path string, more dnsElsewhere) (*Names, error) {
	n := &Names{TTL: names.DefaultTTL, Intercept: r.Intercept, Gateway: r.Gateway, FromArgs: names.ArgsOfNomad}
	var err error
	if r.FromArgs != nil {
		n.FromArgs = *r.FromArgs
	}
	for i, key := range n.FromArgs {
		if key == "" || strings.ContainsAny(key, "=;") {
			return nil, wire.Invalid(fmt.Sprintf("%s[%d]", join(path, "fromArgs"), i), key, "must be a key of CNI_ARGS, such as "+names.ArgsOfNomad[0])
		}
	}
	if r.TTL != nil {
		if n.TTL, err = names.CheckTTL(join(path, "ttl"), *r.TTL); err != nil {
			return nil, err
		}
	}
	if n.hosts, err = hostLines(join(path, "hosts"), r.Hosts); err != nil {
		return nil, err
	}
	// Which gateway host-gateway is will be known at ADD.
	if _, err := names.ParseHosts(join(path, "hosts"), n.hosts, []netip.Addr{netip.IPv4Unspecified()}); err != nil {
		return nil, err
	}
	sources, err := r.sources(path, more)
	if err != nil {
		return nil, err
	}
	return n, n.resolve(sources)
}

// hostLines reads extra hosts: an object {name: address}, or a list of
// NAME:ADDRESS as docker run's --add-host has them.
func hostLines(field string, raw json.RawMessage) ([]string, error) {
	var list []string
	var object map[string]string
	switch {
	case raw == nil, json.Unmarshal(raw, &list) == nil:
		return list, nil
	case json.Unmarshal(raw, &object) != nil:
		return nil, wire.Errorf(wire.CodeConfig, "%s %s: must be an object {name: address}, or a list of NAME:ADDRESS", field, raw)
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		list = append(list, name+":"+object[name])
	}
	return list, nil
}

// A dnsSource is one place where the resolver of a container is described.
type dnsSource struct {
	servers, search, options, domain string // what errors call the fields
	DNS
}

// sources returns all of them, what counts most first.
func (r *rawNames) sources(path string, more dnsElsewhere) ([]dnsSource, error) {
	capability, err := capabilityDNS(more.runtime)
	if err != nil {
		return nil, err
	}
	before, err := previousDNS(more.prev)
	if err != nil {
		return nil, err
	}
	section := DNS{}
	if more.section != nil {
		section = *more.section
	}
	return []dnsSource{
		{"runtimeConfig.dns.servers", "runtimeConfig.dns.searches", "runtimeConfig.dns.options", "", capability},
		{join(path, "servers"), join(path, "search"), join(path, "options"), "", DNS{Nameservers: r.Servers, Search: r.Search, Options: r.Options}},
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
func (n *Names) resolve(sources []dnsSource) error {
	n.DNS = &DNS{Nameservers: []string{names.Address.String()}}
	for _, s := range sources {
		servers, err := s.check()
		if err != nil {
			return err
		}
		n.Servers = first(n.Servers, servers)
		n.DNS.Search = first(n.DNS.Search, s.Search)
		n.DNS.Options = first(n.DNS.Options, s.Options)
		if n.DNS.Domain == "" {
			n.DNS.Domain = s.Domain
		}
	}
	if slices.Equal(n.DNS.Search, []string{noSearch}) {
		n.DNS.Search, n.DNS.Domain = nil, ""
	}
	if !slices.ContainsFunc(n.DNS.Options, isNdots) {
		// Names of containers have no dots, and are to be asked for as they are.
		n.DNS.Options = append(slices.Clone(n.DNS.Options), ndots+"0")
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
func (n *Names) Hosts(gateways []netip.Addr) ([]names.HostEntry, error) {
	return names.ParseHosts("hosts", n.hosts, gateways)
}

// NoNames reports whether the network's containers have no names.
func (n *Names) NoNames(i Info) bool {
	if n.Given != nil {
		return !*n.Given
	}
	return i.NoNames
}
