package rules

import (
	"errors"
	"slices"

	"dcni/pkg/firewall"
	"dcni/pkg/records"
)

// underlay is a [firewall.Underlay].
type underlay struct {
	h *Rules
	o *firewall.Underlay
}

// Ensure closes the port, and notes before that it does. The nodes that dnetd put in last
// are in at once, also where another program flushed the rules. The caller holds the
// host's lock.
func (u underlay) Ensure() (bool, error) {
	if u.Check() == nil {
		return false, nil
	}
	if err := u.h.Records.PutChange(&records.Change{Key: u.o.Key(), Port: u.o.Port}); err != nil {
		return false, err
	}
	nodes, err := u.h.Records.UnderlayNodes()
	if err != nil {
		return false, err
	}
	return u.h.nft.Ensure(&firewall.Underlay{Port: u.o.Port, Known: append(nodes, u.o.Known...)})
}

func (u underlay) Check() error {
	if !u.h.Records.HasChange(u.o.Key()) {
		return errors.New("it is not on record")
	}
	return u.h.nft.Check(u.o)
}

// Remove opens the port. The caller holds the host's lock.
func (u underlay) Remove() error {
	if !u.h.Records.HasChange(u.o.Key()) {
		return nil
	}
	if err := u.h.nft.Remove(u.o); err != nil {
		return err
	}
	return u.h.Records.DeleteChange(u.o.Key())
}

func (u underlay) Probe() error { return u.h.nft.Probe() }

// underlayNodes is a [firewall.Nodes].
type underlayNodes struct {
	h *Rules
	o *firewall.Nodes
}

// Ensure notes them, for what closes the next port or closes one again, and puts them in
// where a port is closed.
func (n underlayNodes) Ensure() (bool, error) {
	if known, err := n.h.Records.UnderlayNodes(); err != nil || !slices.Equal(known, n.o.Addresses) {
		if err := n.h.Records.PutUnderlayNodes(n.o.Addresses); err != nil {
			return false, err
		}
	}
	if closed, err := n.closed(); !closed || err != nil {
		return false, err
	}
	return n.h.nft.Ensure(n.o)
}

// closed reports whether the host has a port that is closed to strangers.
func (n underlayNodes) closed() (bool, error) {
	list, err := n.h.Records.Changes()
	for _, c := range list {
		if c.Port != 0 {
			return true, err
		}
	}
	return false, err
}

func (n underlayNodes) Check() error {
	if closed, err := n.closed(); !closed || err != nil {
		return err
	}
	return n.h.nft.Check(n.o)
}

// Remove does nothing: they go with the last port.
func (n underlayNodes) Remove() error { return nil }

func (n underlayNodes) Probe() error { return nil }
