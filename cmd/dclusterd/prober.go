package main

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"dcni/pkg/cluster"
	"dcni/pkg/overlay"
	"dcni/pkg/overlay/probe"
)

// A subject is what a prober asks about.
type subject int

const (
	subjectVXLAN subject = iota
	subjectFull          // VXLAN in packets of the underlay's whole MTU
	subjectESP
	subjects // how many there are
)

func (s subject) path() probe.Path {
	if s == subjectESP {
		return probe.ESP
	}
	return probe.VXLAN
}

// A prober asks the other nodes by packets whether these pass, and answers theirs.
// A peer that does not answer in the time of a round, to any of four packets, is lost.
type prober struct {
	log     *slog.Logger
	cluster string     // ID
	node    string     // this one's name
	local   netip.Addr // and address
	mtu     func() int // of the underlay, in bytes
	send    func(p probe.Path, to netip.Addr, packet []byte) error
	// soon has a peer asked that has just asked, while the caller goes on.
	soon func(peer string)
	look func(ready func()) // looks at checksums, and calls ready once it does
	sums *sums

	mu    sync.Mutex
	peers map[string]overlay.Node // the other nodes, by name
	names map[netip.Addr]string   // of peers, by address
	asked map[uint64]*question    // that wait for an answer
	known map[string]*[subjects]outcome
}

// An outcome is what is known of a subject. The zero value is nothing.
type outcome struct {
	passes bool
	since  time.Time // from when on it has been so
	began  time.Time // the round that found it so last; zero: it was not asked
	bytes  int       // of the packet
	tried  time.Time // when it was last asked because it asked
}

// A question is about one subject to one peer.
type question struct {
	peer    string
	to      netip.Addr
	subject subject
	packet  []byte
	bytes   int // with the IP header
	round   *round
}

// A round is questions that are asked together.
type round struct {
	began   time.Time
	numbers []uint64 // of its questions, in the order they are sent in
	open    int      // how many have no answer; guarded by the prober
	done    chan struct{}
}

// pauses are how long a round waits after each time that it asks: a second in all.
var pauses = []time.Duration{50 * time.Millisecond, 150 * time.Millisecond, 300 * time.Millisecond, 500 * time.Millisecond}

// Packets of a round go some at a time, so that a thousand answers find room.
const (
	burst      = 64
	burstPause = time.Millisecond
)

// largest is the size of the largest packet that is asked about, in bytes: jumbo frames
// are not longer.
const largest = 9216

// change changes the nodes that there are, and returns the names of those that are new or
// have another address.
func (p *prober) change(with func(map[string]overlay.Node)) (fresh []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	nodes := maps.Clone(p.peers)
	if nodes == nil {
		nodes = map[string]overlay.Node{}
	}
	with(nodes)
	delete(nodes, p.node)
	before := p.peers
	p.peers, p.names = nodes, map[netip.Addr]string{}
	for name, n := range nodes {
		p.names[n.Address] = name
		if was, is := before[name]; !is || was.Address != n.Address {
			delete(p.known, name)
			fresh = append(fresh, name)
		}
	}
	maps.DeleteFunc(p.known, func(name string, _ *[subjects]outcome) bool { _, is := nodes[name]; return !is })
	slices.Sort(fresh)
	return fresh
}

// ask asks peers, and returns when all have answered or a second is over.
func (p *prober) ask(ctx context.Context, peers func(name string) bool) {
	r := p.begin(peers)
	for _, pause := range pauses {
		p.sendOpen(r)
		select {
		case <-r.done:
		case <-time.After(pause):
			continue
		case <-ctx.Done():
		}
		break
	}
	p.conclude(r, ctx.Err() != nil)
}

// begin makes the questions of a round.
func (p *prober) begin(peers func(name string) bool) *round {
	r := &round{began: time.Now(), done: make(chan struct{})}
	mtu := p.mtu()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked == nil {
		p.asked = map[uint64]*question{}
	}
	for _, name := range slices.Sorted(maps.Keys(p.peers)) {
		peer := p.peers[name]
		if !peers(name) || peer.Address.Is6() != p.local.Is6() {
			continue
		}
		for s := range subjects {
			q := &question{peer: name, to: peer.Address, subject: s, round: r}
			if s == subjectFull {
				if q.bytes = min(mtu, peer.MTU, largest); q.bytes <= 0 {
					continue
				}
			}
			number := rand.Uint64()
			q.packet = p.encode(s.path(), probe.Message{Number: number}, name, q.to, q.bytes)
			p.asked[number] = q
			r.numbers = append(r.numbers, number)
		}
	}
	if r.open = len(r.numbers); r.open == 0 {
		close(r.done)
	}
	return r
}

// encode makes a packet for a peer.
func (p *prober) encode(path probe.Path, m probe.Message, peer string, to netip.Addr, size int) []byte {
	const first, ports = 49152, 16384 // the dynamic ones, as VXLAN's own are by default of most
	return path.Encode(m, probe.Link{Cluster: p.cluster, From: p.node, To: peer},
		probe.Route{From: p.local, To: to, Port: uint16(first + rand.N(ports))}, size)
}

