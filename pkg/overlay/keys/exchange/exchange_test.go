package exchange

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dcni/pkg/overlay"
	"dcni/pkg/overlay/keys"
	"dcni/pkg/overlay/memory"
	"dcni/pkg/trust"
	"dcni/pkg/wire"
	"dcni/pkg/wire/wiretest"
)

// A memKernel is a kernel in memory, of one node.
type memKernel struct {
	mu     sync.Mutex
	host   *wiretest.Host
	broken error
}

func (k *memKernel) Ensure(o wire.Object) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.broken != nil {
		return false, k.broken
	}
	return k.host.Ensure(o)
}

func (k *memKernel) Remove(o wire.Object) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.host.Remove(o)
}

func (k *memKernel) Check(o wire.Object) error { return k.host.Check(o) }
func (k *memKernel) Probe(wire.Object) error   { return nil }

func (k *memKernel) ESP() (states []wire.XfrmUse, policies []*wire.XfrmPolicy, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range k.host.Keys() {
		switch o := k.host.Get(key).(type) {
		case *wire.XfrmState:
			states = append(states, wire.XfrmUse{Src: o.Src, Dst: o.Dst, SPI: o.SPI, Port: o.Port})
		case *wire.XfrmPolicy:
			policies = append(policies, o)
		}
	}
	return states, policies, nil
}

func (k *memKernel) flush() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range k.host.Keys() {
		k.host.Lose(key)
	}
}

func (k *memKernel) text() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.host.String()
}

type member struct {
	name    string
	address netip.Addr
	kernel  *memKernel
	client  *memory.Store
	key     *ecdsa.PrivateKey
	cert    *x509.Certificate
	log     *strings.Builder
	*Exchange
	end func()
}

type cluster struct {
	*testing.T
	store *memory.Store
	keys  overlay.Keys
	ca    *trust.CA
	nodes []*member
}

