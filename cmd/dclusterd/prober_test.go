package main

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"dcni/pkg/cluster"
	"dcni/pkg/overlay"
	"dcni/pkg/overlay/probe"
)

// A probeNet is nodes n1 to n3 at 192.0.2.1 to 192.0.2.3.
type probeNet struct {
	nodes map[string]*prober
	log   strings.Builder

	mu   sync.Mutex
	drop func(p probe.Path, from, to string, bytes int) bool
}

func newProbeNet() *probeNet {
	net := &probeNet{nodes: map[string]*prober{}}
	all := map[string]overlay.Node{}
	for _, n := range []string{"1", "2", "3"} {
		all["n"+n] = overlay.Node{Address: netip.MustParseAddr("192.0.2." + n), MTU: 1500}
	}
	for name, n := range all {
		p := &prober{
			log: slog.New(slog.NewTextHandler(&net.log, nil)), cluster: "c0ffee", node: name, local: n.Address,
			mtu: func() int { return 1500 }, soon: func(string) {},
		}
		p.send = func(path probe.Path, to netip.Addr, packet []byte) error {
			return net.deliver(path, p, to, packet)
		}
		net.nodes[name] = p
		p.is(all)
	}
	return net
}

// is makes nodes the prober's.
func (p *prober) is(all map[string]overlay.Node) []string {
	return p.change(func(now map[string]overlay.Node) {
		clear(now)
		for name, n := range all {
			now[name] = n
		}
	})
}

func (net *probeNet) deliver(path probe.Path, from *prober, to netip.Addr, packet []byte) error {
	for _, p := range net.nodes {
		net.mu.Lock()
		dropped := p.local != to || net.drop != nil && net.drop(path, from.node, p.node, len(packet)+20)
		net.mu.Unlock()
		if !dropped {
			p.receive(path, from.local, packet)
		}
	}
	return nil
}

// set says what is dropped.
func (net *probeNet) set(drop func(p probe.Path, from, to string, bytes int) bool) {
	net.mu.Lock()
	defer net.mu.Unlock()
	net.drop = drop
}

// shown is what n1 finds, as `node ls` shows it.
func (net *probeNet) shown() string {
	var words []string
	for _, name := range []string{"n1", "n2", "n3"} {
		v, e := net.nodes["n1"].paths(name)
		words = append(words, v.String(), e.String())
	}
	return strings.Join(words, " ")
}

// TestProber drops one thing after the other.
func TestProber(t *testing.T) {
	t.Parallel()
	net := newProbeNet()
	if have := net.shown(); have != "- - - - - -" {
		t.Error(have)
	}
	for _, c := range []struct {
		name string
		drop func(p probe.Path, from, to string, bytes int) bool
		want string
	}{
		{"nothing", nil, "- - ok ok ok ok"},
		{"VXLAN to n2", func(p probe.Path, _, to string, _ int) bool { return p == probe.VXLAN && to == "n2" }, "- - lost ok ok ok"},
		{"ESP from n3", func(p probe.Path, from, _ string, _ int) bool { return p == probe.ESP && from == "n3" }, "- - ok ok ok lost"},
		{"long packets", func(_ probe.Path, _, _ string, bytes int) bool { return bytes > 1499 }, "- - lost at 1500 ok lost at 1500 ok"},
		{"nothing again", nil, "- - ok ok ok ok"},
	} {
		net.set(c.drop)
		net.nodes["n1"].ask(t.Context(), all)
		if have := net.shown(); have != c.want {
			t.Errorf("%s: %s, want %s", c.name, have, c.want)
		}
	}
	if n := len(net.nodes["n1"].asked); n != 0 {
		t.Errorf("%d questions are left", n)
	}
	for _, want := range []string{
		`msg="packets do not pass" node=n2 address=192.0.2.2 what="VXLAN, VXLAN of the whole MTU"` + "\n", `what="VXLAN of the whole MTU"`,
		`msg="packets do not pass" node=n3 address=192.0.2.3 what=ESP` + "\n", `msg="packets pass again" node=n2 what=VXLAN` + "\n",
	} {
		if !strings.Contains(net.log.String(), want) {
			t.Errorf("log lacks %s:\n%s", want, net.log.String())
		}
	}
}

