package cni

import (
	"fmt"
	"net/netip"
	"slices"

	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// This file is about healing on a LAN. An address that is away from its interface may have
// become another machine's: the LAN is asked before it is put back, as ADD does.

// together is how many attachments are asked for at the same time. Each has some sockets
// and a thread for it.
const together = 64

// A question is what the LAN is asked for one attachment, whose lock is held.
type question struct {
	rec  *records.Record
	lock *records.Lock
	need []wire.Object // the addresses that are away, and what else is to be made with them
	wire.Waiter
}

// askLAN puts back the addresses of all attachments that are left to it. Many are asked for
// at once: where a parent is there again, a thousand interfaces may be without addresses.
func (h *healer) askLAN() {
	for some := range slices.Chunk(h.unasked, together) {
		var asked []*question
		for _, a := range some {
			h.alone(a, func() {
				if q := h.ask(a); q != nil {
					asked = append(asked, q)
				}
			})
		}
		waiters := make([]wire.Waiter, len(asked))
		for i, q := range asked {
			waiters[i] = q
		}
		h.alone(wire.Attachment{}, func() {
			for i, found := range h.LAN.WaitAll(waiters) {
				h.alone(asked[i].rec.Attachment, func() { h.putBack(asked[i], found) })
			}
		})
		for _, q := range asked {
			q.Close()
			h.Namespaces.CloseNetNS(q.rec.NetNS)
			q.lock.Unlock()
		}
	}
}

// ask begins to ask for an attachment's addresses that are away. If there is nothing to ask
// for any more, it puts back what else is missing and returns nil.
func (h *healer) ask(a wire.Attachment) (asked *question) {
	lock, free, err := h.Locks.TryLockAttachment(a)
	if err != nil || !free {
		return nil // the next healing sees to it
	}
	defer func() {
		if asked == nil { // also after a panic
			lock.Unlock()
		}
	}()
	rec, err := h.Records.Get(a, h.Plugin.Type)
	if err != nil || rec.State != records.Up {
		return nil
	}
	found, err := h.Namespaces.OpenNetNS(rec.NetNS)
	if err != nil || !at(rec, found) {
		return nil
	}
	plan, err := h.plan(rec)
	if err != nil {
		return nil // reported before
	}
	q := &question{rec: rec, lock: lock}
	own := h.inSandbox(rec, plan.Own)
	q.need, _ = wire.NeedAddresses(own)
	away := h.away(rec, own)
	if len(away) == 0 { // they came with the link: it had another name
		wire.Heal(h.Host, q.need, h.exceptIPv6Off(rec, h.reporter(a)))
		return nil
	}
	if q.Waiter, err = h.LAN.Detect(h.detection(rec, away)); err != nil {
		h.reporter(a)(nil, nil, fmt.Errorf("ask the LAN for %v: %w", away, err))
		return nil
	}
	return q
}

// putBack puts back what the LAN was asked for and no machine has.
func (h *healer) putBack(q *question, found wire.Detected) {
	if found.Err != nil {
		h.reporter(q.rec.Attachment)(nil, nil, fmt.Errorf("ask the LAN: %w", found.Err))
		return
	}
	report := h.exceptIPv6Off(q.rec, h.reporter(q.rec.Attachment))
	for _, o := range q.need {
		if a, ok := o.(*wire.Addr); ok {
			if c := conflictOf(found.Taken, a.Prefix.Addr()); c != nil {
				report(a, h.Host.Check(a), fmt.Errorf("is used by %s", c.Holder()))
			}
		}
	}
	left := wire.WithoutTaken(q.need, found.Taken)
	wire.Heal(h.Host, left, report)
	for _, o := range left {
		if announcement, ok := o.(*wire.Announcement); ok {
			if _, err := h.Host.Ensure(announcement); err != nil {
				report(announcement, nil, err)
			}
		}
	}
}

func conflictOf(taken []wire.Conflict, a netip.Addr) *wire.Conflict {
	i := slices.IndexFunc(taken, func(c wire.Conflict) bool { return c.Address == a })
	if i < 0 {
		return nil
	}
	return &taken[i]
}

// away returns an attachment's addresses that are not on its interface and that the LAN is
// to be asked for.
func (h *healer) away(rec *records.Record, own []wire.Object) (list []netip.Addr) {
	mode, err := h.parseRecorded(rec)
	if err != nil || !mode.Describe().ConflictDetection {
		return nil
	}
	for _, o := range own {
		if a, ok := o.(*wire.Addr); ok && h.Host.Check(a) != nil {
			list = append(list, a.Prefix.Addr())
		}
	}
	return list
}

func (h *healer) detection(rec *records.Record, addresses []netip.Addr) wire.Detection {
	return detectionThrough(rec.Parent, wire.Detection{NetNS: rec.NetNS, Link: rec.IfName, Addresses: addresses})
}

// detectionThrough says which link the LAN is asked through. The children of an IP-VLAN hear
// what is for their addresses only. What is for a host without one is the parent's, whose
// MAC is theirs: the LAN is asked through that.
func detectionThrough(p *network.Parent, d wire.Detection) wire.Detection {
	if p != nil && p.Kind == wire.KindIpvlan {
		d.NetNS, d.Link = "", p.Name
	}
	return d
}
