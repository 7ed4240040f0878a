package follow

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"dcni/pkg/names"
	"dcni/pkg/overlay"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// A follower follows one network.
type follower struct {
	*Networks
	peers    wire.Peers
	cancel   context.CancelFunc
	done     chan struct{}
	requests chan request
	current  atomic.Bool // the picture is as the store has it

	// The rest is run's own.
	view  *view         // nil: the store has not been seen
	asked int           // how many entries were just compared with the kernel's
	known bool          // the kernel has the entries that the picture has told of
	nodes []netip.Addr  // that are let in
	named []names.Entry // what is shown
	saved []names.Entry // what is kept

	served *service.Picture // what is kept of services; nil: nothing, or not all

	gather  time.Duration // how long changes are gathered after others were applied
	applied time.Time     // when they were

	naming, keeping, serving pace
}

// A pace has something done no more often than takes a share of the time.
type pace struct {
	longest time.Duration
	timer   *time.Timer // until it may be done again; nil: it may be
	waiting bool        // it is to be done then
}

// do does it, or has it wait for again. It reports which.
func (p *pace) do(share time.Duration, it func()) bool {
	if p.timer != nil {
		p.waiting = true
		return false
	}
	began := time.Now()
	it()
	p.timer, p.waiting = time.NewTimer(min(share*time.Since(began), p.longest)), false
	return true
}

// again has a value when it may be done again.
func (p *pace) again() <-chan time.Time {
	if p.timer == nil {
		return nil
	}
	return p.timer.C
}

// due reports whether it waits to be done, now that it may be.
func (p *pace) due() bool {
	p.timer = nil
	return p.waiting
}

// A request has the entries compared with the kernel's.
type request struct {
	repair bool // and entered again
	answer chan error
}

// ask makes a request, and waits a while for the answer.
func (f *follower) ask(repair bool) error {
	timer := time.NewTimer(SyncTimeout)
	defer timer.Stop()
	r := request{repair, make(chan error, 1)}
	select {
	case f.requests <- r:
	case <-f.done:
		return wire.Errorf(wire.CodeTryAgain, "network %s: dnetd does not follow it any more", f.peers.Network)
	case <-timer.C:
		return wire.Errorf(wire.CodeTryAgain, "network %s: the cluster's store did not answer in %v", f.peers.Network, SyncTimeout)
	}
	select {
	case err := <-r.answer:
		return err
	case <-timer.C:
		return wire.Errorf(wire.CodeTryAgain, "network %s: its entries were not there in %v", f.peers.Network, SyncTimeout)
	}
}

// run follows the network until the context ends, whatever becomes of the store.
func (f *follower) run(ctx context.Context) {
	if list, err := f.Kept.PeerNames(f.peers.Network); err == nil {
		f.named, f.saved = list, list
		f.Show(f.peers.Network, list) // until the store answers
	}
	if p, err := f.Kept.Served(f.peers.Network); err == nil {
		f.served = &p
	}
	pause, said := pauseFirst, ""
	for ctx.Err() == nil {
		began := time.Now()
		err := f.watch(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > pauseLongest {
			pause, said = pauseFirst, ""
		}
		if text := err.Error(); text != said {
			f.Log.Warn("an overlay network stays as it is", "network", f.peers.Network, "error", err)
			said = text
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause + rand.N(pause)): // all nodes have lost the same member
		}
		pause = min(2*pause, pauseLongest)
	}
}

// watch follows the network for as long as the store can go on.
func (f *follower) watch(ctx context.Context) error {
	store, err := f.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }() // it was only read
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if f.view == nil || f.view.keys != store.Keys || f.view.picture.Self != store.Node {
		f.view, f.known = newView(store, f.peers), false
	}
	v := f.view
	events, err := v.begin(ctx, store)
	if err != nil {
		return err
	}
	defer v.end()
	tick := time.NewTicker(settlePeriod)
	defer tick.Stop()
	f.current.Store(true)
	defer f.current.Store(false)
	defer f.keep()
	defer f.serve(v)
	f.naming, f.keeping, f.serving = pace{longest: nameLongest}, pace{longest: keepLongest}, pace{longest: serveLongest}
	for {
		began := time.Now()
		_ = f.apply(v) // is logged, and tried again
		if f.asked >= manyEntries && f.Trim != nil {
			f.Trim()
		}
		f.asked = 0
		f.applied = time.Now()
		f.gather = min(gatherShare*f.applied.Sub(began), gatherLongest)
		f.serving.do(serveShare, func() { f.serve(v) }) // first: connections depend on it
		if f.naming.do(nameShare, func() { f.name(v) }) {
			f.keeping.do(keepShare, f.keep)
		}
		if err := f.next(ctx, v, events, tick.C); err != nil {
			return err
		}
	}
}

// name shows the names of the picture.
func (f *follower) name(v *view) {
	if v.unread != nil {
		f.Log.Warn("the store has a value that can't be read", "network", f.peers.Network, "error", v.unread)
		v.unread = nil
	}
	f.named = v.names(time.Now())
	f.Show(f.peers.Network, f.named)
}

