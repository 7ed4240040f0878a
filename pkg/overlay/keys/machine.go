package keys

import (
	"bytes"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"dcni/pkg/wire"
)

// Times, in seconds.
const (
	Lifetime = 12 * 3600 // of a generation, at most
	spread   = 3600      // by which it is shorter, at random: nodes that were asked to rotate at once don't do so for ever
	Unused   = 60        // until an inbound state goes that has a successor
	linger   = 10        // until an outbound state goes that has one: packets are on their way through it
)

// half is how many packets a state may pass before it gets a successor: of a counter of
// 64 bits.
const half = 1 << 63

// Input is what a node sees.
type Input struct {
	Now    int64           // seconds of a clock that never goes back
	Local  netip.Addr      // this node's, on the underlay
	Port   int             // UDP, of encrypted networks
	Rotate bool            // begin a generation, and draw a sender's key
	Nodes  map[string]Node // the other nodes, by name: all, for the states with others are removed
	Keys   map[string]Keys // what they say of themselves, verified, see [Verifier]
	// What the kernel has: all states, and those policies that name one.
	States   []wire.XfrmUse
	Policies []*wire.XfrmPolicy
}

// Node is another node.
type Node struct {
	Address netip.Addr
	Alive   bool // it is in touch with the store
}

type stateID struct {
	dst netip.Addr
	spi uint32
}

// A Machine is one node's part in the exchange. Call Step with what is seen, make
// [Machine.Objects] so, and then publish [Machine.Keys], in this order: it says only
// what is in the kernel.
type Machine struct {
	self, cluster string
	random        io.Reader

	sender     *ecdh.PrivateKey            // the newest
	senders    map[string]*ecdh.PrivateKey // by ID; with those that others' records still name
	receiver   *ecdh.PrivateKey            // of the newest generation
	generation int
	ends       int64 // when there is to be another

	in        map[string][]*inbound      // by the sender's name, the newest last
	out       map[string][]*outbound     // by the receiver's name, the newest last
	used      map[string]map[digest]bool // by the ID of a sender's key: what outbound states were made with
	published Keys                       // what the store has
	port      int

	stepped bool // once at least
}

// inbound is a state from a sender to this node.
type inbound struct {
	*wire.XfrmState
	of         string // the sender's key, see [ID]; "" where an earlier process made it
	generation int
	packets    uint64
	idle       int64 // when it was last seen in use, or when its sender may not have known of a newer one
}

// outbound is a state from this node to a receiver.
type outbound struct {
	*wire.XfrmState
	since int64 // when the policy named its successor; 0: not yet
}

// New returns the machine of a node, without states.
func New(cluster, self string, random io.Reader, now int64) (*Machine, error) {
	m := &Machine{
		self: self, cluster: cluster, random: random, senders: map[string]*ecdh.PrivateKey{},
		in: map[string][]*inbound{}, out: map[string][]*outbound{}, used: map[string]map[digest]bool{},
	}
	if err := m.newSender(); err != nil {
		return nil, err
	}
	return m, m.newGeneration(now)
}

// Is reports whether the machine is of a cluster's node.
func (m *Machine) Is(cluster, self string) bool { return m.cluster == cluster && m.self == self }

func (m *Machine) newSender() (err error) {
	if m.sender, err = newKey(m.random); err == nil {
		id := ID(m.sender.PublicKey().Bytes())
		m.senders[id], m.used[id] = m.sender, map[digest]bool{}
	}
	return err
}

// A digest is of what a state's key is made from.
type digest [sha256.Size]byte

// remembered is how many states a sender's key makes at most: as many are remembered, so
// that none is made twice.
const remembered = 1 << 16

func (m *Machine) newGeneration(now int64) (err error) {
	var b [4]byte
	if _, err := io.ReadFull(m.random, b[:]); err != nil {
		return fmt.Errorf("draw a time: %w", err)
	}
	m.receiver, err = newKey(m.random)
	m.generation, m.ends = m.generation+1, now+Lifetime-int64(binary.BigEndian.Uint32(b[:])%spread)
	return err
}

