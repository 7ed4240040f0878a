package host

import (
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/lan"
	"dcni/pkg/wire"
)

// announcement is a [wire.Announcement].
type announcement struct {
	h *Host
	o *wire.Announcement
}

// Ensure says it. It changes nothing that could be undone.
func (a announcement) Ensure() (bool, error) {
	_, l, err := a.h.spaces.Link(a.o.NetNS, a.o.Dev)
	if err != nil {
		return false, err
	}
	return false, a.h.spaces.Run(a.o.NetNS, func() error { return lan.Announce(l.Index, l.MAC, a.o.Addresses) })
}

func (a announcement) Check() error { return nil }

func (a announcement) Remove() error { return nil }

func (a announcement) Probe() error { return nil }

// Detect begins to ask a LAN for addresses. An address of the host's own is taken as well:
// no link on its NIC hears the host's answer.
func (h *Host) Detect(d wire.Detection) (wire.Waiter, error) {
	_, l, err := h.spaces.Link(d.NetNS, d.Link)
	if err != nil {
		return nil, err
	}
	taken, err := h.ownAmong(d.Addresses)
	if err != nil || len(taken) > 0 {
		return known(taken), err
	}
	var found *lan.Detection
	err = h.spaces.Run(d.NetNS, func() (err error) {
		found, err = lan.Begin(l.Index, l.MAC, d.Addresses, d.Again)
		return err
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// WaitAll waits for several detections at the same time. What a machine sends can't end the
// process by a panic: dnetd heals many attachments.
func (h *Host) WaitAll(list []wire.Waiter) []wire.Detected {
	found := make([]wire.Detected, len(list))
	var waiting sync.WaitGroup
	for i, w := range list {
		waiting.Go(func() {
			defer func() {
				if why := recover(); why != nil {
					found[i].Err = fmt.Errorf("panic: %v\n%s", why, debug.Stack())
				}
			}()
			found[i].Taken, found[i].Err = w.Wait()
		})
	}
	waiting.Wait()
	return found
}

// ownAmong returns which addresses are the host's own.
func (h *Host) ownAmong(list []netip.Addr) (taken []wire.Conflict, err error) {
	have, err := h.spaces.Root.RT.Addrs(0, unix.AF_UNSPEC)
	for _, p := range have {
		if slices.Contains(list, p.Addr()) {
			taken = append(taken, wire.Conflict{Address: p.Addr()})
		}
	}
	return taken, err
}

// known are conflicts that are known at once.
type known []wire.Conflict

// Wait returns them.
func (k known) Wait() ([]wire.Conflict, error) { return k, nil }

// Close does nothing.
func (k known) Close() {}
