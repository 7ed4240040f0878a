package keys

import (
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/wire"
	"dcni/pkg/wire/wiretest"
)

const port = 4787

// A world is nodes, each with a kernel and a view of the store that lags behind.
type world struct {
	t      *testing.T
	random *mrand.Rand
	now    int64
	nodes  []*node
	store  []map[string]Keys   // all that it ever was, the newest last
	made   map[wire.Secret]int // how often a state was made with a key
	sent   []packet            // under way
	failed bool                // a step of the kernel's fails now and then
}

type node struct {
	name    string
	address netip.Addr
	host    *wiretest.Host
	machine *Machine
	have    []wire.Object
	counts  map[string]uint64 // packets by the state's key
	view    int               // what it sees of the store
	seen    int64             // when it last saw the newest
	cut     int64             // since when it is cut off from the store; 0: it is not
	met     map[string]bool   // nodes that it has sent to
}

type packet struct {
	from, to *node
	spi      uint32
	secret   wire.Secret
	due      int64
}

func newWorld(t *testing.T, seed uint64, names ...string) *world {
	w := &world{t: t, random: mrand.New(mrand.NewPCG(seed, 1)), now: 1000, store: []map[string]Keys{{}}, made: map[wire.Secret]int{}}
	for i, name := range names {
		n := &node{
			name: name, address: netip.AddrFrom4([4]byte{192, 0, 2, byte(11 + i)}), host: wiretest.New(), counts: map[string]uint64{}, met: map[string]bool{},
		}
		n.host.After = func(op string, o wire.Object) error {
			if s, ok := o.(*wire.XfrmState); ok && op == "ensure" && n.counts[s.Key()+" made"] == 0 {
				n.counts[s.Key()+" made"] = 1
				w.made[s.Secret]++
			}
			return nil
		}
		n.host.Step = func(op string, o wire.Object) error {
			if w.failed && op == "ensure" && w.random.IntN(5) == 0 {
				return errors.New("a failure")
			}
			return nil
		}
		n.machine = w.start(n)
		w.nodes = append(w.nodes, n)
	}
	return w
}