// Step takes in what is seen. The first one finds what an earlier process left in the
// kernel: its keys are not known any more, so those states go on until they have
// successors. An error is of one node, or of the source of randomness;
// the rest is as it should be all the same.
func (m *Machine) Step(in Input) error {
	m.port = in.Port
	kernel, named := map[stateID]uint64{}, map[stateID]bool{}
	for _, s := range in.States {
		kernel[stateID{s.Dst, s.SPI}] = s.Packets
	}
	for _, p := range in.Policies {
		named[stateID{p.Dst.Addr(), p.SPI}] = true
	}
	if !m.stepped {
		m.stepped = true
		m.adopt(in, named)
	}
	receive, send := m.count(kernel, named, in.Now)
	send = send || len(m.used[ID(m.sender.PublicKey().Bytes())]) >= remembered
	if in.Rotate || receive || in.Now >= m.ends {
		if err := m.newGeneration(in.Now); err != nil {
			return err
		}
	}
	if in.Rotate || send {
		if err := m.newSender(); err != nil {
			return err
		}
	}
	for _, peers := range []map[string]bool{names(m.in), names(m.out)} {
		for peer := range peers {
			if _, ok := in.Nodes[peer]; !ok {
				delete(m.in, peer)
				delete(m.out, peer)
			}
		}
	}
	var failed error
	for _, peer := range slices.Sorted(maps.Keys(in.Nodes)) {
		if err := m.peer(in, kernel, peer); err != nil {
			failed = fmt.Errorf("keys with node %s: %w", peer, err)
		}
	}
	m.forget(in)
	return failed
}

func names[V any](of map[string]V) map[string]bool {
	set := map[string]bool{}
	for name := range of {
		set[name] = true
	}
	return set
}

// adopt finds out with whom the states in the kernel are, by addresses. Those of no node
// are left out, and so go. Of several to one node, the newest is the one that the policy
// names.
func (m *Machine) adopt(in Input, named map[stateID]bool) {
	for _, s := range in.States {
		for name, node := range in.Nodes {
			switch {
			case s.Dst == in.Local && s.Src == node.Address:
				m.in[name] = append(m.in[name], &inbound{XfrmState: s.Object(), packets: s.Packets, idle: in.Now})
			case s.Src != in.Local || s.Dst != node.Address:
			case named[stateID{s.Dst, s.SPI}]:
				m.out[name] = append(m.out[name], &outbound{XfrmState: s.Object()})
			default:
				m.out[name] = slices.Insert(m.out[name], 0, &outbound{XfrmState: s.Object()})
			}
		}
	}
}

// count reads the kernel's counters, and drops what was lost. It reports whether the
// node needs new keys to receive, or to send.
func (m *Machine) count(kernel map[stateID]uint64, named map[stateID]bool, now int64) (receive, send bool) {
	for peer, list := range m.in {
		newest := list[len(list)-1]
		m.in[peer] = slices.DeleteFunc(list, func(i *inbound) bool {
			packets, ok := kernel[stateID{i.Dst, i.SPI}]
			if packets != i.packets {
				i.packets, i.idle = packets, now
			}
			gone := i.Made && !ok
			receive = receive || i == newest && (gone || packets >= half)
			return gone
		})
		if len(m.in[peer]) == 0 {
			delete(m.in, peer)
		}
	}
	for peer, list := range m.out {
		newest := list[len(list)-1]
		m.out[peer] = slices.DeleteFunc(list, func(o *outbound) bool {
			packets, ok := kernel[stateID{o.Dst, o.SPI}]
			gone := o.Made && !ok
			send = send || o == newest && (gone || packets >= half)
			if o != newest && o.since == 0 && named[stateID{newest.Dst, newest.SPI}] {
				o.since = now
			}
			return gone
		})
		if len(m.out[peer]) == 0 {
			delete(m.out, peer)
		}
	}
	return receive, send
}

// peer sees to the states with one node.
func (m *Machine) peer(in Input, kernel map[stateID]uint64, name string) error {
	node := in.Nodes[name]
	keys, ok := in.Keys[name]
	if !ok || node.Address.Is4() != in.Local.Is4() {
		return nil
	}
	if err := m.receiveFrom(in, kernel, name, node, keys); err != nil {
		return err
	}
	return m.sendTo(in, name, node, keys)
}

// receiveFrom makes the inbound state for a sender's key where there is none, and lets go
// of earlier ones.
func (m *Machine) receiveFrom(in Input, kernel map[stateID]uint64, name string, node Node, keys Keys) error {
	of := ID(keys.Sender)
	list := m.in[name]
	if len(list) == 0 || !list[len(list)-1].fits(of, m.generation, node.Address, in.Local) {
		spi, err := m.drawSPI(in.Local, kernel)
		if err != nil {
			return err
		}
		d := direction{m.cluster, name, m.self, keys.Sender, m.receiver.PublicKey().Bytes(), spi}
		secret, err := d.derive(m.receiver, keys.Sender)
		if err != nil {
			return err
		}
		s := &wire.XfrmState{Src: node.Address, Dst: in.Local, SPI: spi, Port: in.Port, Secret: secret}
		list = append(list, &inbound{XfrmState: s, of: of, generation: m.generation, idle: in.Now})
	}
	newest := list[len(list)-1]
	said := m.published.Inbound[name] == Inbound{newest.of, newest.SPI} && bytes.Equal(m.published.Receiver, m.receiver.PublicKey().Bytes())
	known := newest.packets > 0 || said && node.Alive // or the sender may go on with an earlier one
	m.in[name] = slices.DeleteFunc(list, func(i *inbound) bool {
		if i == newest {
			return false
		}
		if !known {
			i.idle = in.Now
		}
		return !i.Made || in.Now-i.idle >= Unused
	})
	return nil
}

