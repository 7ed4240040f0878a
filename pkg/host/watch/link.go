package watch

import (
	"encoding/binary"
	"math"
	"strings"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/nlsock"
	"dcni/pkg/host/nstable"
	"dcni/pkg/host/rtnl"
	"dcni/pkg/wire"
)

// linkWatch knows bridges, VXLAN devices and the host's ends of veths of ours, and tells
// from the kernel's messages what they lose. What it keeps of a link is copied out of
// the message: the buffer is used again.
type linkWatch struct {
	links   map[int]*rtnl.Link // by index
	parents map[int]parentLink // likewise: all links of the host
	ask     func(index int) (*rtnl.Link, error)
}

// parentLink is what matters of a link that interfaces of sandboxes may be on.
type parentLink struct {
	name string
	up   bool
	mtu  int
}

func parentOf(l *rtnl.Link) parentLink {
	return parentLink{name: strings.Clone(l.Name), up: l.Up(), mtu: l.MTU}
}

// parent tells of a link that came, went or changed. What comes with each ADD of a
// bridge network can be no parent.
func (w *linkWatch) parent(l *rtnl.Link, gone bool) (events []Event) {
	before, known := w.parents[l.Index]
	now := parentOf(l)
	switch {
	case l.Kind == "veth" && wire.IsHostLink(l.Name), known && !gone && before == now:
		return nil
	case gone:
		delete(w.parents, l.Index)
	default:
		w.parents[l.Index] = now
	}
	if known && before.name != now.name {
		events = append(events, Event{What: Parent, Link: before.name})
	}
	return append(events, Event{What: Parent, Link: now.name})
}

// note remembers a link if it matters, and returns how it was.
func (w *linkWatch) note(l *rtnl.Link) (before *rtnl.Link) {
	before = w.links[l.Index]
	if l.Kind == "bridge" || l.Kind == "vxlan" && l.Master != 0 || l.Kind == "veth" && wire.IsHostLink(l.Name) {
		w.links[l.Index] = &rtnl.Link{
			Index: l.Index, Master: l.Master, Peer: l.Peer, NSID: l.NSID, MTU: l.MTU, Flags: l.Flags,
			Hairpin: l.Hairpin, Isolated: l.Isolated, Learning: l.Learning, Suppress: l.Suppress, Name: l.Name, Kind: l.Kind,
		}
	} else {
		delete(w.links, l.Index)
	}
	return before
}

// whole reports whether a link is as one of ours is when ADD is done with it.
func whole(i *rtnl.Link) bool {
	return i.Up() && (i.Kind == "bridge" || i.Master != 0 && (i.Hairpin || i.Kind == "vxlan" && !i.Learning))
}

// loses reports whether a link was whole and is not as it was.
func loses(i, now *rtnl.Link) bool {
	return whole(i) && (i.Name != now.Name || i.Up() != now.Up() ||
		i.Kind != "bridge" && (i.Master != now.Master || i.Hairpin != now.Hairpin || i.Isolated != now.Isolated || i.Learning != now.Learning || i.MTU != now.MTU) ||
		i.Kind == "vxlan" && i.Suppress != now.Suppress)
}

// leadingTo returns the links whose other ends are in a namespace.
func (w *linkWatch) leadingTo(nsid int) []*rtnl.Link {
	var list []*rtnl.Link
	for _, l := range w.links {
		if l.Kind == "veth" && l.NSID == nsid {
			list = append(list, l)
		}
	}
	return list
}

// feed reads one message.
func (w *linkWatch) feed(nsid int, r nlsock.Reply) []Event {
	if nsid != rtnl.Here {
		return w.inside(nsid, r)
	}
	switch r.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return w.link(r)
	case unix.RTM_DELADDR, unix.RTM_DELROUTE, unix.RTM_NEWROUTE:
		if l := w.links[deviceOf(r)]; l != nil && l.Kind == "bridge" && (r.Type != unix.RTM_NEWROUTE || replaces(r)) {
			return []Event{{What: Link, Link: l.Name}}
		}
	case unix.RTM_NEWQDISC, unix.RTM_DELQDISC:
		if l := w.links[rtnl.TokenBucketOn(r.Data)]; l != nil {
			return []Event{{What: Link, Link: l.Name}}
		}
	case unix.RTM_NEWNETCONF:
		if switchedOff(r.Data) {
			return []Event{{What: Forwarding}}
		}
	}
	return nil
}

// link is about a link of the host's.
func (w *linkWatch) link(r nlsock.Reply) []Event {
	if len(r.Data) < unix.SizeofIfInfomsg {
		return nil
	}
	now := rtnl.ParseLink(r.Data)
	if r.Data[0] == unix.AF_BRIDGE {
		// Of the bridge's own, which tell of the port only, also when it leaves.
		if w.links[now.Index] == nil {
			return nil
		}
		asked, err := w.ask(now.Index)
		if err != nil {
			return nil // deleted: its own message says so
		}
		now = asked
	} else if r.Type == unix.RTM_DELLINK {
		events := w.parent(now, true)
		gone := w.links[now.Index]
		delete(w.links, now.Index)
		if gone != nil {
			events = append(events, Event{What: Link, Link: gone.Name})
		}
		return events
	}
	events := w.parent(now, false)
	before := w.note(now)
	if before != nil && loses(before, now) {
		events = append(events, Event{What: Link, Link: before.Name})
	}
	if now.Kind == "bridge" && (before == nil || before.Name != now.Name) {
		events = append(events, Event{What: Foreign}) // others' rules may let networks pass to it
	}
	return events
}