func (w *world) start(n *node) *Machine {
	m, err := New("c1", n.name, rand.Reader, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// states are what a node's kernel has.
func (n *node) states() (list []*wire.XfrmState) {
	for _, key := range n.host.Keys() {
		if s, ok := n.host.Get(key).(*wire.XfrmState); ok {
			list = append(list, s)
		}
	}
	return list
}

func (n *node) policies() (list []*wire.XfrmPolicy) {
	for _, key := range n.host.Keys() {
		if p, ok := n.host.Get(key).(*wire.XfrmPolicy); ok {
			list = append(list, p)
		}
	}
	return list
}

// alive is what the store says of a node: it notices after some time.
func (w *world) alive(n *node) bool { return n.cut == 0 || w.now-n.cut < 35 }

// step is one round of a node's agent.
func (w *world) step(n *node, rotate bool) {
	in := Input{Now: w.now, Local: n.address, Port: port, Rotate: rotate, Nodes: map[string]Node{}, Keys: map[string]Keys{}}
	for _, other := range w.nodes {
		if other != n {
			in.Nodes[other.name] = Node{other.address, w.alive(other)}
			if k, ok := w.store[n.view][other.name]; ok {
				in.Keys[other.name] = k
			}
		}
	}
	for _, s := range n.states() {
		in.States = append(in.States, wire.XfrmUse{Src: s.Src, Dst: s.Dst, SPI: s.SPI, Port: s.Port, Packets: n.counts[s.Key()]})
	}
	in.Policies = n.policies()
	if err := n.machine.Step(in); err != nil {
		w.t.Fatal(err)
	}
	reached, err := wire.Apply(n.host, n.have, n.machine.Objects())
	n.have = reached
	if err != nil && !w.failed {
		w.t.Fatalf("%s: %v", n.name, err)
	}
	if k, changed := n.machine.Keys(); changed && n.cut == 0 {
		next := map[string]Keys{n.name: k}
		for name, k := range w.store[len(w.store)-1] {
			if name != n.name {
				next[name] = k
			}
		}
		w.store = append(w.store, next)
		n.machine.Published(k)
	}
}

// look moves a node's view of the store on.
func (w *world) look(n *node, all bool) {
	if n.cut != 0 {
		return
	}
	if last := len(w.store) - 1; all {
		n.view = last
	} else {
		n.view += w.random.IntN(last - n.view + 1)
	}
	if n.view == len(w.store)-1 {
		n.seen = w.now
	}
}

// send sends a packet as the kernel does: by the policy to its state. The first one to a
// node may find nothing.
func (w *world) send(from, to *node) bool {
	p, ok := from.host.Get((&wire.XfrmPolicy{Dir: wire.DirOut, Dst: netip.PrefixFrom(to.address, 32), Port: port}).Key()).(*wire.XfrmPolicy)
	if !ok {
		if from.met[to.name] {
			w.t.Errorf("%d: %s has no policy for %s any more", w.now, from.name, to.name)
		}
		return false
	}
	from.met[to.name] = true
	key := (&wire.XfrmState{Dst: to.address, SPI: p.SPI}).Key()
	s, ok := from.host.Get(key).(*wire.XfrmState)
	if !ok {
		w.t.Errorf("%d: %s sends to %s by %s, which is not there", w.now, from.name, to.name, key)
		return false
	}
	from.counts[key]++
	w.sent = append(w.sent, packet{from, to, p.SPI, s.Secret, w.now + w.random.Int64N(3)})
	return true
}

// arrive delivers what has been under way for long enough.
func (w *world) arrive() {
	w.sent = slices.DeleteFunc(w.sent, func(p packet) bool {
		if p.due > w.now {
			return false
		}
		key := (&wire.XfrmState{Dst: p.to.address, SPI: p.spi}).Key()
		s, ok := p.to.host.Get(key).(*wire.XfrmState)
		if !ok || s.Secret != p.secret || s.Src != p.from.address {
			w.t.Errorf("%d: a packet from %s to %s meets no state with its key (%s)", w.now, p.from.name, p.to.name, key)
			return true
		}
		p.to.counts[key]++
		return true
	})
}

// restart ends a node's agent and starts another, which finds the kernel as it is.
func (w *world) restart(n *node) {
	n.machine, n.have = w.start(n), nil
	for _, s := range n.states() {
		n.have = append(n.have, wire.XfrmUse{Src: s.Src, Dst: s.Dst, SPI: s.SPI, Port: s.Port}.Object())
	}
	for _, p := range n.policies() {
		n.have = append(n.have, p)
	}
}

// settle lets all nodes see all there is.
func (w *world) settle() {
	for range 6 {
		for _, n := range w.nodes {
			w.look(n, true)
			w.step(n, false)
		}
		w.now++
		w.arrive()
	}
}

// at random does one thing.
func (w *world) atRandom() {
	n := w.nodes[w.random.IntN(len(w.nodes))]
	other := w.nodes[w.random.IntN(len(w.nodes))]
	switch w.random.IntN(12) {
	case 0, 1, 2:
		w.step(n, false)
	case 3, 4:
		w.look(n, false)
	case 5, 6, 7:
		if n != other {
			w.send(n, other)
		}
	case 8:
		w.pass(1 + w.random.Int64N(8))
	case 9:
		w.step(n, w.random.IntN(4) == 0)
	case 10:
		if w.random.IntN(8) == 0 {
			w.restart(n)
		}
	case 11:
		switch {
		case w.random.IntN(6) != 0:
		case n.cut != 0:
			n.cut = 0
			w.look(n, true)
		default:
			n.cut = w.now
		}
	}
}

// pass lets time pass, in which every node that is not cut off sees what is in the store
// within some seconds, and its agent works.
func (w *world) pass(seconds int64) {
	for range seconds {
		w.now++
		w.arrive()
		for _, n := range w.nodes {
			if w.now-n.seen > 12 {
				w.look(n, true)
				w.step(n, false)
			}
		}
	}
}

// No packet ever meets a missing state, and no key makes two states: whatever the order
// in which nodes see, rotate, restart their agents, are cut off from the store and fail to
// change the kernel. 150 times 400 things.
func TestNoPacketLost(t *testing.T) {
	for seed := range uint64(150) {
		w := newWorld(t, seed, "n1", "n2")
		w.settle()
		w.failed = seed%3 == 0
		for range 400 {
			w.atRandom()
		}
		w.failed = false
		for _, n := range w.nodes {
			n.cut = 0
		}
		w.settle()
		w.pass(200)
		w.check()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// check wants traffic in all directions, and one state for each.
func (w *world) check() {
	w.t.Helper()
	for range 2 {
		for _, from := range w.nodes {
			for _, to := range w.nodes {
				if from != to && !w.send(from, to) {
					w.t.Errorf("%s does not reach %s", from.name, to.name)
				}
			}
		}
		w.pass(100) // what has a successor in use is unused for long enough then
		w.settle()
	}
	for _, n := range w.nodes {
		if got, want := len(n.states()), 2*(len(w.nodes)-1); got != want {
			w.t.Errorf("%s has %d states, not %d:\n%s", n.name, got, want, n.host)
		}
	}
	for secret, times := range w.made {
		if times > 2 {
			w.t.Errorf("a key made %d states (%x)", times, [20]byte(secret))
		}
	}
}

// What was flushed comes back under new keys of the side that lost it.
func TestFlushed(t *testing.T) {
	w := newWorld(t, 1, "n1", "n2", "n3")
	w.settle()
	w.check()
	for _, lost := range []string{"src 192.0.2.11", "dst 192.0.2.11 ", ""} {
		before, peer := w.store[len(w.store)-1]["n1"], w.store[len(w.store)-1]["n2"]
		n := w.nodes[0]
		for _, s := range n.states() {
			if strings.Contains(s.String(), lost) {
				n.host.Lose(s.Key())
			}
		}
		n.met = map[string]bool{} // nothing is sent in between: the policies went with the states
		for _, other := range w.nodes[1:] {
			other.met = map[string]bool{}
		}
		w.settle()
		w.check()
		after := w.store[len(w.store)-1]["n1"]
		newSender, newReceiver := ID(before.Sender) != ID(after.Sender), ID(before.Receiver) != ID(after.Receiver)
		if newSender != !strings.HasPrefix(lost, "dst") || newReceiver != !strings.HasPrefix(lost, "src") {
			t.Errorf("lost %q: a new sender's key %t, a new receiver's key %t", lost, newSender, newReceiver)
		}
		if again := w.store[len(w.store)-1]["n2"]; ID(again.Sender) != ID(peer.Sender) || ID(again.Receiver) != ID(peer.Receiver) {
			t.Errorf("lost %q: the other node has new keys", lost)
		}
	}
}

// A generation lasts twelve hours; a counter that is half used ends it as well.
func TestRotation(t *testing.T) {
	w := newWorld(t, 1, "n1", "n2")
	w.settle()
	keys := func() [2]string {
		k := w.store[len(w.store)-1]["n1"]
		return [2]string{ID(k.Receiver), ID(k.Sender)}
	}
	n1 := w.nodes[0]
	full := func(dst netip.Addr) {
		for _, s := range n1.states() {
			if s.Dst == dst {
				n1.counts[s.Key()] = half
			}
		}
	}
	for _, c := range []struct {
		what             string
		do               func()
		receiver, sender bool
	}{
		{"nothing", func() {}, false, false},
		{"six hours", func() { w.now += Lifetime / 2 }, false, false},
		{"twelve hours", func() { w.now += Lifetime }, true, false},
		{"an inbound counter", func() { full(n1.address) }, true, false},
		{"an outbound counter", func() { full(w.nodes[1].address) }, false, true},
		{"a request", func() { w.step(n1, true) }, true, true},
	} {
		before := keys()
		c.do()
		w.settle()
		after := keys()
		if before[0] != after[0] != c.receiver || before[1] != after[1] != c.sender {
			t.Errorf("%s: receiver and sender were %v, are %v", c.what, before, after)
		}
		w.check()
	}
}

// An inbound state stays while its sender may not know of its successor.
func TestOldStaysForWhoIsCutOff(t *testing.T) {
	w := newWorld(t, 1, "n1", "n2")
	w.settle()
	n1, n2 := w.nodes[0], w.nodes[1]
	w.send(n2, n1)
	w.pass(5)
	n2.cut = w.now
	w.step(n1, true)
	for range 6 {
		w.pass(3600)
		w.step(n1, false)
	}
	w.send(n2, n1)
	w.pass(5)
	n2.cut = 0
	w.settle()
	w.send(n2, n1)
	w.pass(200)
	w.check()
}

// Records that are put back by someone who can write to the store make no state twice.
func TestOldRecord(t *testing.T) {
	w := newWorld(t, 1, "n1", "n2")
	w.settle()
	old := w.store[len(w.store)-1]
	w.step(w.nodes[1], true)
	w.settle()
	w.check()
	w.store = append(w.store, map[string]Keys{"n1": w.store[len(w.store)-1]["n1"], "n2": old["n2"]})
	w.look(w.nodes[0], true)
	w.step(w.nodes[0], false)
	for secret, times := range w.made {
		if times > 2 {
			t.Errorf("a key made %d states (%x)", times, [20]byte(secret))
		}
	}
}

// A node that leaves takes its states and policies along; addresses of another family
// are left alone.
func TestNodesComeAndGo(t *testing.T) {
	w := newWorld(t, 1, "n1", "n2", "n3")
	w.settle()
	w.check()
	w.nodes = w.nodes[:2]
	w.settle()
	w.check()
	if text := w.nodes[0].host.String(); strings.Contains(text, "192.0.2.13") {
		t.Errorf("of the node that left there is\n%s", text)
	}
	w.nodes[1].address = netip.MustParseAddr("2001:db8::12")
	w.step(w.nodes[0], true)
	if n := len(w.nodes[0].states()); n != 2 {
		t.Errorf("%d states", n)
	}
	w.nodes[1].address = netip.MustParseAddr("192.0.2.99") // moved
	w.settle()
	w.pass(300)
	if text := w.nodes[0].host.String(); !strings.Contains(text, "src 192.0.2.99 dst 192.0.2.11") || !strings.Contains(text, "src 192.0.2.11 dst 192.0.2.99") {
		t.Error(text)
	}
}

// Nothing that is printed of a machine's objects tells a key.
func TestNothingTellsKeys(t *testing.T) {
	w := newWorld(t, 1, "n1", "n2")
	w.settle()
	for _, s := range w.nodes[0].states() {
		if text := fmt.Sprintf("%v %+v %s", s, *s, w.nodes[0].host); strings.Contains(text, fmt.Sprintf("%x", s.Secret[:4])) {
			t.Error(text)
		}
	}
}
