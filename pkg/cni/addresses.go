package cni

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"slices"

	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/records/leases"
	"dcni/pkg/records/registry"
	"dcni/pkg/wire"
)

// A Lease is what an attachment got: its addresses, and what comes with them.
type Lease struct {
	Addresses []ipam.Assigned
	Subnets   []ipam.Subnet // all of the network's
	Routes    []ipam.Route
	DNS       *network.DNS
	From      records.IPAM
	Reused    bool             // an address may have been another's not long ago
	Overlay   *network.Overlay // what the cluster says of an overlay network; nil for others
	Fresh     bool             // the network was registered for it
	Before    registry.Network // else: how it was registered before
}

// Facts is what dipam asks of the machine.
type Facts interface {
	// Routes lists the host's routes.
	Routes() ([]ipam.HostRoute, error)
	// Nameservers lists the servers of the host's resolv.conf.
	Nameservers() []netip.Addr
	// ID is what tells this host from others.
	ID() string
}

// Source returns where a network's addresses come from: dipam is called within
// the process, which saves one, and so is the cluster; any other plugin is executed.
func Source(store records.Store, f Facts, open OpenCluster) func(network.Description) Addresses {
	return func(n network.Description) Addresses {
		switch n.IPAM.Type {
		case network.IPAMCluster:
			return clusterSource{open: open, store: store, queue: store.Cluster(), network: n}
		case "dipam", "":
			return dipamSource{store: store, facts: f, network: n}
		}
		d := delegate{plugin: n.IPAM.Type, dns: n.DNS, gateways: n.Parent == nil}
		if d.plugin == "dhcp" {
			return throughLink{d}
		}
		return d
	}
}

// dipamSource is dipam within the process.
type dipamSource struct {
	store   records.Store
	facts   Facts
	network network.Description
}

// Replace remembers what machines on the LAN have, and gets other addresses in place of
// those.
func (o dipamSource) Replace(r *Request, l *Lease, taken []wire.Conflict) error {
	if err := o.leases().MarkOthers(taken); err != nil {
		return err
	}
	next, err := o.Claim(r)
	if err != nil {
		return err
	}
	next.Fresh, next.Before = l.Fresh, l.Before
	*l = *next
	return nil
}

func (o dipamSource) leases() leases.Leases {
	return leases.Of(o.store, o.network.IPAM.Own.DataDir, o.network.Name)
}

func (o dipamSource) Claim(r *Request) (*Lease, error) {
	registry := o.registry()
	for {
		before, err := registry.Get(o.network.Name)
		fresh := errors.Is(err, os.ErrNotExist)
		cfg, err := o.config(registry)
		if err != nil {
			return nil, err
		}
		l, err := o.claimFrom(r, cfg)
		if err != nil {
			return nil, errors.Join(err, o.unregister(fresh, before))
		}
		l.Fresh, l.Before = fresh, before
		if _, err = registry.Get(o.network.Name); err == nil {
			return l, nil
		}
		// Another's ADD, the network's first, failed between the two and took
		// the registration back. With our lease there, no ADD does so again.
		if err := o.Release(r); err != nil {
			return nil, err
		}
	}
}

func (o dipamSource) registry() registry.Registry {
	return registry.Of(o.store, o.network.IPAM.Own.DataDir)
}

// unregister takes back what a claim that came to nothing said of the network:
// its new subnets, or all of it where it was the first, for then it is no
// network yet.
func (o dipamSource) unregister(fresh bool, before registry.Network) error {
	if !fresh {
		return o.registry().Restore(before)
	}
	lock, err := o.store.LockNetwork(o.network.Name)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	empty, err := o.leases().Locked().Forget()
	if err != nil || !empty {
		return err
	}
	return o.registry().Forget(o.network.Name)
}

// Abandon gives the addresses back, and the network where it was new.
func (o dipamSource) Abandon(r *Request, l *Lease) error {
	if err := o.Release(r); err != nil {
		return err
	}
	return o.unregister(l.Fresh, l.Before)
}