func newCluster(t *testing.T, names ...string) *cluster {
	ca, err := trust.NewCA("c1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{T: t, store: memory.New(), keys: overlay.Keys{Prefix: "/dcni/1/test/"}, ca: ca}
	c.put(c.keys.Meta(), overlay.Meta{Cluster: "c1", PortESP: 4787})
	for i, name := range names {
		m := &member{
			name: name, address: netip.AddrFrom4([4]byte{192, 0, 2, byte(11 + i)}), kernel: &memKernel{host: wiretest.New()},
			client: c.store.Another(), log: &strings.Builder{},
		}
		if m.key, err = trust.NewKey(); err != nil {
			t.Fatal(err)
		}
		if m.cert, err = ca.Sign(&m.key.PublicKey, name, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
		c.put(c.keys.Node(name), overlay.Node{ID: name, Address: m.address, MTU: 1500})
		c.put(c.keys.Alive(name), overlay.Alive{})
		c.nodes = append(c.nodes, m)
		c.start(m)
	}
	return c
}

// start starts a node's agent.
func (c *cluster) start(m *member) {
	open := func(context.Context) (*Store, error) {
		return &Store{Store: m.client, Keys: c.keys, Cluster: "c1", Node: m.name, Close: func() error { return nil }}, nil
	}
	identity := func() (Identity, error) {
		return Identity{c.ca.Cert, m.cert.Raw, m.key}, nil
	}
	m.Exchange = New(slog.New(slog.NewTextHandler(m.log, nil)), m.kernel, open, identity)
	ctx, cancel := context.WithCancel(c.Context())
	var done sync.WaitGroup
	done.Go(func() { m.Run(ctx) })
	m.end = func() { cancel(); done.Wait() }
}

func (c *cluster) put(key string, value any) {
	c.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		c.Fatal(err)
	}
	c.commit(overlay.Change{Key: key, Value: data})
}

func (c *cluster) commit(change overlay.Change) {
	c.Helper()
	if done, _, err := c.store.Commit(c.Context(), overlay.Txn{Then: []overlay.Change{change}}); err != nil || !done {
		c.Fatalf("%v, %v", done, err)
	}
}

// pass lets the exchange do what it does within some seconds.
func (c *cluster) pass(seconds int) {
	time.Sleep(time.Duration(seconds) * time.Second)
	synctest.Wait()
}

// joined wants every node to send to every other by a state that this one has, of the
// same key.
func (c *cluster) joined(step string) {
	c.Helper()
	for _, from := range c.nodes {
		for _, to := range c.nodes {
			if from == to {
				continue
			}
			key := (&wire.XfrmPolicy{Dir: wire.DirOut, Dst: netip.PrefixFrom(to.address, 32), Port: 4787}).Key()
			p, ok := from.kernel.host.Get(key).(*wire.XfrmPolicy)
			if !ok {
				c.Errorf("%s: %s has no policy for %s", step, from.name, to.name)
				continue
			}
			id := (&wire.XfrmState{Dst: to.address, SPI: p.SPI}).Key()
			a, _ := from.kernel.host.Get(id).(*wire.XfrmState)
			b, _ := to.kernel.host.Get(id).(*wire.XfrmState)
			if a == nil || b == nil || a.Secret != b.Secret {
				c.Errorf("%s: %s sends to %s by %s, which is not the same at both ends", step, from.name, to.name, id)
			}
		}
	}
}

func (c *cluster) stop() {
	for _, m := range c.nodes {
		m.end()
	}
}

// used are the states by which a node sends.
func (m *member) used() string {
	var lines []string
	for line := range strings.Lines(m.kernel.text()) {
		if strings.HasPrefix(line, "xfrm policy") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// Nodes that come, lose all they have, restart and leave agree on keys again, and without
// a change nothing is published.
func TestExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		defer c.stop()
		c.pass(5)
		c.joined("at first")
		for _, m := range c.nodes {
			if err := m.Sync(t.Context()); err != nil {
				t.Error(err)
			}
		}
		_, before, err := c.store.Commit(t.Context(), overlay.Txn{})
		if err != nil {
			t.Fatal(err)
		}
		c.pass(600)
		if _, after, _ := c.store.Commit(t.Context(), overlay.Txn{}); after != before {
			t.Errorf("%d changes of the store where nothing changed", after-before)
		}

		n1, n2 := c.nodes[0], c.nodes[1]
		for step, do := range map[string]func(){
			"flushed":         n1.kernel.flush,
			"restarted":       func() { n1.end(); c.start(n1) },
			"asked to rotate": func() { c.put(c.keys.Rotate(), "now") },
			"a record that was deleted": func() {
				c.commit(overlay.Change{Key: c.keys.Key("n1"), Delete: true})
				c.pass(5)
				if _, err := c.store.Get(t.Context(), c.keys.Key("n1")); err != nil {
					t.Errorf("the record is not put back: %v", err)
				}
				c.put(c.keys.Rotate(), "now")
			},
		} {
			was := n2.used()
			do()
			c.pass(10)
			c.joined(step)
			if n2.used() == was {
				t.Errorf("%s: n2 goes on with the keys it had", step)
			}
		}

		n3 := c.nodes[2]
		n3.end()
		if err := n3.Leave(t.Context()); err != nil || strings.Contains(n3.kernel.text(), "xfrm") {
			t.Errorf("left: %v\n%s", err, n3.kernel.text())
		}
		c.pass(5)
		for _, m := range c.nodes[:2] {
			if err := m.Sync(t.Context()); err != nil {
				t.Error(err)
			}
		}
		c.start(n3)
		c.pass(5)
		c.joined("left and came again")

		c.commit(overlay.Change{Key: c.keys.Node("n3"), Delete: true})
		c.pass(5)
		if text := n1.kernel.text(); strings.Contains(text, "192.0.2.13") {
			t.Errorf("of the node that left there is\n%s", text)
		}
	})
}

// forged is a record of n2, and a page for n1 as well, which names no state.
func forged(t *testing.T, certificate []byte, signer *ecdsa.PrivateKey) []byte {
	t.Helper()
	key := make([]byte, 32)
	body, err := json.Marshal(map[string]any{"cluster": "c1", "node": "n2", "sender": key, "receiver": key})
	if err != nil {
		t.Fatal(err)
	}
	value, err := keys.Sign(body, certificate, signer, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// A forged record changes nothing, and is logged.
func TestForged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2")
		defer c.stop()
		c.pass(5)
		n1, n2 := c.nodes[0], c.nodes[1]
		was := n1.kernel.text()
		for _, forge := range []func() []byte{
			func() []byte { return []byte("{") },
			func() []byte { // by another CA, for the name
				ca, _ := trust.NewCA("c1", time.Now())
				cert, _ := ca.Sign(&n2.key.PublicKey, "n2", nil, time.Now())
				return forged(t, cert.Raw, n2.key)
			},
			func() []byte { // by another node
				return forged(t, n1.cert.Raw, n1.key)
			},
		} {
			n1.log.Reset()
			n2.end() // or it puts its own record back
			value := forge()
			c.commit(overlay.Change{Key: c.keys.Key("n2"), Value: value})
			c.commit(overlay.Change{Key: c.keys.KeyPage(overlay.KeyPageOf("n1"), "n2"), Value: value})
			c.pass(30)
			if text := n1.kernel.text(); text != was {
				t.Errorf("the states are now\n%swere\n%s", text, was)
			}
			if !strings.Contains(n1.log.String(), "refused") {
				t.Errorf("the log says\n%s", n1.log)
			}
			n1.end()
			c.start(n1) // which has believed no record before
			c.pass(30)
			if text := n1.kernel.text(); text != was {
				t.Errorf("after a restart the states are\n%swere\n%s", text, was)
			}
			c.start(n2)
			c.pass(5)
			c.joined("mended")
			c.pass(200)
			was = n1.kernel.text()
		}
	})
}

