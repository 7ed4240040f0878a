package catalog

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// Options are what `docker network create` is told.
type Options struct {
	Name          string
	Driver        string            // Docker's name
	DriverOptions map[string]string // -o: the driver's own options
	Labels        map[string]string
	Internal      bool
	Attachable    bool
	ByAPI         bool  `json:"-"` // a client of Docker's API creates it, see [Conflist.NoGateway]
	IPv4, IPv6    *bool // nil: not told

	Subnets     []string
	Ranges      []netip.Prefix
	Gateways    []netip.Addr
	Aux         map[string]string // name to address
	Pools       []Pool            // in place of the four above, where each belongs to its subnet
	IPAMDriver  string            // "default" or dipam, "null", or the type of another suite's plugin
	IPAMOptions map[string]string

	ConfigFrom string // the configuration network that the rest is from; "" for none

	Foreign Foreign `json:"-"` // nil: there are no plugins but ours
	Where   string  `json:"-"` // for errors, where they are looked for: " in /opt/cni/bin"
}

// A Draft is a network to be created: all of it but the subnets that are to be
// chosen.
type Draft struct {
	network.Description      // as configured so far
	WantPool            bool // an IPv4 subnet is to be chosen
	WantULA             bool // an IPv6 subnet is to be chosen

	options *Options
	creator Creator
	// describe reads a plugin's configuration.
	describe func(conf json.RawMessage) (network.Description, error)
	version  string           // the CNI version of the list; "": those of our plugins
	behind   []any            // the plugins that come behind
	subnets  []ipam.RawSubnet // that were given
}

// Draft checks everything that does not depend on the host. Errors are Docker's
// where Docker has the check, else those that the plugin would answer ADD with.
// plugins is the table of ours.
func (o *Options) Draft(plugins []*network.Plugin) (*Draft, error) {
	if err := o.checkName(); err != nil {
		return nil, err
	}
	d := &Draft{options: o}
	var err error
	if err = d.find(plugins); err != nil {
		return nil, err
	}
	if d.subnets, err = o.match(); err != nil {
		return nil, err
	}
	conf, err := d.configure(d.subnets, o.IPv6)
	if err != nil {
		return nil, err
	}
	if d.Description, err = d.describe(conf); err != nil {
		return nil, err
	}
	if o.addressKind() == "dipam" {
		return d, d.families()
	}
	if d.IPAM.Own, err = (ipam.Raw{Subnets: d.subnets}).Config(); err != nil || o.addressKind() != hostLocal {
		return d, err
	}
	if o.IPAMOptions["ranges"] != "" || o.IPAMOptions["subnet"] != "" {
		return d, nil
	}
	d.WantPool = !network.HasFamily(d.IPAM.Own.Subnets, false) && (o.IPv4 == nil || *o.IPv4)
	d.WantULA = o.IPv6 != nil && *o.IPv6 && !network.HasFamily(d.IPAM.Own.Subnets, true)
	return d, nil
}

// checkName refuses names that no new network can have.
func (o *Options) checkName() error {
	switch {
	case strings.TrimSpace(o.Name) == "":
		return errors.New("invalid name: name is empty")
	case Predefined(o.Name):
		return network.Refuse(network.Forbidden, "operation is not permitted on predefined %s network", o.Name)
	}
	return cmp.Or(network.CheckLength(o.Name), checkName(o.Name))
}

// find finds the plugin that the driver's word means: one of ours, or another suite's that
// is installed.
func (d *Draft) find(plugins []*network.Plugin) error {
	o := d.options
	word, only := strings.CutPrefix(o.Driver, ForeignPrefix)
	plugin, creator, err := creatorOf(plugins, word)
	if err == nil && !only {
		d.creator = creator
		d.describe = func(conf json.RawMessage) (network.Description, error) { return plugin.Describe(o.Name, conf) }
		return d.findIPAM(true, nil)
	}
	if !only && network.ClassOf(err) != network.NotFound {
		return err
	}
	ours := slices.ContainsFunc(plugins, func(p *network.Plugin) bool { return p.Type == word })
	if o.Foreign == nil || ours {
		return noPlugin(word)
	}
	versions, err := o.Foreign(word)
	if err != nil {
		return err
	}
	if d.version, err = newestVersion(versions, nil); err != nil {
		return fmt.Errorf("plugin %s %w", word, err)
	}
	f := foreign(word)
	d.creator = f
	d.describe = func(conf json.RawMessage) (network.Description, error) { return f.describe(o.Name, conf, o.IPv6) }
	if _, err := o.Foreign(namesPlugin); err == nil {
		d.behind = append(d.behind, namesBehind)
	}
	return d.findIPAM(false, versions)
}