func (o dipamSource) claimFrom(r *Request, cfg ipam.Config) (*Lease, error) {
	ranges, err := cfg.Ranges(r.Ranges)
	if err == nil {
		err = o.inside(ranges)
	}
	if err != nil {
		return nil, err
	}
	req := ipam.Request{Owner: r.Attachment, Name: r.Name, Static: r.Static, Ranges: ranges}
	assigned, err := o.leases().Claim(req, cfg)
	if err != nil {
		return nil, err
	}
	return &Lease{
		Addresses: assigned, Subnets: withRanges(cfg.Subnets, ranges), Routes: cfg.Routes, DNS: o.network.DNS,
		From:   records.IPAM{Type: "dipam", DataDir: cfg.DataDir},
		Reused: len(r.Static) > 0 || cfg.Sticky || cfg.Allocation == ipam.Lowest,
	}, nil
}

// inside refuses ranges outside of the subnets that the network's configuration names: their
// addresses would reach nothing. Where it names none, the ranges say what the network's are, as
// the kubelet's of its node do.
func (o dipamSource) inside(ranges []ipam.Set) error {
	own := o.network.IPAM.Own.Subnets
	if len(own) == 0 {
		return nil
	}
	for _, span := range slices.Concat(ranges...) {
		if !slices.ContainsFunc(own, func(s ipam.Subnet) bool { return s.Prefix == span.Subnet }) {
			return wire.Invalid("runtimeConfig.ipRanges", span.Subnet, "must be of a subnet of the network")
		}
	}
	return nil
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
func (o dipamSource) config(registry registry.Registry) (ipam.Config, error) {
	cfg, reg := o.network.IPAM.Own, o.registration()
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

func (o dipamSource) registration() registry.Registration { return Register(o.network, o.facts) }

// Register returns what a network asks of the registry.
func Register(n network.Description, f Facts) registry.Registration {
	subnets := n.IPAM.Own.Subnets
	reg := registry.Registration{
		Name: n.Name, Bridge: n.Link,
		WantPool: len(subnets) == 0 && !n.Families.Refuse4, WantULA: n.Families.ULA,
		HostID: f.ID(),
		Avoid:  func() ([]netip.Prefix, error) { return avoid(n, f) },
		Alive:  func(known registry.Network) bool { return alive(known, f) },
	}
	for _, s := range subnets {
		reg.Explicit = append(reg.Explicit, s.Prefix)
		if n.OnLAN() {
			reg.Ranges = append(reg.Ranges, s.Range)
		}
	}
	return reg
}

// avoid lists what a subnet from the pools must not overlap. The network's own
// bridge may be there from before: its routes are no obstacle.
func avoid(n network.Description, f Facts) ([]netip.Prefix, error) {
	routes, err := f.Routes()
	if err != nil {
		return nil, err
	}
	list := ipam.Avoid(routes, f.Nameservers(), nil)
	if !n.Default() {
		list = append(list, ipam.FirstPool())
	}
	return list, nil
}

// alive reports whether anything but a lease still names a network: a file where
// runtimes keep networks or the one that dnet made, or a route of its subnet on
// this host.
func alive(n registry.Network, f Facts) bool {
	if n.Conf != "" && records.Configured(n.Conf, n.Name) || records.DefaultConfDir().Configures(n.Name) {
		return true
	}
	routes, err := f.Routes()
	if err != nil {
		return true // to give a subnet away that is in use would be worse
	}
	return slices.ContainsFunc(routes, func(r ipam.HostRoute) bool {
		return r.OnLink && slices.Contains(n.Subnets, r.Dst)
	})
}

func (o dipamSource) Release(r *Request) error { return o.leases().Release(r.Attachment) }

func (o dipamSource) Check(r *Request, have []ipam.Assigned) error {
	addrs := make([]netip.Addr, len(have))
	for i, a := range have {
		addrs[i] = a.Address.Addr()
	}
	return o.leases().Check(r.Attachment, addrs)
}

func (o dipamSource) Collect(_ *Request, valid func(wire.Attachment) bool) error {
	_, err := o.leases().ReleaseExcept(valid)
	return err
}

// Status tells whether the network can have its subnets, and an address of them
// is free. One that has none of the pools yet has none that is full.
func (o dipamSource) Status(_ *Request) error {
	cfg := o.network.IPAM.Own
	if err := o.registry().Probe(o.registration()); err != nil {
		return &wire.Error{Code: wire.CodeUnavailable, Msg: "network " + o.network.Name + " can't be served", Err: err}
	}
	known, err := o.registry().Get(o.network.Name)
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
