package overlay

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"dcni/pkg/names"
	"dcni/pkg/wire"
)

// A Picture is what a node knows of a network: which nodes there are, which endpoints on
// them, and which services. It is fed with entries and changes of the keys of [Picture.Prefixes]. It is
// not to be used by several goroutines at once.
type Picture struct {
	Keys    Keys
	Self    string // this node's name
	Network string
	Flood   bool   // see [wire.Vxlan]
	NoIPv6  bool   // IPv6 is off on the bridge, see [wire.Peers]
	Bridge  string // links of this node
	Vxlan   string

	nodes     map[string]Node
	endpoints map[Owner]*Placed // what they point to never changes
	services  map[string]Service

	order      []Owner                  // of endpoints, sorted
	claimants  map[netip.Addr][]*Placed // of an address, the newest first, which has it
	bearers    map[string][]*Placed     // of a MAC, likewise
	linkLocals map[string]netip.Addr    // see LinkLocals; nil: not known
	underlay   []netip.Addr             // see Underlay; nil: not known
	told       map[Owner][]wire.Object  // what Changes has returned, by endpoint, and by node with no attachment
	changed    map[Owner]bool           // what it is to look at

	named   []Owner        // endpoints that have names, sorted
	lines   []names.Entry  // of these
	renamed map[Owner]bool // endpoints that Names is to look at
}

// Prefixes are those of the keys that the picture is made of: of nodes, of endpoints and of
// services. Each node that comes after endpoints has all of these looked at.
func (p *Picture) Prefixes() []string {
	return []string{p.Keys.Node(""), p.Keys.Endpoint(p.Network, "", ""), p.Keys.Service(p.Network, "")}
}

// Reset takes what a list of a prefix returned: what is not in it is gone. It goes on past
// values that can't be read.
func (p *Picture) Reset(prefix string, entries []Entry) error {
	here := make(map[string]bool, len(entries))
	for _, e := range entries {
		here[e.Key] = true
	}
	for _, key := range p.keysOf(prefix) {
		if !here[key] {
			_ = p.Apply(Event{Entry: Entry{Key: key}, Deleted: true}) // no value to be read
		}
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, p.Apply(Event{Entry: e}))
	}
	return errors.Join(errs...)
}

// keysOf returns the keys of what the picture has below a prefix.
func (p *Picture) keysOf(prefix string) (list []string) {
	if prefix == p.Keys.Node("") {
		for name := range p.nodes {
			list = append(list, prefix+name)
		}
		return list
	}
	if prefix == p.Keys.Service(p.Network, "") {
		for name := range p.services {
			list = append(list, prefix+name)
		}
		return list
	}
	for _, o := range p.order {
		list = append(list, p.Keys.Endpoint(p.Network, o.Node, o.Attachment))
	}
	return list
}

// Apply takes a change. A value that can't be read changes nothing.
func (p *Picture) Apply(e Event) error {
	if p.nodes == nil {
		p.nodes, p.endpoints, p.services = map[string]Node{}, map[Owner]*Placed{}, map[string]Service{}
		p.told, p.changed, p.renamed = map[Owner][]wire.Object{}, map[Owner]bool{}, map[Owner]bool{}
		p.claimants, p.bearers = map[netip.Addr][]*Placed{}, map[string][]*Placed{}
	}
	if name, ok := strings.CutPrefix(e.Key, p.Keys.Node("")); ok {
		return p.applyNode(name, e)
	}
	if name, ok := strings.CutPrefix(e.Key, p.Keys.Service(p.Network, "")); ok {
		return p.applyService(name, e)
	}
	owner, ok := strings.CutPrefix(e.Key, p.Keys.Endpoint(p.Network, "", ""))
	if !ok {
		return nil
	}
	var now *Placed
	if !e.Deleted {
		placed, err := p.Keys.placed(p.Network, e.Entry)
		if err == nil {
			err = placed.check(e.Key)
		}
		if err != nil {
			return err
		}
		now = &placed
	}
	p.replace(ParseOwner([]byte(owner)), now)
	return nil
}

// usable reports whether packets can be sent to an address.
func usable(a netip.Addr) bool {
	return a.IsValid() && !a.Is4In6() && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast()
}

// check refuses what the kernel would not take, or would take for something else: one
// entry that can't be made keeps CHECK from being clean on all nodes, and a MAC of a group
// would lead frames to all to one node.
func (e Endpoint) check(key string) error {
	if !unicastMAC(e.MAC) {
		return fmt.Errorf("%s: mac %q: must be a unicast Ethernet address", key, e.MAC)
	}
	for _, a := range e.Addresses {
		if !usable(a) {
			return fmt.Errorf("%s: address %s: must be a container's", key, a)
		}
	}
	return nil
}

