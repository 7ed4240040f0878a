package watch

import (
	"encoding/binary"
	"math"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/nlsock"
	"dcni/pkg/host/nstable"
	"dcni/pkg/host/rtnl"
	"dcni/pkg/wire"
)

// linkWatch knows bridges and the host's ends of veths of ours, and tells from
// the kernel's messages what they lose. What it keeps of a link is copied out of
// the message: the buffer is used again.
type linkWatch struct {
	links map[int]*rtnl.Link // by index
	ask   func(index int) (*rtnl.Link, error)
}

// note remembers a link if it matters, and returns how it was.
func (w *linkWatch) note(l *rtnl.Link) (before *rtnl.Link) {
	before = w.links[l.Index]
	if l.Kind == "bridge" || l.Kind == "veth" && wire.IsHostLink(l.Name) {
		w.links[l.Index] = &rtnl.Link{
			Index: l.Index, Master: l.Master, Peer: l.Peer, NSID: l.NSID, MTU: l.MTU, Flags: l.Flags,
			Hairpin: l.Hairpin, Isolated: l.Isolated, Name: l.Name, Kind: l.Kind,
		}
	} else {
		delete(w.links, l.Index)
	}
	return before
}

// whole reports whether a link is as one of ours is when ADD is done with it.
func whole(i *rtnl.Link) bool {
	return i.Up() && (i.Kind == "bridge" || i.Master != 0 && i.Hairpin)
}

// loses reports whether a link was whole and is not as it was.
func loses(i, now *rtnl.Link) bool {
	return whole(i) && (i.Name != now.Name || i.Up() != now.Up() ||
		i.Kind != "bridge" && (i.Master != now.Master || i.Hairpin != now.Hairpin || i.Isolated != now.Isolated || i.MTU != now.MTU))
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
			return []Event{{Link, l.Name}}
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
		gone := w.links[now.Index]
		delete(w.links, now.Index)
		if gone == nil {
			return nil
		}
		return []Event{{Link, gone.Name}}
	}
	if before := w.note(now); before != nil && loses(before, now) {
		return []Event{{Link, before.Name}}
	}
	return nil
}

// inside is about a link in a sandbox.
func (w *linkWatch) inside(nsid int, r nlsock.Reply) []Event {
	var index int
	switch r.Type {
	case unix.RTM_DELADDR, unix.RTM_DELROUTE:
		index = deviceOf(r)
	case unix.RTM_NEWLINK:
		index = lowered(r.Data)
	case unix.RTM_DELRULE:
		if nstable.IsPolicyRule(r.Data) {
			index = rtnl.LoIndex
		}
	case unix.RTM_NEWROUTE:
		if !replaces(r) {
			return nil
		}
		index = anyIndex
	}
	if index == 0 {
		return nil
	}
	var events []Event
	for _, l := range w.leadingTo(nsid) {
		if index == rtnl.LoIndex || index == l.Peer || index == anyIndex {
			events = append(events, Event{Inside, l.Name})
		}
	}
	return events
}

// anyIndex stands for all links: the kernel says which route has replaced
// another, and not which link that one was on.
const anyIndex = -1

// replaces reports whether a new route has replaced another.
func replaces(r nlsock.Reply) bool { return r.Flags&unix.NLM_F_REPLACE != 0 }

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