// serve keeps what the picture has of services, if it is something else than before.
func (f *follower) serve(v *view) {
	now := v.services(time.Now())
	before := f.served
	if before != nil && reflect.DeepEqual(*before, now) {
		return
	}
	f.served = &now
	if err := f.Kept.PutServed(now); err != nil {
		f.Log.Warn("services of an overlay network are not kept", "network", f.peers.Network, "error", err)
		f.served = nil // once more, at the next change
	}
	if len(now.Services) > 0 || before != nil && len(before.Services) > 0 {
		f.Served(f.peers.Network)
	}
}

// keep keeps the names for the next process.
func (f *follower) keep() {
	if slices.EqualFunc(f.saved, f.named, same) {
		return
	}
	f.saved = f.named
	if err := f.Kept.PutPeerNames(f.peers.Network, f.named); err != nil {
		f.Log.Warn("names of other nodes are not kept", "network", f.peers.Network, "error", err)
	}
}

func same(a, b names.Entry) bool {
	return a.Container == b.Container && a.IfName == b.IfName && slices.Equal(a.Names, b.Names) && slices.Equal(a.Addresses, b.Addresses)
}

// next waits for something to do, and answers requests.
func (f *follower) next(ctx context.Context, v *view, events <-chan event, tick <-chan time.Time) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-events:
			return v.take(e, events, time.After(f.gather-time.Since(f.applied)))
		case <-v.changes():
			return nil
		case <-f.serving.again():
			if f.serving.due() {
				return nil
			}
		case <-f.naming.again():
			if f.naming.due() {
				return nil
			}
		case <-f.keeping.again():
			if f.keeping.due() {
				f.keeping.do(keepShare, f.keep)
			}
		case <-tick:
			f.known = false
			return nil
		case r := <-f.requests:
			if !r.repair {
				r.answer <- f.compare(v)
				continue
			}
			f.known = false
			r.answer <- f.apply(v)
			return nil
		}
	}
}

// apply enters what is not there as the picture has it, and removes what is not in it.
// After an error it is to be called again.
func (f *follower) apply(v *view) error {
	err := f.change(v.picture)
	if err != nil {
		f.Log.Warn("not all entries of an overlay network are there", "network", f.peers.Network, "error", err)
		f.known = false
	}
	return err
}

// change enters what is not there as in the picture, and removes the rest. Where what is
// there is not known, it asks the kernel for all of it. Nodes come first: what they send
// is to be let in.
func (f *follower) change(p *overlay.Picture) error {
	have, want := p.Changes()
	nodes := p.Underlay()
	if f.known && len(have)+len(want) == 0 && slices.Equal(nodes, f.nodes) {
		return nil // what changed is on this node
	}
	h, closeHost, err := f.Host()
	if err != nil {
		return err
	}
	defer closeHost()
	if !f.known || !slices.Equal(nodes, f.nodes) {
		if err := h.PutNodes(nodes); err != nil {
			return err
		}
		f.nodes = nodes
	}
	first := false
	if !f.known {
		if have, err = h.Entries(f.peers.Bridge, f.peers.Vxlan); err != nil {
			return err
		}
		want = p.Objects()
		f.asked, first = max(len(have), len(want)), len(have) == 0
	}
	f.known = true
	gone, wanted := overlay.Differences(have, want)
	_, err = wire.Apply(h, gone, wanted)
	if first {
		return err // no container has been here
	}
	f.announce(h, wanted)
	return err
}

// announce tells this node's containers of addresses that were entered. One that has asked
// for such an address before would wait until the kernel asks again, which is a second, and
// one that knows another MAC for it would go on with that. With Flood they hear what the
// other containers announce themselves.
func (f *follower) announce(h Host, entered []wire.Object) {
	var list []*wire.Neigh
	for _, o := range entered {
		if n, ok := o.(*wire.Neigh); ok && n.Dev == f.peers.Vxlan {
			list = append(list, n)
		}
	}
	if len(list) == 0 {
		return
	}
	if err := h.Announce(f.peers.Bridge, list); err != nil {
		f.Log.Warn("containers are not told of addresses on other nodes", "network", f.peers.Network, "error", err)
	}
}

// compare returns how the kernel's entries differ from the picture's.
func (f *follower) compare(v *view) error {
	h, closeHost, err := f.Host()
	if err != nil {
		return err
	}
	defer closeHost()
	have, err := h.Entries(f.peers.Bridge, f.peers.Vxlan)
	if err != nil {
		return err
	}
	gone, wanted := overlay.Differences(have, v.picture.Objects())
	switch {
	case len(wanted) > 0:
		return fmt.Errorf("network %s: %d entries for other nodes are missing: %s", f.peers.Network, len(wanted), wanted[0])
	case len(gone) > 0:
		return fmt.Errorf("network %s: %d entries are no other node's: %s", f.peers.Network, len(gone), gone[0])
	}
	return nil
}