// unicastMAC reports whether a MAC is one of a link's, as the kernel and Go print it.
func unicastMAC(mac string) bool {
	const group = 1 // the bit of a group address (IEEE 802)
	octets, err := hex.DecodeString(strings.ReplaceAll(mac, ":", ""))
	return err == nil && len(mac) == len(wire.FloodMAC) && len(octets) == 6 && octets[0]&group == 0 && mac != wire.FloodMAC
}

// applyNode takes a change of a node, which changes what is on it and, as it may have the
// link-local address of another, what is on others.
func (p *Picture) applyNode(name string, e Event) error {
	was, there := p.nodes[name]
	if e.Deleted {
		delete(p.nodes, name)
	} else {
		n, err := read[Node](e.Entry)
		if err == nil && !usable(n.Address) {
			err = fmt.Errorf("%s: address %s: must be a host's", e.Key, n.Address)
		}
		if err != nil {
			return err
		}
		p.nodes[name] = n
		if there && n == was {
			return nil
		}
	}
	p.linkLocals, p.underlay = nil, nil
	for _, o := range p.order {
		p.changed[Owner{Node: o.Node}] = true
		if o.Node == name || name == p.Self {
			p.changed[o] = true
		}
	}
	return nil
}

// replace has an endpoint be as it is now, or nil.
func (p *Picture) replace(o Owner, now *Placed) {
	at, found := slices.BinarySearchFunc(p.order, o, compareOwners)
	if was := p.endpoints[o]; was != nil {
		p.mark(was)
		p.index(was, without)
		delete(p.endpoints, o)
	}
	if now != nil {
		p.endpoints[o] = now
		p.index(now, with)
		p.mark(now)
	}
	switch {
	case found && now == nil:
		p.order = slices.Delete(p.order, at, at+1)
	case !found && now != nil:
		p.order = slices.Insert(p.order, at, o)
	}
	p.touch(o)
}

// touch has Changes and Names look at an endpoint, and Changes at its node.
func (p *Picture) touch(o Owner) {
	p.changed[o], p.changed[Owner{Node: o.Node}], p.renamed[o] = true, true, true
}

// index enters an endpoint where its addresses and its MAC are looked up, or takes it out.
func (p *Picture) index(e *Placed, change func([]*Placed, *Placed) []*Placed) {
	for _, a := range e.Addresses {
		set(p.claimants, a, change(p.claimants[a], e))
	}
	set(p.bearers, e.MAC, change(p.bearers[e.MAC], e))
}

func set[K comparable](m map[K][]*Placed, key K, list []*Placed) {
	if len(list) == 0 {
		delete(m, key)
	} else {
		m[key] = list
	}
}

func with(list []*Placed, e *Placed) []*Placed {
	at, found := slices.BinarySearchFunc(list, e, newer)
	if found { // it has an address twice
		return list
	}
	return slices.Insert(list, at, e)
}

func without(list []*Placed, e *Placed) []*Placed {
	return slices.DeleteFunc(list, func(other *Placed) bool { return other == e })
}

// newer sorts the newest first.
func newer(a, b *Placed) int {
	return cmp.Or(cmp.Compare(b.Created, a.Created), compareOwners(a.Owner, b.Owner))
}

// mark has Changes look at all endpoints whose entries depend on one: those that claim
// its addresses, and those that have the MAC of one of these.
func (p *Picture) mark(e *Placed) {
	for _, a := range e.Addresses {
		for _, claimant := range p.claimants[a] {
			p.touch(claimant.Owner)
			for _, bearer := range p.bearers[claimant.MAC] {
				p.changed[bearer.Owner] = true
			}
		}
	}
}

// Endpoints returns the network's endpoints, those on this node too, by owner. Of two with
// one address, the newest has it: the other's node was cut off, and did not give it back.
// One that has none left is not among them.
func (p *Picture) Endpoints() []Placed {
	out := make([]Placed, 0, len(p.order))
	for e := range p.current() {
		out = append(out, *e)
	}
	return out
}

// current calls yield with each endpoint that has an address left, with those.
func (p *Picture) current() iter.Seq[*Placed] {
	return func(yield func(*Placed) bool) {
		for _, o := range p.order {
			if e := p.left(p.endpoints[o]); len(e.Addresses) > 0 && !yield(e) {
				return
			}
		}
	}
}