// findIPAM finds the plugin that addresses are from, and the version that it has in common
// with the main plugin, whose versions are given; nil: those of ours.
func (d *Draft) findIPAM(own bool, versions []string) error {
	o := d.options
	if err := o.checkIPAM(own); err != nil {
		return err
	}
	kind := o.addressKind()
	if kind == "dipam" || kind == "null" {
		return nil
	}
	known, err := o.Foreign(kind)
	if err == nil {
		d.version, err = newestVersion(known, versions)
	}
	if err != nil {
		return fmt.Errorf("IPAM plugin %s %w", kind, err)
	}
	return nil
}

// families finds out which families are to get a subnet.
func (d *Draft) families() error {
	has4, has6 := network.HasFamily(d.IPAM.Own.Subnets, false), network.HasFamily(d.IPAM.Own.Subnets, true)
	with4 := (d.options.IPv4 == nil || *d.options.IPv4) && !d.Families.Refuse4
	switch {
	case !with4 && has4:
		return errors.New("ipv4 false: must not be false with an IPv4 subnet")
	case !with4 && !has6 && !d.Families.Need6:
		return errors.New("IPv4 or IPv6 must be enabled")
	}
	d.WantPool, d.WantULA = with4 && !has4, d.Families.ULA
	return nil
}

// Probes are the objects that the host must be able to have.
func (d *Draft) Probes() []wire.Object { return d.creator.Probes(d.Description) }

// configure returns the plugin's configuration with some subnets.
func (d *Draft) configure(subnets []ipam.RawSubnet, ipv6 *bool) (json.RawMessage, error) {
	addresses := ipam.Raw{Type: "dipam"}
	if err := d.options.ipamOptions(&addresses); err != nil {
		return nil, err
	}
	if len(subnets) == 1 {
		one := subnets[0]
		addresses.Subnet, addresses.IPRange, addresses.Gateway, addresses.AuxAddresses = one.Subnet, one.IPRange, one.Gateway, one.AuxAddresses
	} else {
		addresses.Subnets = subnets
	}
	conf, err := d.creator.Configure(d.options, addresses, ipv6)
	if err != nil {
		return nil, err
	}
	data, err := encode(conf)
	if err != nil || d.options.addressKind() == "dipam" {
		return data, err
	}
	return d.otherAddresses(data, subnets)
}

// otherAddresses replaces where the addresses come from in a plugin's configuration.
func (d *Draft) otherAddresses(conf json.RawMessage, subnets []ipam.RawSubnet) (json.RawMessage, error) {
	var keys map[string]any
	if err := json.Unmarshal(conf, &keys); err != nil {
		return nil, err
	}
	delete(keys, "ipam")
	if d.options.addressKind() != "null" {
		section, err := d.options.foreignSection(subnets)
		if err != nil {
			return nil, err
		}
		keys["ipam"] = section
	}
	return encode(keys)
}

// ipamOptions reads --ipam-driver and --ipam-opt: what dipam has and Docker
// does not.
func (o *Options) ipamOptions(raw *ipam.Raw) error {
	if o.addressKind() != "dipam" {
		return nil // they are another plugin's
	}
	for _, name := range slices.Sorted(maps.Keys(o.IPAMOptions)) {
		value := o.IPAMOptions[name]
		switch name {
		case "allocation":
			raw.Allocation = value
		case "sticky":
			sticky, err := strconv.ParseBool(value)
			if err != nil {
				return wire.Invalid("ipam.sticky", value, "must be true or false")
			}
			raw.Sticky = sticky
		default:
			return network.UnknownKey("ipam", name, []string{"allocation", "sticky"})
		}
	}
	return nil
}

// Conflist returns the network's file, with the subnets that it has in the end:
// those given and those chosen, in the order of the registry.
func (d *Draft) Conflist(subnets []netip.Prefix) ([]byte, error) {
	list := make([]ipam.RawSubnet, len(subnets))
	var noGateway []string
	for i, p := range subnets {
		list[i] = ipam.RawSubnet{Subnet: p.String()}
		for _, given := range d.subnets {
			if given.Subnet != list[i].Subnet {
				continue
			}
			if list[i] = given; given.Gateway == "" && d.options.ByAPI {
				noGateway = append(noGateway, given.Subnet)
			}
		}
	}
	plugin, err := d.configure(list, nil) // an IPv6 subnet says it
	if err != nil {
		return nil, err
	}
	if _, err := d.describe(plugin); err != nil {
		return nil, err
	}
	return encodeList(listing{
		name: d.options.Name, version: d.version, plugins: append([]any{plugin}, d.behind...),
		labels: d.options.Labels, attachable: d.options.Attachable, configFrom: d.options.ConfigFrom,
		noGateway: noGateway,
	})
}

// encode is json.Marshal for people: < stays what it is.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}
