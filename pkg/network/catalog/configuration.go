package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"

	"dcni/pkg/ipam"
	"dcni/pkg/network"
)

// A Configuration is a network that only configures others: what `dnet create
// --config-only` was told, for `dnet create --config-from`. No container can be attached to
// it, and nothing of it is checked before it is used but its subnets.
type Configuration struct {
	Name        string            `json:"name"`
	Labels      map[string]string `json:"labels,omitempty"`
	Options     map[string]string `json:"options,omitempty"` // of the driver that will use it
	IPv4        *bool             `json:"ipv4,omitempty"`
	IPv6        *bool             `json:"ipv6,omitempty"`
	IPAMDriver  string            `json:"ipamDriver,omitempty"` // as in [Options]; "": the default
	IPAMOptions map[string]string `json:"ipamOptions,omitempty"`
	Subnets     []ipam.RawSubnet  `json:"subnets,omitempty"`
}

// Configuration returns the configuration network that the options make. The errors are
// Docker's.
func (o *Options) Configuration() (*Configuration, error) {
	if err := o.checkName(); err != nil {
		return nil, err
	}
	switch {
	case o.Internal || o.Attachable:
		return nil, errors.New("configuration network can only contain network specific fields. " + //nolint:staticcheck // Docker's sentence
			"Network operator fields like [ ingress | internal | attachable | scope ] are not supported.")
	case o.ConfigFrom != "":
		return nil, errors.New("a configuration network cannot depend on another configuration network")
	}
	subnets, err := o.match()
	if err != nil {
		return nil, err
	}
	c := &Configuration{
		Name: o.Name, Labels: o.Labels, Options: o.DriverOptions, IPv4: o.IPv4, IPv6: o.IPv6,
		IPAMOptions: o.IPAMOptions, Subnets: subnets,
	}
	if o.addressKind() != "dipam" {
		c.IPAMDriver = o.IPAMDriver
	}
	return c, nil
}

// Configure gives the options of a network what a configuration network says. The errors
// are Docker's.
func (c *Configuration) Configure(o *Options) error {
	switch {
	case o.addressKind() != "dipam" || o.IPv6 != nil && *o.IPv6 || len(o.Labels) > 0 || len(o.IPAMOptions) > 0 ||
		len(o.Subnets) > 0 || len(o.Pools) > 0 || len(o.Ranges) > 0 || len(o.Gateways) > 0 || len(o.Aux) > 0:
		return errors.New("user specified configurations are not supported if the network depends on a configuration network")
	case len(o.DriverOptions) > 0:
		return errors.New("network driver options are not supported if the network depends on a configuration network")
	}
	o.ConfigFrom, o.IPv6, o.IPAMDriver = c.Name, c.IPv6, c.IPAMDriver
	if o.IPv4 == nil {
		o.IPv4 = c.IPv4
	}
	o.Labels, o.DriverOptions, o.IPAMOptions = maps.Clone(c.Labels), maps.Clone(c.Options), maps.Clone(c.IPAMOptions)
	return o.SetSubnets(c.Subnets)
}

// SetSubnets gives options the subnets that others have.
func (o *Options) SetSubnets(list []ipam.RawSubnet) error {
	o.Subnets, o.Ranges, o.Gateways, o.Aux, o.Pools = nil, nil, nil, map[string]string{}, nil
	for _, s := range list {
		o.Subnets = append(o.Subnets, s.Subnet)
		if s.IPRange != "" {
			p, err := netip.ParsePrefix(s.IPRange)
			if err != nil {
				return fmt.Errorf("ip-range %q: must be an address and a length, as 10.1.0.0/24", s.IPRange)
			}
			o.Ranges = append(o.Ranges, p)
		}
		if s.Gateway != "" {
			a, err := netip.ParseAddr(s.Gateway)
			if err != nil {
				return fmt.Errorf("gateway %q: must be an address", s.Gateway)
			}
			o.Gateways = append(o.Gateways, a)
		}
		maps.Copy(o.Aux, s.AuxAddresses)
	}
	return nil
}

// Encode returns the configuration network's file.
func (c *Configuration) Encode() ([]byte, error) {
	data, err := json.MarshalIndent(c, "", "  ")
	return append(data, '\n'), err
}

// ParseConfiguration reads a configuration network's file. What dnet create --config-only would
// not have written is an error.
func ParseConfiguration(data []byte) (*Configuration, error) {
	c := &Configuration{}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(data[d.InputOffset():])) > 0 {
		return nil, fmt.Errorf("has more behind the JSON, at byte %d", d.InputOffset())
	}
	o := &Options{Name: c.Name}
	if err := o.SetSubnets(c.Subnets); err != nil {
		return nil, err
	}
	if _, err := o.match(); err != nil {
		return nil, err
	}
	return c, checkName(c.Name)
}

// Conflist shows a configuration network among others. As with Docker its driver is null.
func (c *Configuration) Conflist() *Conflist {
	l := &Conflist{Name: c.Name, Driver: "null", Labels: map[string]string{}, Configuration: c}
	maps.Copy(l.Labels, c.Labels)
	return l
}

// facts are those of a configuration network.
func (c *Configuration) facts() (Facts, error) {
	f := Facts{IPv4: c.IPv4 == nil || *c.IPv4, IPv6: c.IPv6 != nil && *c.IPv6, Options: map[string]string{}, IPAM: "default", IPAMOptions: map[string]string{}}
	maps.Copy(f.Options, c.Options)
	maps.Copy(f.IPAMOptions, c.IPAMOptions)
	if c.IPAMDriver != "" {
		f.IPAM = c.IPAMDriver
	}
	cfg, err := ipam.Raw{Subnets: c.Subnets, Ungated: ipam.Ungated{IPv4: true, IPv6: true}}.Config()
	f.Subnets = cfg.Subnets
	f.IPv6 = f.IPv6 || network.HasFamily(f.Subnets, true)
	return f, err
}