// fits reports whether a state is for a key of the sender's and this generation, between
// these addresses.
func (i *inbound) fits(of string, generation int, src, dst netip.Addr) bool {
	return i.of == of && i.generation == generation && i.Src == src && i.Dst == dst
}

// drawSPI draws an index that no state has, and that is none of the reserved ones (RFC
// 4303, section 2.1).
func (m *Machine) drawSPI(local netip.Addr, kernel map[stateID]uint64) (uint32, error) {
	const reserved = 256
	for {
		var b [4]byte
		if _, err := io.ReadFull(m.random, b[:]); err != nil {
			return 0, fmt.Errorf("draw an SPI: %w", err)
		}
		spi := binary.BigEndian.Uint32(b[:])
		_, taken := kernel[stateID{local, spi}]
		for _, list := range m.in {
			taken = taken || slices.ContainsFunc(list, func(i *inbound) bool { return i.SPI == spi })
		}
		if spi >= reserved && !taken {
			return spi, nil
		}
	}
}

// sendTo makes the outbound state that the receiver says it is ready for, and lets go of
// earlier ones.
func (m *Machine) sendTo(in Input, name string, node Node, keys Keys) error {
	ready := keys.Inbound[m.self]
	if own := m.senders[ready.Of]; own != nil {
		d := direction{m.cluster, m.self, name, own.PublicKey().Bytes(), keys.Receiver, ready.SPI}
		if inputs := sha256.Sum256([]byte(d.info())); !m.used[ready.Of][inputs] {
			secret, err := d.derive(own, keys.Receiver)
			if err != nil {
				return err
			}
			m.used[ready.Of][inputs] = true
			s := &wire.XfrmState{Src: in.Local, Dst: node.Address, SPI: ready.SPI, Port: in.Port, Secret: secret}
			m.out[name] = append(m.out[name], &outbound{XfrmState: s})
		}
	}
	m.out[name] = slices.DeleteFunc(m.out[name], func(o *outbound) bool { return o.since != 0 && in.Now-o.since >= linger })
	if len(m.out[name]) == 0 {
		delete(m.out, name)
	}
	return nil
}

// forget drops sender's keys that no other node has a state for any more, and what was
// made with them.
func (m *Machine) forget(in Input) {
	keep := map[string]bool{ID(m.sender.PublicKey().Bytes()): true}
	for _, k := range in.Keys {
		keep[k.Inbound[m.self].Of] = true
	}
	maps.DeleteFunc(m.senders, func(id string, _ *ecdh.PrivateKey) bool { return !keep[id] })
	maps.DeleteFunc(m.used, func(id string, _ map[digest]bool) bool { return !keep[id] })
}

// Objects are what must be there: the inbound states, the outbound states, and then the
// policies that name them.
func (m *Machine) Objects() []wire.Object {
	var list, policies []wire.Object
	for _, name := range slices.Sorted(maps.Keys(m.in)) {
		for _, i := range m.in[name] {
			list = append(list, i.XfrmState)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.out)) {
		for _, o := range m.out[name] {
			list = append(list, o.XfrmState)
		}
		newest := m.out[name][len(m.out[name])-1]
		policies = append(policies, &wire.XfrmPolicy{
			Dir: wire.DirOut, Dst: netip.PrefixFrom(newest.Dst, newest.Dst.BitLen()), Port: m.port, SPI: newest.SPI,
		})
	}
	return append(list, policies...)
}

// Keys is what the node has to say of itself, and whether the store does not have it yet:
// once it does, call Published.
func (m *Machine) Keys() (k Keys, changed bool) {
	k = Keys{
		Cluster: m.cluster, Node: m.self, Sender: m.sender.PublicKey().Bytes(), Receiver: m.receiver.PublicKey().Bytes(), Inbound: map[string]Inbound{},
	}
	for name, list := range m.in {
		if newest := list[len(list)-1]; newest.Made && newest.generation == m.generation {
			k.Inbound[name] = Inbound{newest.of, newest.SPI}
		}
	}
	return k, !reflect.DeepEqual(k, m.published)
}

// Published tells the machine what the store has.
func (m *Machine) Published(k Keys) { m.published = k }