// sendOpen sends a round's questions that have no answer. One that can't be sent is one
// that is lost.
func (p *prober) sendOpen(r *round) {
	for i, number := range r.numbers {
		if i%burst == burst-1 {
			time.Sleep(burstPause)
		}
		p.mu.Lock()
		q := p.asked[number]
		p.mu.Unlock()
		if q == nil {
			continue
		}
		if err := p.send(q.subject.path(), q.to, q.packet); err != nil {
			p.log.Debug("a probe was not sent", "node", q.peer, "path", q.subject.path(), "error", err)
		}
	}
}

// receive takes a packet. Only nodes are answered, and never by a longer one.
func (p *prober) receive(path probe.Path, from netip.Addr, packet []byte) {
	m, err := path.Decode(packet)
	if err != nil {
		return
	}
	p.mu.Lock()
	peer, is := p.names[from]
	if is && m.Answer {
		p.answered(path, peer, m)
	}
	p.mu.Unlock()
	if !is || m.Answer || !m.Of(path, probe.Link{Cluster: p.cluster, From: peer, To: p.node}) {
		return
	}
	if m.Look {
		p.look(func() { p.answer(path, m.Number, peer, from) })
		return
	}
	p.answer(path, m.Number, peer, from)
	if p.unheard(path, peer) {
		p.soon(peer)
	}
}

// answer answers a question.
func (p *prober) answer(path probe.Path, number uint64, peer string, to netip.Addr) {
	packet := p.encode(path, probe.Message{Answer: true, Number: number}, peer, to, 0)
	if err := p.send(path, to, packet); err != nil {
		p.log.Debug("a probe was not answered", "node", peer, "path", path, "error", err)
	}
}

// unheard reports whether a peer whose question has come by a path has not answered by
// that one, when it was last asked: it may be back. Both ends can't find so of one another
// again and again: the one whose questions come gets its answers.
func (p *prober) unheard(path probe.Path, peer string) bool {
	s := subjectVXLAN
	if path == probe.ESP {
		s = subjectESP
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.known[peer]
	if known == nil {
		known = &[subjects]outcome{}
		p.remember(peer, known)
	}
	if known[s].passes || time.Since(known[s].tried) < probeSpace {
		return false
	}
	for s := range known {
		known[s].tried = time.Now()
	}
	return true
}

// remember has something known of a peer. The prober is locked.
func (p *prober) remember(peer string, known *[subjects]outcome) {
	if p.known == nil {
		p.known = map[string]*[subjects]outcome{}
	}
	p.known[peer] = known
}

// probeSpace is the least time between two rounds for a peer that asks.
const probeSpace = time.Second

// answered notes an answer. The prober is locked.
func (p *prober) answered(path probe.Path, peer string, m probe.Message) {
	q := p.asked[m.Number]
	if q == nil && path == probe.VXLAN && m.Of(path, probe.Link{Cluster: p.cluster, From: peer, To: p.node}) {
		p.sums.answered(peer, m.Number)
	}
	if q == nil || q.peer != peer || q.subject.path() != path || !m.Of(path, probe.Link{Cluster: p.cluster, From: peer, To: p.node}) {
		return
	}
	delete(p.asked, m.Number)
	p.note(q, true)
	if q.round.open--; q.round.open == 0 {
		close(q.round.done)
	}
}

// conclude finds lost what has no answer, unless the round was broken off.
func (p *prober) conclude(r *round, broken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	lost := map[string][]string{}
	for _, number := range r.numbers {
		q := p.asked[number]
		delete(p.asked, number)
		if q == nil || broken {
			continue
		}
		if p.note(q, false) {
			lost[q.peer] = append(lost[q.peer], subjectNames[q.subject])
		}
	}
	for _, peer := range slices.Sorted(maps.Keys(lost)) {
		p.log.Warn("packets do not pass", "node", peer, "address", p.peers[peer].Address, "what", strings.Join(lost[peer], ", "))
	}
}

var subjectNames = [subjects]string{"VXLAN", "VXLAN of the whole MTU", "ESP"}

// note notes an outcome, unless a later round has one, and reports whether it is another
// one than before. The prober is locked.
func (p *prober) note(q *question, passes bool) (other bool) {
	if p.peers[q.peer].Address != q.to {
		return false
	}
	if p.known[q.peer] == nil {
		p.remember(q.peer, &[subjects]outcome{})
	}
	o := &p.known[q.peer][q.subject]
	if o.began.After(q.round.began) {
		return false
	}
	first := o.began.IsZero()
	other = first || o.passes != passes
	if other {
		o.since = time.Now()
	}
	if other && passes && !first {
		p.log.Info("packets pass again", "node", q.peer, "what", subjectNames[q.subject])
	}
	o.passes, o.began, o.bytes = passes, q.round.began, q.bytes
	return other
}

// paths tells what is known of the paths to a peer.
func (p *prober) paths(peer string) (vxlan, esp cluster.Path) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.known[peer]
	if known == nil {
		return vxlan, esp
	}
	vxlan, esp = known[subjectVXLAN].shown(), known[subjectESP].shown()
	if full := known[subjectFull]; vxlan.State == cluster.Passes && full.shown().State == cluster.Lost {
		vxlan = full.shown()
		vxlan.Bytes = full.bytes
	}
	return vxlan, esp
}

func (o outcome) shown() cluster.Path {
	switch {
	case o.began.IsZero():
		return cluster.Path{}
	case o.passes:
		return cluster.Path{State: cluster.Passes, Since: o.since}
	}
	return cluster.Path{State: cluster.Lost, Since: o.since}
}
