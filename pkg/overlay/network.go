package overlay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
	"dcni/pkg/wire"
)

// A Wanted is a network to be made. What is zero of it is chosen: VNI, MTU, the gateways
// and ranges of subnets, and without subnets one of IPv4 out of the cluster's pools.
type Wanted struct {
	Name string `json:"name"`
	Network
	IPv6   bool           `json:"ipv6,omitempty"`   // without an IPv6 subnet, one is chosen
	NoIPv4 bool           `json:"noIPv4,omitempty"` // without an IPv4 subnet, none is chosen
	Avoid  []netip.Prefix `json:"avoid,omitempty"`  // what a subnet that is chosen must not overlap

	Ungated ipam.Ungated `json:"-"` // families whose subnets have no gateway

	runs bool // containers are on it: it is what it is
}

// CreateNetwork makes a network that overlaps no other, on whichever nodes they are made
// at the same time: each writes the meta entry again, as long as that is as it read it.
// Networks and nodes that can't be read are passed over: what they have can't be avoided, but
// for their VNIs.
// Errors are of code 7, and 11 where nothing is left.
func (c Cluster) CreateNetwork(ctx context.Context, w Wanted) (Existing, error) {
	var made Existing
	err := w.check()
	if err != nil {
		return made, err
	}
	warned := map[string]bool{}
	if warn := c.Warn; warn != nil { // once, however often it is tried
		c.Warn = func(err error) {
			if !warned[err.Error()] {
				warn(err)
			}
			warned[err.Error()] = true
		}
	}
	err = again("network "+w.Name, func() (done bool, err error) {
		made, done, err = c.create(ctx, w)
		return done, err
	})
	return made, err
}

// check refuses what no cluster can have.
func (w Wanted) check() error {
	switch {
	case !network.ValidName(w.Name):
		return wire.Invalid("name", w.Name, "must be "+network.NameRule)
	case catalog.Predefined(w.Name):
		return fmt.Errorf("operation is not permitted on predefined %s network", w.Name)
	case w.VNI != 0 && (w.VNI < MinVNI || w.VNI > MaxVNI):
		return wire.Invalid("vni", w.VNI, fmt.Sprintf("must be 0 (chosen) or %d to %d", MinVNI, MaxVNI))
	}
	return network.CheckLength(w.Name)
}

// create tries once. It is not done where another network was made at the same time.
func (c Cluster) create(ctx context.Context, w Wanted) (made Existing, done bool, err error) {
	entry, err := c.Store.Get(ctx, c.Keys.Meta())
	if errors.Is(err, ErrNotFound) {
		return made, false, fmt.Errorf("%s: %w: dnet cluster init makes the cluster", c.Keys.Meta(), err)
	}
	if err != nil {
		return made, false, err
	}
	meta, err := read[Meta](entry)
	if err != nil {
		return made, false, err
	}
	others, err := c.others(ctx)
	if err != nil {
		return made, false, err
	}
	nodes, err := c.Nodes(ctx)
	if _, err = c.passOver(err); err != nil {
		return made, false, err
	}
	n, err := w.fit(&meta, others, nodes)
	if err != nil {
		return made, false, err
	}
	txn := Txn{
		If:   []Condition{unchanged(entry), {Key: c.Keys.Network(w.Name)}, {Key: c.Keys.VNI(n.VNI)}},
		Then: []Change{put(c.Keys.Meta(), meta), put(c.Keys.Network(w.Name), n), {Key: c.Keys.VNI(n.VNI), Value: []byte(w.Name)}},
	}
	done, revision, err := c.Store.Commit(ctx, txn)
	return Existing{Name: w.Name, Generation: revision, Network: n}, done, err
}

// others returns the networks that there are. Of those that can't be read they are a name,
// and the VNI that another key tells.
func (c Cluster) others(ctx context.Context) ([]Existing, error) {
	list, err := c.Networks(ctx)
	unread, err := c.passOver(err)
	if err != nil || len(unread) == 0 {
		return list, err
	}
	vnis, err := c.vnis(ctx)
	for _, name := range unread {
		list = append(list, Existing{Name: name, Network: Network{VNI: vnis[name]}})
	}
	return list, err
}

