package watch

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"dcni/pkg/host/proc"
	"dcni/pkg/host/rtnl"

	"golang.org/x/sys/unix"
)

// The kernel sends no messages about most settings below /proc/sys/net, and none
// about a bridge's MTU that could be told from what the kernel does to it itself.
// So they are looked at.
const (
	lookEvery = 400 * time.Millisecond
	lookShare = 50  // or in so many times the processor time that a look takes: with 1,000 sandboxes, 10 ms
	lookBatch = 256 // links in sandboxes that are asked for at once: the answers wait in the socket
)

// settingWatch knows how settings were, by the host's link that they are of or
// that leads to theirs. What differs from one look to the next is an event: also
// what was put back in between, which healing then finds to be so. Of a link that is
// new, it is an event if they are not as ADD leaves them.
type settingWatch struct {
	rt   *rtnl.Conn
	seen map[int]string // by index
}

// bridgeFilter stands for the settings that say whether the rules see what is
// bridged: whether ports are isolated depends on them.
const bridgeFilter = -1

// poll looks at settings until the context ends. A sandbox that lost an address is looked
// at once more: IPv6 may have been switched off there and on again between two looks, and
// of the second the kernel does not tell.
func (w *Watcher) poll(ctx context.Context) {
	runtime.LockOSThread() // whose time is taken
	defer runtime.UnlockOSThread()
	for wait := lookEvery; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		w.mu.Lock()
		again := w.again
		w.again = map[string]bool{}
		w.mu.Unlock()
		start := threadTime()
		for _, event := range w.settings.look(w.sandboxes()) {
			w.report(event)
		}
		for link := range again {
			w.report(Event{What: Inside, Link: link})
		}
		wait = max(lookEvery, lookShare*(threadTime()-start))
	}
}

// threadTime returns the processor time that the calling thread has had.
func threadTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_THREAD, &u) // never fails
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// sandboxes returns the host's ends of veths of ours that lead to a namespace.
func (w *Watcher) sandboxes() []*rtnl.Link {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []*rtnl.Link
	for _, l := range w.state.links {
		if l.Kind == "veth" && l.NSID >= 0 {
			list = append(list, l)
		}
	}
	return list
}

// look compares all settings with how they were. What can't be asked for now is no
// event.
func (s *settingWatch) look(ends []*rtnl.Link) (events []Event) {
	now := make(map[int]string, len(s.seen))
	see := func(index int, settings string, asADD bool, event Event) {
		now[index] = settings
		if before, ok := s.seen[index]; ok && before != settings || !ok && !asADD {
			events = append(events, event)
		}
	}
	see(bridgeFilter, filterSettings(), true, Event{What: Anything})
	bridges, err := s.rt.Bridges()
	for _, l := range bridges {
		if err == nil && l.Kind == "bridge" {
			// How one is to be set, depends on its network.
			see(l.Index, fmt.Sprintf("%x %d", l.Settings(bridgeSettings), l.MTU), false, Event{What: Link, Link: l.Name})
		}
	}
	for some := range slices.Chunk(ends, lookBatch) {
		for i, peer := range s.rt.Peers(some) {
			if peer != nil {
				see(some[i].Index, string(peer.Settings(sandboxSettings)), asADD(peer), Event{What: Inside, Link: some[i].Name})
			}
		}
	}
	s.seen = now
	return events
}

// What plans set of a bridge, and of the link in a sandbox.
var (
	bridgeSettings = []rtnl.DevConf{
		rtnl.DevConfs["ipv4/route_localnet"], rtnl.DevConfs["ipv6/accept_ra"], rtnl.DevConfs["ipv6/disable_ipv6"], rtnl.DevConfs["ipv6/accept_dad"],
	}
	sandboxSettings = []rtnl.DevConf{
		rtnl.ArpNotify, rtnl.NdiscNotify, rtnl.DisableIPv6, rtnl.AcceptDAD,
		rtnl.AcceptRA, rtnl.Autoconf, rtnl.AcceptRedirects4, rtnl.AcceptRedirects6,
	}
)

// asADD reports whether the link in a sandbox is set as one with IPv6, or without.
func asADD(i *rtnl.Link) bool {
	is := func(d rtnl.DevConf, value string) bool { have, err := d.Value(i); return err != nil || have == value }
	return is(rtnl.ArpNotify, "1") && is(rtnl.AcceptRedirects4, "0") && (is(rtnl.DisableIPv6, "1") ||
		is(rtnl.NdiscNotify, "1") && is(rtnl.AcceptDAD, "0") && is(rtnl.AcceptRA, "0") && is(rtnl.Autoconf, "0") && is(rtnl.AcceptRedirects6, "0"))
}

// filterSettings returns the settings of bridged packets, as they are.
func filterSettings() (values string) {
	for _, filter := range proc.BridgeFilters {
		value, err := proc.Sysctl(filter)
		if err != nil {
			value = "none" // the module is not loaded
		}
		values += value + " "
	}
	return values
}