// TestProberSince: a state has its first time as long as it is the same, and goes with the
// address that it is of.
func TestProberSince(t *testing.T) {
	t.Parallel()
	net := newProbeNet()
	p := net.nodes["n1"]
	net.set(func(_ probe.Path, _, to string, _ int) bool { return to == "n2" })
	p.ask(t.Context(), all)
	first, _ := p.paths("n2")
	p.ask(t.Context(), all)
	if second, _ := p.paths("n2"); second != first || first.State != cluster.Lost || first.Since.IsZero() {
		t.Errorf("%+v, then %+v", first, second)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	net.set(func(_ probe.Path, _, to string, _ int) bool { return to == "n3" })
	p.ask(ctx, all)
	if v, _ := p.paths("n3"); v.State != cluster.Passes {
		t.Errorf("a round that is broken off finds %+v", v)
	}
	nodes := map[string]overlay.Node{"n1": {Address: p.local}, "n2": {Address: netip.MustParseAddr("192.0.2.9")}}
	if fresh := p.is(nodes); !slices.Equal(fresh, []string{"n2"}) {
		t.Errorf("new nodes: %v", fresh)
	}
	if have := net.shown(); have != "- - - - - -" {
		t.Errorf("of others' addresses: %s", have)
	}
}

// TestProberAnswers only nodes of its cluster, with no more than they sent, and has those
// asked that may be back.
func TestProberAnswers(t *testing.T) {
	t.Parallel()
	net := newProbeNet()
	p := net.nodes["n1"]
	var sent [][]byte
	p.send = func(_ probe.Path, _ netip.Addr, packet []byte) error { sent = append(sent, packet); return nil }
	var asked []string
	p.soon = func(peer string) { asked = append(asked, peer) }
	question := func(cluster, from, to string, m probe.Message) []byte {
		return probe.ESP.Encode(m, probe.Link{Cluster: cluster, From: from, To: to}, probe.Route{From: p.local, To: p.local}, 0)
	}
	n2, stranger := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.66")
	p.receive(probe.ESP, stranger, question("c0ffee", "n2", "n1", probe.Message{}))
	p.receive(probe.ESP, stranger, question("c0ffee", "", "n1", probe.Message{}))
	p.receive(probe.ESP, n2, question("c0ffee", "n3", "n1", probe.Message{}))
	p.receive(probe.ESP, n2, question("c0ffee", "n2", "n3", probe.Message{}))
	p.receive(probe.ESP, n2, question("other", "n2", "n1", probe.Message{}))
	p.receive(probe.ESP, n2, question("c0ffee", "n2", "n1", probe.Message{Answer: true}))
	p.receive(probe.ESP, n2, []byte("?"))
	if len(sent)+len(asked) > 0 {
		t.Errorf("strangers are answered: %x, %v", sent, asked)
	}
	good := question("c0ffee", "n2", "n1", probe.Message{Number: 9})
	p.receive(probe.ESP, n2, good)
	p.receive(probe.ESP, n2, good)
	if len(sent) != 2 || len(sent[0]) > len(good) {
		t.Errorf("answers: %x", sent)
	}
	if !slices.Equal(asked, []string{"n2"}) { // once in a while
		t.Errorf("asked in return: %v", asked)
	}
}

// TestEnumerate writes not too many names.
func TestEnumerate(t *testing.T) {
	for want, names := range map[string][]string{
		"a, b": {"b", "a"}, "a, b, c, d, e": {"e", "d", "c", "b", "a"}, "a, b, c, d, e and 2 more nodes": {"g", "f", "e", "d", "c", "b", "a"},
	} {
		if have := enumerate(names); have != want {
			t.Errorf("%s, want %s", have, want)
		}
	}
}
