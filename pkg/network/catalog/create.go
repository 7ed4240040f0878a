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
	IPv4, IPv6    *bool // nil: not told

	Subnets     []string
	Ranges      []netip.Prefix
	Gateways    []netip.Addr
	Aux         map[string]string // name to address
	Pools       []Pool            // in place of the four above, where each belongs to its subnet
	IPAMDriver  string
	IPAMOptions map[string]string
}

// A Draft is a network to be created: all of it but the subnets that are to be
// chosen.
type Draft struct {
	network.Description      // as configured so far
	WantPool            bool // an IPv4 subnet is to be chosen
	WantULA             bool // an IPv6 subnet is to be chosen

	options *Options
	plugin  *network.Plugin
	creator Creator
	subnets []ipam.RawSubnet // that were given
}

// Draft checks everything that does not depend on the host. Errors are Docker's
// where Docker has the check, else those that the plugin would answer ADD with.
// plugins is the table of ours.
func (o *Options) Draft(plugins []*network.Plugin) (*Draft, error) {
	switch {
	case strings.TrimSpace(o.Name) == "":
		return nil, errors.New("invalid name: name is empty")
	case Predefined(o.Name):
		return nil, network.Refuse(network.Forbidden, "operation is not permitted on predefined %s network", o.Name)
	}
	if err := cmp.Or(network.CheckLength(o.Name), checkName(o.Name)); err != nil {
		return nil, err
	}
	d := &Draft{options: o}
	var err error
	if d.plugin, d.creator, err = creatorOf(plugins, o.Driver); err != nil {
		return nil, err
	}
	if d.subnets, err = o.match(); err != nil {
		return nil, err
	}
	conf, err := d.configure(d.subnets, o.IPv6)
	if err != nil {
		return nil, err
	}
	if d.Description, err = d.plugin.Describe(o.Name, conf); err != nil {
		return nil, err
	}
	return d, d.families()
}

// families finds out which families are to get a subnet.
func (d *Draft) families() error {
	has4, has6 := network.HasFamily(d.IPAM.Own.Subnets, false), network.HasFamily(d.IPAM.Own.Subnets, true)
	with4 := d.options.IPv4 == nil || *d.options.IPv4
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
	return encode(conf)
}

// ipamOptions reads --ipam-driver and --ipam-opt: what dipam has and Docker
// does not.
func (o *Options) ipamOptions(raw *ipam.Raw) error {
	switch o.IPAMDriver {
	case "", "default", "dipam":
	default:
		return fmt.Errorf("invalid ipam driver: %q", o.IPAMDriver)
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
	for i, p := range subnets {
		list[i] = ipam.RawSubnet{Subnet: p.String()}
		for _, given := range d.subnets {
			if given.Subnet == list[i].Subnet {
				list[i] = given
			}
		}
	}
	plugin, err := d.configure(list, nil) // an IPv6 subnet says it
	if err != nil {
		return nil, err
	}
	if _, err := d.plugin.Describe(d.options.Name, plugin); err != nil {
		return nil, err
	}
	return EncodeConflist(d.options.Name, plugin, d.options.Labels, d.options.Attachable)
}

// encode is json.Marshal for people: < stays what it is.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}