// inside is about a link in a sandbox.
func (w *linkWatch) inside(nsid int, r nlsock.Reply) []Event {
	var index int
	switch r.Type {
	case unix.RTM_DELADDR, unix.RTM_DELROUTE:
		index = deviceOf(r)
	case unix.RTM_NEWLINK:
		index = lowered(r.Data)
	case unix.RTM_DELLINK:
		if isChild(r.Data) { // of a veth, the host's end tells
			index = anyIndex
		}
	case unix.RTM_NEWQDISC, unix.RTM_DELQDISC:
		index = rtnl.TokenBucketOn(r.Data)
	case unix.RTM_DELRULE:
		switch {
		case nstable.IsPolicyRule(r.Data):
			index = rtnl.LoIndex
		case isSourceRule(r.Data):
			index = anyIndex
		}
	case unix.RTM_NEWROUTE:
		switch {
		case replaces(r):
			index = anyIndex
		case isLearned(r.Data):
			index = deviceOf(r)
		}
	}
	if index == 0 {
		return nil
	}
	events := w.insideOf(nsid, index)
	if index == rtnl.LoIndex && r.Type == unix.RTM_NEWLINK {
		events = append(events, Event{What: Lo})
	}
	return events
}

// insideOf returns the events about a link in a sandbox. One that is not the other end of a
// veth of ours may be one on a link of the host's, of a container that has both.
func (w *linkWatch) insideOf(nsid, index int) (events []Event) {
	ours := false
	for _, l := range w.leadingTo(nsid) {
		if index == rtnl.LoIndex || index == l.Peer || index == anyIndex {
			events = append(events, Event{What: Inside, Link: l.Name})
		}
		ours = ours || index == l.Peer
	}
	if !ours {
		events = append(events, Event{What: Inside, NSID: nsid})
	}
	return events
}

// anyIndex stands for all links: the kernel says which route has replaced
// another, and not which link that one was on.
const anyIndex = -1

// replaces reports whether a new route has replaced another.
func replaces(r nlsock.Reply) bool { return r.Flags&unix.NLM_F_REPLACE != 0 }

// isChild reports whether a message is about an interface that is on a link elsewhere.
func isChild(data []byte) bool {
	if len(data) < unix.SizeofIfInfomsg {
		return false
	}
	kind := rtnl.ParseLink(data).Kind
	return kind == wire.KindMacvlan || kind == wire.KindIpvlan
}

// isLearned reports whether a route is of a router advertisement.
func isLearned(data []byte) bool {
	const protocol = 5 // of a struct rtmsg
	return len(data) >= unix.SizeofRtMsg && data[protocol] == unix.RTPROT_RA
}

// isSourceRule reports whether a rule leads to a table of [wire.SourceRoutes].
func isSourceRule(data []byte) (is bool) {
	if len(data) < unix.SizeofRtMsg { // struct fib_rule_hdr has the same size
		return false
	}
	nlsock.Attributes(data[unix.SizeofRtMsg:], func(typ uint16, data []byte) {
		if typ == unix.FRA_TABLE && len(data) >= 4 {
			is = wire.IsSourceTable(int(binary.NativeEndian.Uint32(data)))
		}
	})
	return is
}

// deviceOf returns the index of the link that an address or a route is on, 0 if
// it is on none, or on several.
func deviceOf(r nlsock.Reply) (index int) {
	switch {
	case r.Type == unix.RTM_DELADDR && len(r.Data) >= unix.SizeofIfAddrmsg:
		return int(binary.NativeEndian.Uint32(r.Data[4:]))
	case (r.Type == unix.RTM_DELROUTE || r.Type == unix.RTM_NEWROUTE) && len(r.Data) >= unix.SizeofRtMsg:
		nlsock.Attributes(r.Data[unix.SizeofRtMsg:], func(typ uint16, data []byte) {
			if typ == unix.RTA_OIF && len(data) >= 4 {
				index = int(binary.NativeEndian.Uint32(data))
			}
		})
	}
	return index
}

// lowered returns the index of a link that the message says was just taken
// down, else 0. One that is new says that all of it has changed.
func lowered(data []byte) int {
	if len(data) < unix.SizeofIfInfomsg {
		return 0
	}
	flags, change := binary.NativeEndian.Uint32(data[8:]), binary.NativeEndian.Uint32(data[12:])
	if change&unix.IFF_UP == 0 || change == math.MaxUint32 || flags&unix.IFF_UP != 0 {
		return 0
	}
	return int(int32(binary.NativeEndian.Uint32(data[4:])))
}

// switchedOff reports whether a message says that the host forwards no more.
func switchedOff(data []byte) bool {
	const family = 4 // struct netconfmsg, padded
	if len(data) < family {
		return false
	}
	all, off := false, false
	nlsock.Attributes(data[family:], func(typ uint16, data []byte) {
		if len(data) < 4 {
			return
		}
		switch value := binary.NativeEndian.Uint32(data); typ {
		case rtnl.NetconfIfIndex:
			all = value == rtnl.NetconfAll
		case rtnl.NetconfForwarding:
			off = value == 0
		}
	})
	return all && off
}