// vnis returns which VNI networks have, by name.
func (c Cluster) vnis(ctx context.Context) (map[string]int, error) {
	prefix := c.Keys.Prefix + "vni/"
	entries, err := c.list(ctx, prefix)
	of := make(map[string]int, len(entries))
	for _, e := range entries {
		if n, err := strconv.Atoi(strings.TrimPrefix(e.Key, prefix)); err == nil {
			of[string(e.Value)] = n
		}
	}
	return of, err
}

// fit returns the network as it fits between the others, and moves the meta entry's next
// VNI on.
func (w Wanted) fit(meta *Meta, others []Existing, nodes map[string]Node) (Network, error) {
	n := w.Network
	if n.ID == "" {
		n.ID = network.ID(w.Name)
	}
	for _, o := range others {
		switch {
		case o.Name == w.Name:
			return n, fmt.Errorf("network with name %s already exists", w.Name)
		case o.VNI == w.VNI && w.VNI != 0:
			return n, wire.Invalid("vni", w.VNI, fmt.Sprintf("is network %q's", o.Name))
		}
	}
	var err error
	if n.Subnets, err = w.subnets(*meta, others, nodes); err != nil {
		return n, err
	}
	if n.MTU, err = w.mtu(n.Subnets, nodes); err != nil {
		return n, err
	}
	if n.VNI == 0 {
		used := map[int]bool{}
		for _, o := range others {
			used[o.VNI] = true
		}
		if n.VNI, err = freeVNI(meta.NextVNI, func(vni int) bool { return used[vni] }); err != nil {
			return n, err
		}
		meta.NextVNI = n.VNI + 1
	}
	return n, nil
}

// freeVNI returns the first free VNI from one on, round to those before it. A VNI comes
// again late, so that a node which was cut off, and has a removed network still, does not
// meet a new one.
func freeVNI(from int, used func(int) bool) (int, error) {
	const all = MaxVNI - MinVNI + 1
	from = max(from, MinVNI) - MinVNI
	for i := range all {
		if vni := MinVNI + (from+i)%all; !used(vni) {
			return vni, nil
		}
	}
	return 0, wire.Errorf(wire.CodeTryAgain, "vni: all from %d to %d are networks': remove one", MinVNI, MaxVNI)
}

// mtu returns the network's MTU: as given, else as much as fits through the underlay of
// every node.
func (w Wanted) mtu(subnets []Subnet, nodes map[string]Node) (int, error) {
	const least, least6 = 68, 1280 // RFC 791; RFC 8200, section 5
	name, room := narrowest(nodes, w.Encrypted)
	lowest := least
	if slices.ContainsFunc(subnets, func(s Subnet) bool { return s.Prefix.Addr().Is6() }) {
		lowest = least6
	}
	switch {
	case w.runs:
		return w.MTU, nil
	case name == "":
		return 0, errors.New("the cluster has no nodes")
	case room < lowest:
		return 0, wire.Errorf(wire.CodeConfig, "mtu: must be at least %d, and the underlay of node %q, of %d bytes, has room for %d", lowest, name, nodes[name].MTU, room)
	case w.MTU == 0:
		return room, nil
	case w.MTU > room:
		return 0, wire.Invalid("mtu", w.MTU, fmt.Sprintf("must be at most %d: the underlay of node %q has %d bytes, and an overlay network needs %d of them",
			room, name, nodes[name].MTU, nodes[name].MTU-room))
	case w.MTU < lowest:
		return 0, wire.Invalid("mtu", w.MTU, fmt.Sprintf("must be 0 (the most that fits, %d) or %d to %d", room, lowest, room))
	}
	return w.MTU, nil
}