// left returns an endpoint with the addresses that no newer one has.
func (p *Picture) left(e *Placed) *Placed {
	lost := func(a netip.Addr) bool { return p.claimants[a][0].Owner != e.Owner }
	if !slices.ContainsFunc(e.Addresses, lost) {
		return e
	}
	older := *e
	older.Addresses = slices.DeleteFunc(slices.Clone(e.Addresses), lost)
	return &older
}

// hasMAC reports whether an endpoint has its MAC: the newest has, of those that have an
// address left.
func (p *Picture) hasMAC(e *Placed) bool {
	for _, bearer := range p.bearers[e.MAC] {
		if bearer.Owner == e.Owner {
			return true
		}
		if len(p.left(bearer).Addresses) > 0 {
			return false
		}
	}
	return false
}

func compareOwners(a, b Owner) int {
	return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Attachment, b.Attachment))
}

// Underlay returns the addresses of the cluster's nodes, this one's as well, sorted: VXLAN
// comes from them, and from no other machine.
func (p *Picture) Underlay() []netip.Addr {
	if p.underlay == nil {
		p.underlay = p.makeUnderlay()
	}
	return p.underlay
}

func (p *Picture) makeUnderlay() []netip.Addr {
	list := make([]netip.Addr, 0, len(p.nodes))
	for _, n := range p.nodes {
		list = append(list, n.Address)
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

// Objects returns the entries of what is on other nodes, in an order that is always the
// same. It is a desired set: dnetd applies it, and removes what is not in it from both
// links.
//
// Of each endpoint on another node they are: where the VXLAN device sends frames to its
// MAC, that the MAC is behind the device, the MAC of each of its addresses on the device,
// which answers local containers from it, and on the bridge, for what the host itself
// sends there. Of each other node with endpoints: the same of the MAC of its bridge (the
// router MAC), which is also that of the node's own addresses, with an address of
// 169.254.0.0/16 ([Picture.LinkLocals]) that routes can go through.
//
// Where a service of the network has ports of hosts, the host sends to the other node's router MAC, and has
// a way back to each node, see waysBack.
//
// With Flood the device answers nothing. The bridge does, from its own neighbour table.
// And frames to all go to each other node that has endpoints.
func (p *Picture) Objects() []wire.Object {
	objects := make([]wire.Object, 0, 4*len(p.order))
	node := ""
	for i, o := range p.order {
		if i == 0 || o.Node != node {
			node = o.Node
			objects = append(objects, p.now(Owner{Node: node})...)
		}
		objects = append(objects, p.now(o)...)
	}
	return objects
}

// now is what entries returns, from what Changes has told where that is so still.
func (p *Picture) now(o Owner) []wire.Object {
	if told, ok := p.told[o]; ok && !p.changed[o] {
		return told
	}
	return p.entries(o)
}

// Changes returns what differs between what [Picture.Objects] returned when Changes was
// last called and what it returns now: all entries of the nodes and endpoints that were
// changed, as they were and as they are. At first it returns all.
func (p *Picture) Changes() (was, now []wire.Object) {
	for _, o := range slices.SortedFunc(maps.Keys(p.changed), compareOwners) {
		objects := p.entries(o)
		was, now = append(was, p.told[o]...), append(now, objects...)
		if p.told[o] = objects; objects == nil {
			delete(p.told, o)
		}
	}
	p.changed = map[Owner]bool{} // after a list it has all
	return was, now
}

// inUse reports whether a node has endpoints with addresses left.
func (p *Picture) inUse(node Owner) bool {
	at, _ := slices.BinarySearchFunc(p.order, node, compareOwners)
	for _, o := range p.order[at:] {
		if o.Node != node.Node {
			return false
		}
		if len(p.left(p.endpoints[o]).Addresses) > 0 {
			return true
		}
	}
	return false
}

// entries returns those of an endpoint, or without an attachment of a node.
func (p *Picture) entries(o Owner) []wire.Object {
	if !p.reachable(o.Node) {
		return nil
	}
	router := RouterMAC(o.Node, p.Network)
	if o.Attachment == "" {
		if !p.inUse(o) {
			return nil
		}
		return p.toNode(o.Node, router, p.LinkLocals()[o.Node])
	}
	e := p.endpoints[o]
	if e == nil {
		return nil
	}
	var objects []wire.Object
	e = p.left(e)
	if len(e.Addresses) > 0 && p.hasMAC(e) && !e.OfNode() { // that one's are among the node's
		objects = p.toMAC(e.MAC, o.Node)
	}
	host := e.MAC
	if p.published() && !e.OfNode() && len(e.Addresses) > 0 && p.hasMAC(e) {
		// With bridge netfilter, what it sends to a port of its own node goes on with its MAC.
		host = router
		objects = append(objects, p.sender(e.MAC, p.LinkLocals()[o.Node]))
	}
	for _, a := range e.Addresses {
		objects = append(objects, p.neighbours(a, e.MAC, host)...)
	}
	return objects
}

// reachable reports whether frames can be sent to a node: another one, that is known, and
// of the family of this one's address, for a VXLAN device has one.
func (p *Picture) reachable(node string) bool {
	n, ok := p.nodes[node]
	if !ok || node == p.Self || !n.Address.IsValid() {
		return false
	}
	self, ok := p.nodes[p.Self]
	return !ok || self.Address.Is6() == n.Address.Is6()
}

func (p *Picture) toNode(node, router string, linkLocal netip.Addr) []wire.Object {
	objects := append(p.toMAC(router, node), &wire.Neigh{Dev: p.Bridge, IP: linkLocal, MAC: router})
	if p.Flood {
		objects = append(objects, &wire.FDB{Dev: p.Vxlan, MAC: wire.FloodMAC, Dst: p.nodes[node].Address})
	}
	if p.published() {
		objects = append(objects, p.waysBack(router, linkLocal)...)
	}
	return objects
}

// toMAC says which node a MAC is on, first to the device: the bridge's frames then have
// somewhere to go.
func (p *Picture) toMAC(mac, node string) []wire.Object {
	return []wire.Object{&wire.FDB{Dev: p.Vxlan, MAC: mac, Dst: p.nodes[node].Address}, &wire.FDB{Dev: p.Vxlan, MAC: mac}}
}

// neighbours says which MAC an address has, for containers, and for what the host itself sends there.
func (p *Picture) neighbours(a netip.Addr, mac, host string) []wire.Object {
	var objects []wire.Object
	if !p.Flood {
		objects = append(objects, &wire.Neigh{Dev: p.Vxlan, IP: a, MAC: mac})
	}
	if !p.NoIPv6 || a.Is4() {
		objects = append(objects, &wire.Neigh{Dev: p.Bridge, IP: a, MAC: host})
	}
	return objects
}

// LinkLocals returns an address of 169.254.0.0/16 for each node of the cluster, by which
// this one routes to it. Which, a hash of the node's name says; of those that it says the
// same of, the first by name has it, and the others the next.
func (p *Picture) LinkLocals() map[string]netip.Addr {
	if p.linkLocals == nil {
		p.linkLocals = p.makeLinkLocals()
	}
	return p.linkLocals
}

func (p *Picture) makeLinkLocals() map[string]netip.Addr {
	taken := make(map[uint16]bool, len(p.nodes))
	out := make(map[string]netip.Addr, len(p.nodes))
	for _, name := range slices.Sorted(maps.Keys(p.nodes)) {
		sum := sha256.Sum256([]byte(name))
		at := binary.BigEndian.Uint16(sum[:])
		for taken[at] || !assignable(at) {
			at++
		}
		taken[at] = true
		out[name] = netip.AddrFrom4([4]byte{169, 254, byte(at >> 8), byte(at)})
	}
	return out
}

// assignable reports whether the last two bytes of an address are not reserved: RFC 3927
// reserves the first and last 256, and a cloud's metadata are at 169.254.169.254.
func assignable(at uint16) bool {
	return at >= 1<<8 && at < 255<<8 && at != 169<<8|254
}

// Differences returns what of two sets of entries is not the same: what was there and is
// not to be, or not so, and what is to be and was not, or not so. To apply these two is to
// apply the whole sets, without asking the kernel for the thousands that stay.
func Differences(have, want []wire.Object) (gone, wanted []wire.Object) {
	if len(have) == 0 {
		return nil, want
	}
	there := make(map[any]bool, len(have))
	for _, o := range have {
		there[contents(o)] = true
	}
	replaced := map[string]bool{}
	for _, o := range want {
		if c := contents(o); there[c] {
			delete(there, c)
			continue
		}
		wanted = append(wanted, o)
		replaced[o.Key()] = true
	}
	for _, o := range have {
		if there[contents(o)] && !replaced[o.Key()] {
			gone = append(gone, o)
		}
	}
	return gone, wanted
}

// contents is all of an object, to compare it by.
func contents(o wire.Object) any {
	switch o := o.(type) {
	case *wire.FDB:
		return *o
	case *wire.Neigh:
		return *o
	}
	return o.Key() + " " + o.String()
}
