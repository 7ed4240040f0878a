package main

import (
	"context"
	"time"
)

const (
	idleTime  = time.Second     // dnetd ends after so much time without a container
	idleStart = 5 * time.Second // and after so much if there never was one
)

// awaitIdle ends a dnetd that a plugin started once it has nothing to do any
// more.
func (d *dnetd) awaitIdle(ctx context.Context) {
	if !d.options.onDemand {
		return
	}
	tick := time.NewTicker(idleTime / 10)
	defer tick.Stop()
	until := time.Now().Add(idleStart)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		switch {
		case d.busy():
			until = time.Now().Add(idleTime)
		case time.Now().After(until) && d.endIdle():
			return
		}
	}
}

// busy reports whether a container needs dnetd, for its names, for ports that are
// relayed, for an overlay network's entries or for services, or is just about to.
func (d *dnetd) busy() bool {
	return d.registry.count() > 0 || d.ports.relay.Stats().Ports > 0 || len(d.overlays.Names()) > 0 || d.services.busy()
}

// endIdle ends dnetd, unless a request came just now. The plugin of a later one
// finds no dnetd, and starts another.
func (d *dnetd) endIdle() bool {
	if err := d.listener.pauseAccept(0); err != nil {
		return false // a successor takes over
	}
	if d.busy() {
		if err := d.listener.resumeAccept(0); err != nil {
			d.log.Error("no more requests can be accepted", "error", err)
			d.end()
		}
		return false
	}
	d.log.Info("no container is left")
	d.end()
	return true
}