// subnets returns the network's subnets, those given and those chosen.
func (w Wanted) subnets(meta Meta, others []Existing, nodes map[string]Node) ([]Subnet, error) {
	given := ipam.Raw{Ungated: w.Ungated}
	if w.runs { // its gateways are those that it has
		given.Ungated = ipam.Ungated{IPv4: true, IPv6: true}
	}
	for _, s := range w.Subnets {
		given.Subnets = append(given.Subnets, s.raw())
	}
	cfg, err := given.Config()
	if err != nil {
		return nil, err
	}
	var has4, has6 bool
	for _, s := range cfg.Subnets {
		if err := collides(s.Prefix, others, nodes); err != nil {
			return nil, err
		}
		has4, has6 = has4 || s.Prefix.Addr().Is4(), has6 || s.Prefix.Addr().Is6()
	}
	avoid := avoided(w.Avoid, cfg, others, nodes)
	if !has4 && !w.NoIPv4 {
		p, err := choose(meta, avoid)
		if err != nil {
			return nil, err
		}
		cfg, avoid = cfg.With(p), append(avoid, p)
	}
	if w.IPv6 && !has6 {
		p, err := ipam.ChooseULA(meta.Cluster, w.Name, avoid)
		if err != nil {
			return nil, err
		}
		cfg = cfg.With(p)
	}
	if len(cfg.Subnets) == 0 {
		return nil, errors.New("IPv4 or IPv6 must be enabled")
	}
	out := make([]Subnet, len(cfg.Subnets))
	for i, s := range cfg.Subnets {
		out[i] = subnetOf(s)
	}
	return out, nil
}