// Without the store all goes on, and what the kernel loses of policies comes back.
func TestStoreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2")
		defer c.stop()
		c.pass(5)
		n1 := c.nodes[0]
		n1.client.Cut()
		c.commit(overlay.Change{Key: c.keys.Alive("n1"), Delete: true})
		c.pass(5)
		was := n1.used()
		for _, key := range n1.kernel.host.Keys() {
			if strings.HasPrefix(key, "xfrm policy") {
				n1.kernel.mu.Lock()
				n1.kernel.host.Lose(key)
				n1.kernel.mu.Unlock()
			}
		}
		c.pass(5)
		if n1.used() != was {
			t.Errorf("policies are now\n%swere\n%s", n1.used(), was)
		}
		c.put(c.keys.Rotate(), "now")
		c.pass(600)
		c.joined("cut off")
		n1.client.Mend()
		c.put(c.keys.Alive("n1"), overlay.Alive{})
		c.pass(10)
		c.joined("back")
		if n1.used() == was {
			t.Error("the request to rotate is not heard of after the cut")
		}
	})
}

// A kernel without ESP makes no node believe in states that are not there.
func TestKernelRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2")
		defer c.stop()
		c.nodes[1].kernel.broken = fmt.Errorf("no ESP")
		c.pass(5)
		coded := &wire.Error{Code: wire.CodeUnavailable, Msg: "no ESP"}
		c.nodes[1].kernel.mu.Lock()
		c.nodes[1].kernel.broken = coded
		c.nodes[1].kernel.mu.Unlock()
		if err := c.nodes[1].Sync(t.Context()); !errors.Is(err, coded) {
			t.Errorf("sync: %v", err)
		}
		if used := c.nodes[0].used(); used != "" {
			t.Errorf("n1 sends by\n%s", used)
		}
		if !strings.Contains(c.nodes[1].log.String(), "no ESP") {
			t.Errorf("the log says\n%s", c.nodes[1].log)
		}
		c.nodes[1].kernel.broken = nil
		c.pass(5)
		c.joined("mended")
	})
}

// saidBy returns what the store has of a node's keys: the revision at which each value was
// written, by key.
func (c *cluster) saidBy(node string) map[string]int64 {
	c.Helper()
	at := map[string]int64{}
	for _, key := range c.keys.KeyRecords(node) {
		if e, err := c.store.Get(c.Context(), key); err == nil {
			at[key] = e.Modified
		}
	}
	return at
}

// A node that comes has the others write the page that is for it, a rotation pages alone,
// and a store that was made of an older one is told all again.
func TestPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "n1", "n2", "n3")
		defer c.stop()
		n1, n3 := c.nodes[0], c.nodes[2]
		n3.end()
		c.must(n3.Leave(t.Context()))
		c.pass(5)
		was := c.saidBy("n1")
		record, for2, for3 := c.keys.Key("n1"), c.keys.KeyPage(overlay.KeyPageOf("n2"), "n1"), c.keys.KeyPage(overlay.KeyPageOf("n3"), "n1")
		if len(was) != 2 || was[record] == 0 || was[for2] == 0 || len(c.saidBy("n3")) != 0 {
			t.Fatalf("n1 says %v, and n3, which has left, %v", was, c.saidBy("n3"))
		}
		c.start(n3)
		c.pass(5)
		now := c.saidBy("n1")
		if len(now) != 3 || now[record] != was[record] || now[for2] != was[for2] || now[for3] == 0 {
			t.Errorf("with one more node n1 says %v, before %v", now, was)
		}

		n1.client.Cut()
		c.pass(5)
		old := c.saidBy("n1")
		c.commit(overlay.Change{Key: for2, Delete: true})
		c.commit(overlay.Change{Key: c.keys.Recovery(), Value: []byte("again")})
		n1.client.Mend()
		c.pass(20)
		for key, at := range c.saidBy("n1") {
			if at <= old[key] {
				t.Errorf("%s is not written again", key)
			}
		}
		if now := c.saidBy("n1"); len(now) != 3 {
			t.Errorf("n1 says %v", now)
		}
		c.joined("made again")
	})
}

func (c *cluster) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}
