package host

import (
	"encoding/binary"
	"math"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/nlsock"
	"dcni/pkg/wire"
)

// linkWatch knows bridges and the host's ends of veths of ours, and tells from
// the kernel's messages what they lose. What it keeps of a link is copied out of
// the message: the buffer is used again.
type linkWatch struct {
	links map[int]*iface // by index
	ask   func(index int) (*iface, error)
}

// note remembers a link if it matters, and returns how it was.
func (w *linkWatch) note(l *iface) (before *iface) {
	before = w.links[l.index]
	if l.kind == "bridge" || l.kind == "veth" && wire.IsHostLink(l.name) {
		w.links[l.index] = &iface{
			index: l.index, master: l.master, peer: l.peer, nsid: l.nsid, mtu: l.mtu, flags: l.flags,
			hairpin: l.hairpin, isolated: l.isolated, name: l.name, kind: l.kind,
		}
	} else {
		delete(w.links, l.index)
	}
	return before
}

// whole reports whether a link is as one of ours is when ADD is done with it.
func whole(i *iface) bool {
	return i.up() && (i.kind == "bridge" || i.master != 0 && i.hairpin)
}

// loses reports whether a link was whole and is not as it was.
func loses(i, now *iface) bool {
	return whole(i) && (i.name != now.name || i.up() != now.up() ||
		i.kind != "bridge" && (i.master != now.master || i.hairpin != now.hairpin || i.isolated != now.isolated || i.mtu != now.mtu))
}

// leadingTo returns the links whose other ends are in a namespace.
func (w *linkWatch) leadingTo(nsid int) []*iface {
	var list []*iface
	for _, l := range w.links {
		if l.kind == "veth" && l.nsid == nsid {
			list = append(list, l)
		}
	}
	return list
}

// feed reads one message.
func (w *linkWatch) feed(nsid int, r nlsock.Reply) []Hint {
	if nsid != here {
		return w.inside(nsid, r)
	}
	switch r.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return w.link(r)
	case unix.RTM_DELADDR, unix.RTM_DELROUTE, unix.RTM_NEWROUTE:
		if l := w.links[deviceOf(r)]; l != nil && l.kind == "bridge" && (r.Type != unix.RTM_NEWROUTE || replaces(r)) {
			return []Hint{{Link, l.name}}
		}
	case unix.RTM_NEWNETCONF:
		if switchedOff(r.Data) {
			return []Hint{{What: Forwarding}}
		}
	}
	return nil
}

// link is about a link of the host's.
func (w *linkWatch) link(r nlsock.Reply) []Hint {
	if len(r.Data) < unix.SizeofIfInfomsg {
		return nil
	}
	now := parseIface(r.Data)
	if r.Data[0] == unix.AF_BRIDGE {
		// Of the bridge's own, which tell of the port only, also when it leaves.
		if w.links[now.index] == nil {
			return nil
		}
		asked, err := w.ask(now.index)
		if err != nil {
			return nil // deleted: its own message says so
		}
		now = asked
	} else if r.Type == unix.RTM_DELLINK {
		gone := w.links[now.index]
		delete(w.links, now.index)
		if gone == nil {
			return nil
		}
		return []Hint{{Link, gone.name}}
	}
	if before := w.note(now); before != nil && loses(before, now) {
		return []Hint{{Link, before.name}}
	}
	return nil
}

// inside is about a link in a sandbox.
func (w *linkWatch) inside(nsid int, r nlsock.Reply) []Hint {
	var index int
	switch r.Type {
	case unix.RTM_DELADDR, unix.RTM_DELROUTE:
		index = deviceOf(r)
	case unix.RTM_NEWLINK:
		index = lowered(r.Data)
	case unix.RTM_DELRULE:
		if isDetourRule(r.Data) {
			index = loIndex
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
	var hints []Hint
	for _, l := range w.leadingTo(nsid) {
		if index == loIndex || index == l.peer || index == anyIndex {
			hints = append(hints, Hint{Inside, l.name})
		}
	}
	return hints
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
		case netconfIfIndex:
			all = value == netconfAll
		case netconfForwarding:
			off = value == 0
		}
	})
	return all && off
}