// collides refuses a subnet that is another network's, or in which a node is: its
// address on the underlay would be looked for on the network.
func collides(p netip.Prefix, others []Existing, nodes map[string]Node) error {
	for _, o := range others {
		for _, s := range o.Subnets {
			if s.Prefix.Overlaps(p) {
				return wire.Invalid("subnet", p, fmt.Sprintf("Pool overlaps with other one on this address space: network %q has %s", o.Name, s.Prefix))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		if a := nodes[name].Address; p.Contains(a) {
			return wire.Invalid("subnet", p, fmt.Sprintf("must not contain a node: %q has %s", name, a))
		}
	}
	return nil
}

// avoided lists what a subnet that is chosen must not overlap.
func avoided(avoid []netip.Prefix, cfg ipam.Config, others []Existing, nodes map[string]Node) []netip.Prefix {
	out := slices.Clone(avoid)
	for _, s := range cfg.Subnets {
		out = append(out, s.Prefix)
	}
	for _, o := range others {
		for _, s := range o.Subnets {
			out = append(out, s.Prefix)
		}
	}
	for _, n := range nodes {
		if a := n.Address.Unmap(); a.IsValid() {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return out
}

// choose returns the first subnet of the pools that overlaps nothing to be avoided.
func choose(meta Meta, avoid []netip.Prefix) (netip.Prefix, error) {
	for _, pool := range meta.Pools {
		bits := max(meta.Mask, pool.Bits())
		for p := netip.PrefixFrom(pool.Masked().Addr(), bits); p.Addr().IsValid() && pool.Contains(p.Addr()); {
			i := slices.IndexFunc(avoid, p.Overlaps)
			if i < 0 {
				return p, nil
			}
			// Behind what it overlaps, which may be far larger.
			p = behind(p, avoid[i])
		}
	}
	return netip.Prefix{}, wire.Errorf(wire.CodeTryAgain, "all predefined address pools have been fully subnetted")
}

// behind returns the first prefix of p's length behind it and one that it overlaps, the
// zero prefix behind the last.
func behind(p, other netip.Prefix) netip.Prefix {
	bits := min(p.Bits(), other.Bits()) // of the larger of the two, which contains the other
	b := netip.PrefixFrom(p.Addr(), bits).Masked().Addr().AsSlice()
	for bit := bits - 1; bit >= 0; bit-- {
		b[bit/8] ^= 0x80 >> (bit % 8)
		if b[bit/8]&(0x80>>(bit%8)) != 0 {
			next, _ := netip.AddrFromSlice(b)
			return netip.PrefixFrom(next, p.Bits())
		}
	}
	return netip.Prefix{}
}

// raw is the subnet as configurations write it.
func (s Subnet) raw() ipam.RawSubnet {
	r := ipam.RawSubnet{Subnet: s.Prefix.String()}
	if s.Range.IsValid() && s.Range != s.Prefix {
		r.IPRange = s.Range.String()
	}
	if s.Gateway.IsValid() {
		r.Gateway = s.Gateway.String()
	}
	for name, a := range s.Aux {
		if r.AuxAddresses == nil {
			r.AuxAddresses = map[string]string{}
		}
		r.AuxAddresses[name] = a.String()
	}
	return r
}

// IPAM is the subnet as addresses are given from it.
func (s Subnet) IPAM() ipam.Subnet {
	if !s.Range.IsValid() {
		s.Range = s.Prefix
	}
	return ipam.Subnet{Prefix: s.Prefix, Range: s.Range, Gateway: s.Gateway, Aux: s.Aux}
}

// equal reports whether addresses are given alike from two subnets.
func (s Subnet) equal(other Subnet) bool {
	a, b := s.IPAM(), other.IPAM()
	return a.Prefix == b.Prefix && a.Range == b.Range && a.Gateway == b.Gateway && maps.Equal(a.Aux, b.Aux)
}

func subnetOf(s ipam.Subnet) Subnet {
	out := Subnet{Prefix: s.Prefix, Gateway: s.Gateway, Aux: s.Aux}
	if s.Range != s.Prefix {
		out.Range = s.Range
	}
	return out
}

// IPAM is how addresses are given from the network.
func (n Network) IPAM() ipam.Config {
	c := ipam.Config{Allocation: ipam.NextFit}
	for _, s := range n.Subnets {
		c.Subnets = append(c.Subnets, s.IPAM())
	}
	return c
}

// RemoveNetwork removes a network that no node has a container on, and that has no services.
// A claim that is made at the same time is either seen, and the network stays, or fails.
func (c Cluster) RemoveNetwork(ctx context.Context, name string) error {
	return again("network "+name, func() (bool, error) { return c.removeNetwork(ctx, name) })
}

func (c Cluster) removeNetwork(ctx context.Context, name string) (done bool, err error) {
	n, err := c.removable(ctx, name)
	if err != nil {
		return false, err
	}
	use, err := c.get(ctx, c.Keys.Use(name))
	if err != nil {
		return false, err
	}
	// Addresses before endpoints: of one that is claimed in between, the endpoint is seen.
	addrs, err := c.list(ctx, c.Keys.Addr(name, netip.Addr{}))
	if err != nil {
		return false, err
	}
	all, err := c.Endpoints(ctx, name)
	if err != nil {
		return false, err
	}
	eps, err := c.releaseAllLapsed(ctx, name, containers(all))
	if err != nil {
		return false, err
	}
	if len(eps) > 0 {
		return false, network.Refused(network.Forbidden, &catalog.InUseError{Network: name, Endpoints: endpointList(name, eps)})
	}
	if err := c.serviceless(ctx, name); err != nil {
		return false, err
	}
	// Nodes have these, or a node or a service that was removed left them.
	left := make([]Condition, 0, len(addrs))
	for _, e := range addrs {
		left = append(left, unchanged(e))
	}
	for _, e := range all {
		if e.OfNode() || e.OfIngress() {
			left = append(left, Condition{Key: c.Keys.Endpoint(name, e.Node, e.Attachment), Created: e.Created})
		}
	}
	for part := range slices.Chunk(left, MaxChanges-1) {
		txn := Txn{If: append([]Condition{unchanged(use)}, part...)} // a container that comes now needs them
		for _, e := range part {
			txn.Then = append(txn.Then, remove(e.Key))
		}
		if done, _, err := c.Store.Commit(ctx, txn); !done || err != nil {
			return false, err
		}
	}
	done, _, err = c.Store.Commit(ctx, Txn{
		If:   []Condition{{Key: c.Keys.Network(name), Created: n.Generation}, unchanged(use)},
		Then: []Change{remove(c.Keys.Network(name)), remove(c.Keys.VNI(n.VNI)), remove(use.Key)},
	})
	return done, err
}

// removable returns a network that is to be removed. One that can't be read may go as well.
func (c Cluster) removable(ctx context.Context, name string) (Existing, error) {
	n, err := c.Network(ctx, name)
	if err == nil || n.Generation == 0 {
		return n, err
	}
	vnis, err := c.vnis(ctx)
	n.VNI = vnis[name]
	return n, err
}

// endpointList lists endpoints as Docker does, and where they are.
func endpointList(name string, eps []Placed) string {
	const shown = 10
	var list []string
	for i, e := range eps {
		if i == shown {
			list = append(list, fmt.Sprintf("and %d more", len(eps)-shown))
			break
		}
		who := e.Name
		if who == "" {
			who = e.Container
		}
		list = append(list, fmt.Sprintf("name:%q id:%q on node %s", who, e.attachment(name).EndpointID()[:network.ShortID], e.Node))
	}
	return strings.Join(list, ", ")
}
