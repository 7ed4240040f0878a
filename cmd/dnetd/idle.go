package main

import (
	"context"
	"time"
)

const (
	idleTime  = time.Second     // without a container, then dnetd ends
	idleStart = 5 * time.Second // for the first one to come
)

// awaitIdle ends a dnetd that a plugin started once there is nothing to do for
// it any more.
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

// busy reports whether a container needs dnetd, for its names or for ports that
// are relayed, or is just about to.
func (d *dnetd) busy() bool {
	return d.memory.count() > 0 || d.ports.relay.Stats().Ports > 0
}

// endIdle ends dnetd, unless a request came in just now. One that comes later
// finds nobody, and its plugin starts another dnetd.
func (d *dnetd) endIdle() bool {
	if err := d.door.shut(0); err != nil {
		return false // a successor takes over
	}
	if d.busy() {
		if err := d.door.reopen(0); err != nil {
			d.log.Error("no more requests can be let in", "error", err)
			d.end()
		}
		return false
	}
	d.log.Info("no container is left")
	d.end()
	return true
}
