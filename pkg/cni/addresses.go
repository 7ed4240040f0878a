package cni

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// ConfDir is where runtimes keep networks: what a conflist here names is in
// use, though nothing is attached to it.
const ConfDir = "/etc/cni/net.d"

// A lease is what an attachment got: its addresses, and what comes with them.
type lease struct {
	addresses []ipam.Assigned
	subnets   []ipam.Subnet // all of the network's
	routes    []ipam.Route
	dns       *network.DNS
	from      records.IPAM
}

// facts is what dipam asks of the machine.
type facts interface {
	// Routes lists the host's routes.
	Routes() ([]ipam.HostRoute, error)
	// Nameservers lists the servers of the host's resolv.conf.
	Nameservers() []netip.Addr
	// ID is what tells this host from others.
	ID() string
}

// source returns where a network's addresses come from: dipam is called within
// the process, which saves one; any other plugin is executed.
func source(store records.Store, f facts) func(Network) addresses {
	return func(n Network) addresses {
		switch n.IPAM.Type {
		case "dipam", "":
			return own{store: store, facts: f, network: n}
		}
		return delegate{plugin: n.IPAM.Type}
	}
}

// own is dipam within the process.
type own struct {
	store   records.Store
	facts   facts
	network Network
}

func (o own) leases() records.Leases {
	return o.store.Leases(o.network.IPAM.Own.DataDir, o.network.Name)
}

func (o own) claim(r *Request) (*lease, error) {
	registry := o.store.Networks(o.network.IPAM.Own.DataDir)
	_, err := registry.Get(o.network.Name)
	fresh := errors.Is(err, os.ErrNotExist)
	cfg, err := o.config(registry)
	if err != nil {
		return nil, err
	}
	l, err := o.claimFrom(r, cfg)
	if err != nil && fresh {
		// A network whose first attachment fails is not one yet.
		return nil, errors.Join(err, o.leases().Forget(), registry.Forget(o.network.Name))
	}
	return l, err
}

func (o own) claimFrom(r *Request, cfg ipam.Config) (*lease, error) {
	ranges, err := cfg.Ranges(r.Ranges)
	if err != nil {
		return nil, err
	}
	req := ipam.Request{Owner: r.Attachment, Name: r.Name, Static: r.Static, Ranges: ranges}
	assigned, err := o.leases().Claim(req, cfg)
	if err != nil {
		return nil, err
	}
	return &lease{
		addresses: assigned, subnets: withRanges(cfg.Subnets, ranges), routes: cfg.Routes, dns: o.network.DNS,
		from: records.IPAM{Type: "dipam", DataDir: cfg.DataDir},
	}, nil
}

// withRanges adds the subnets that only the runtime's ranges name.
func withRanges(subnets []ipam.Subnet, ranges []ipam.Set) []ipam.Subnet {
	out := slices.Clone(subnets)
	for _, span := range slices.Concat(ranges...) {
		if !slices.ContainsFunc(out, func(s ipam.Subnet) bool { return s.Prefix == span.Subnet }) {
			out = append(out, ipam.Subnet{Prefix: span.Subnet, Range: span.Subnet, Gateway: span.Gateway})
		}
	}
	return out
}

// config returns the configuration with the subnets that the registry gives
// the network besides those it names.
func (o own) config(registry records.Networks) (ipam.Config, error) {
	cfg := o.network.IPAM.Own
	reg := records.Registration{
		Name: o.network.Name, Bridge: o.network.Bridge,
		WantPool: len(cfg.Subnets) == 0, WantULA: o.network.Families.ULA,
		HostID: o.facts.ID(), Avoid: o.avoid, Alive: o.alive,
	}
	for _, s := range cfg.Subnets {
		reg.Explicit = append(reg.Explicit, s.Prefix)
	}
	all, err := registry.Register(reg)
	if err != nil {
		return cfg, err
	}
	for _, p := range all {
		if !slices.Contains(reg.Explicit, p) {
			cfg = cfg.With(p)
		}
	}
	slices.SortStableFunc(cfg.Subnets, func(a, b ipam.Subnet) int {
		return a.Prefix.Addr().BitLen() - b.Prefix.Addr().BitLen()
	})
	return cfg, nil
}

// avoid lists what a subnet from the pools must not overlap. The network's own
// bridge may be there from before: its routes are no obstacle.
func (o own) avoid() ([]netip.Prefix, error) {
	routes, err := o.facts.Routes()
	if err != nil {
		return nil, err
	}
	return ipam.Avoid(routes, o.facts.Nameservers(), nil), nil
}

// alive reports whether anything but a lease still names a network: a conflist,
// or a route of its subnet on this host.
func (o own) alive(n records.Network) bool {
	if configured(ConfDir, n.Name) {
		return true
	}
	routes, err := o.facts.Routes()
	if err != nil {
		return true // to give a subnet away that is in use would be worse
	}
	return slices.ContainsFunc(routes, func(r ipam.HostRoute) bool {
		return r.OnLink && slices.Contains(n.Subnets, r.Dst)
	})
}

// configured reports whether a file of a directory configures a network.
func configured(dir, name string) bool {
	for _, pattern := range []string{"*.conflist", "*.conf", "*.json"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return true
		}
		for _, f := range files {
			var conf struct {
				Name string `json:"name"`
			}
			if data, err := os.ReadFile(f); err == nil && json.Unmarshal(data, &conf) == nil && conf.Name == name {
				return true
			}
		}
	}
	return false
}

func (o own) release(r *Request) error { return o.leases().Release(r.Attachment) }

func (o own) check(r *Request, have []ipam.Assigned) error {
	addrs := make([]netip.Addr, len(have))
	for i, a := range have {
		addrs[i] = a.Address.Addr()
	}
	return o.leases().Check(r.Attachment, addrs)
}

func (o own) collect(_ *Request, valid func(wire.Attachment) bool) error {
	_, err := o.leases().ReleaseExcept(valid)
	return err
}

// status tells whether an address is free. A network that never had one yet
// has no subnet of the pools to be full.
func (o own) status(_ *Request) error {
	cfg := o.network.IPAM.Own
	known, err := o.store.Networks(cfg.DataDir).Get(o.network.Name)
	if err == nil && len(cfg.Subnets) == 0 {
		cfg = cfg.With(known.Subnets...)
	}
	if len(cfg.Subnets) == 0 {
		return nil
	}
	return o.leases().Full(cfg)
}

// looseIPAM reads which IPAM a configuration names, whatever else is wrong
// with it: to delete, no more is needed.
func looseIPAM(conf []byte) network.IPAM {
	var c struct {
		IPAM struct {
			Type    string `json:"type"`
			DataDir string `json:"dataDir"`
		} `json:"ipam"`
	}
	i := network.IPAM{Type: "dipam"}
	if json.Unmarshal(conf, &c) == nil && c.IPAM.Type != "" {
		i.Type, i.Own.DataDir = c.IPAM.Type, c.IPAM.DataDir
	}
	return i
}
