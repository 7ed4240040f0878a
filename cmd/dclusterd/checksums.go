package main

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"dcni/pkg/host/offload"
	"dcni/pkg/host/rawip"
	"dcni/pkg/overlay"
	"dcni/pkg/overlay/probe"
)

// A NIC that computes checksums inside VXLAN wrongly lets pings and probes pass, and neither
// TCP nor UDP. A node finds out about its own when it begins and when a node comes: it sends
// another one a packet whose checksum is left to the NIC. If that one is lost, and one whose
// checksum the kernel has computed is not, the kernel is to compute all of this node's.

// Times of the test.
const (
	sumsWait  = 300 * time.Millisecond // for each answer
	sumsTries = 3                      // packets of a kind
	sumsLook  = 5 * time.Second        // how long a node looks at packets that it was asked to look at
	sumsSpace = 30 * time.Second       // between two tests
	sumsPeers = 3                      // that are asked until one says something
)

// sums is the test's part of a prober.
type sums struct {
	v6      bool
	fresh   chan struct{} // a node has come
	mu      sync.Mutex
	waits   map[uint64]wait
	looking bool
}

// A wait is for the answer of a peer.
type wait struct {
	peer string
	done chan struct{}
}

func newSums(local netip.Addr) *sums {
	return &sums{v6: local.Is6(), fresh: make(chan struct{}, 1), waits: map[uint64]wait{}}
}

// wake has the test made once more.
func (s *sums) wake() {
	select {
	case s.fresh <- struct{}{}:
	default:
	}
}

// await returns a number for a question, and what is closed when it is answered.
func (s *sums) await(peer string) (number uint64, answered <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	number = rand.Uint64()
	s.waits[number] = wait{peer, make(chan struct{})}
	return number, s.waits[number].done
}

// answered takes an answer, if it is one to a question of the test.
func (s *sums) answered(peer string, number uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w, is := s.waits[number]; is && w.peer == peer {
		delete(s.waits, number)
		close(w.done)
	}
}

// ask sends a question until it is answered, and reports whether it was.
func (s *sums) ask(ctx context.Context, peer string, send func(number uint64) error) (bool, error) {
	number, answered := s.await(peer)
	defer func() {
		s.mu.Lock()
		delete(s.waits, number)
		s.mu.Unlock()
	}()
	for range sumsTries {
		if err := send(number); err != nil {
			return false, err
		}
		select {
		case <-answered:
			return true, nil
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(sumsWait):
		}
	}
	return false, nil
}

// lookAtSums looks for some seconds at packets whose checksum other nodes leave to their NICs, and
// calls ready once it does.
func (n *node) lookAtSums(ctx context.Context, ready func()) {
	s := n.paths.sums
	s.mu.Lock()
	there := s.looking
	s.looking = true
	s.mu.Unlock()
	if there {
		ready()
		return
	}
	n.tasks.Go(func() {
		err := offload.Look(ctx, s.v6, pathWords(probe.Checksum), sumsLook, ready, n.paths.sum)
		s.mu.Lock()
		s.looking = false
		s.mu.Unlock()
		if err != nil {
			n.log.Debug("checksums of other nodes are not looked at", "error", err)
		}
	})
}

func pathWords(p probe.Path) (words []rawip.Word) {
	for _, w := range p.Words() {
		words = append(words, rawip.Word(w))
	}
	return words
}

// sum answers such a packet, if its checksum is right.
func (p *prober) sum(packet offload.Packet) {
	m, right, err := probe.DecodeFrame(packet.Data)
	if err != nil || m.Answer {
		return
	}
	p.mu.Lock()
	peer, is := p.names[packet.From]
	p.mu.Unlock()
	if !is || !m.Of(probe.Checksum, probe.Link{Cluster: p.cluster, From: peer, To: p.node}) {
		return
	}
	if !right && !packet.Trusted {
		p.log.Warn("a packet came whose checksum is wrong inside VXLAN", "node", peer)
		return
	}
	p.answer(probe.VXLAN, m.Number, peer, packet.From)
}

// testSums makes the test whenever nodes have come, and what it found hold for devices that
// come later.
func (n *node) testSums(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.paths.sums.fresh:
		}
		for _, peer := range n.sumsPeers() {
			passes, known := n.testSumsTo(ctx, peer)
			if known && !passes {
				n.computeSums(peer)
			}
			if known {
				break
			}
		}
		if !sleep(ctx, sumsSpace) {
			return
		}
	}
}

// sumsPeers are nodes to which VXLAN passes.
func (n *node) sumsPeers() (list []string) {
	p := n.paths
	p.mu.Lock()
	for name, known := range p.known {
		if known[subjectVXLAN].passes {
			list = append(list, name)
		}
	}
	p.mu.Unlock()
	slices.Sort(list)
	return list[:min(len(list), sumsPeers)]
}

// testSumsTo makes the test with a peer. It is not known how it ends with one that does not
// know it, or that has no packet of either kind.
func (n *node) testSumsTo(ctx context.Context, peer string) (passes, known bool) {
	p := n.paths
	p.mu.Lock()
	to := p.peers[peer].Address
	p.mu.Unlock()
	looks, err := p.sums.ask(ctx, peer, func(number uint64) error {
		return p.send(probe.VXLAN, to, p.encode(probe.VXLAN, probe.Message{Look: true, Number: number}, peer, to, 0))
	})
	if err != nil || !looks || !to.IsValid() {
		return false, false
	}
	s, err := offload.Open(probe.VNI, overlay.Port, p.local, to)
	if err != nil {
		n.log.Debug("checksums inside VXLAN are not tested", "error", err)
		return false, false
	}
	defer func() { _ = s.Close() }() // it is replaced when the next one is made
	ask := func() (bool, error) {
		return p.sums.ask(ctx, peer, func(number uint64) error {
			return s.Send(probe.Frame(probe.Message{Number: number}, probe.Link{Cluster: p.cluster, From: p.node, To: peer}))
		})
	}
	if passes, err = ask(); passes || err != nil {
		return passes, err == nil
	}
	if err := s.Compute(); err != nil {
		n.log.Debug("checksums inside VXLAN are not tested", "error", err)
		return false, false
	}
	known, err = ask()
	return false, known && err == nil
}

// computeSums has the kernel compute the checksums of what this node's containers send.
func (n *node) computeSums(peer string) {
	if !n.wrongSums.Swap(true) {
		n.log.Error("this host's NIC computes checksums inside VXLAN wrongly: tx-checksum-ip-generic is off on its VXLAN devices from now on", "found", "by "+peer)
	}
	n.keepSums()
}

// keepSums switches it off on devices that have come since.
func (n *node) keepSums() {
	if !n.wrongSums.Load() {
		return
	}
	self := n.self()
	for _, port := range []int{self.Ports.VXLAN, self.Ports.ESP} {
		changed, err := offload.Compute(port)
		if err != nil {
			n.log.Warn("checksums are left to the NIC, which computes them wrongly", "error", err)
		}
		if len(changed) > 0 {
			n.log.Info("tx-checksum-ip-generic was switched off", "links", strings.Join(changed, ", "))
		}
	}
}

// sumsWarning is what status says of it.
const sumsWarning = "this host's NIC computes checksums inside VXLAN wrongly, so the kernel does (tx-checksum-ip-generic is off on VXLAN devices): it costs processor time; a newer driver or firmware may mend it"
