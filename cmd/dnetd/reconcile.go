package main

import (
	"context"
	"time"
)

// reconcileEvery is how often the records are compared with what is served.
const reconcileEvery = 5 * time.Second

// watchRecords compares again and again.
func (d *dnetd) watchRecords(ctx context.Context) {
	tick := time.NewTicker(reconcileEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			d.reconcile()
		}
	}
}

// reconcile forgets what no record has any more, and takes up what it does not
// know.
func (d *dnetd) reconcile() {
	d.work.Lock()
	defer d.work.Unlock()
}
