package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"dcni/pkg/overlay"
)

// deathPause is how often some node looks which ones have died: each looks the more rarely
// the more there are. With a shorter time of grace that is more often.
const deathPause = time.Minute

// noteDeaths notes now and then which nodes have died, see [overlay.Cluster.NoteDeaths].
func (n *node) noteDeaths(ctx context.Context) {
	pause := max(time.Second, min(deathPause, n.options.grace/4))
	for nodes := 1; ; {
		one := pause * time.Duration(nodes)
		if !sleep(ctx, one/2+rand.N(one)) {
			return
		}
		limited, cancel := context.WithTimeout(ctx, 2*storeTime)
		count, err := n.cluster().NoteDeaths(limited, int64(n.options.grace/time.Second))
		cancel()
		if err == nil {
			nodes = max(1, count)
		} else if !errors.Is(err, overlay.ErrUnavailable) && ctx.Err() == nil {
			n.log.Warn("nodes that have died are not noted", "error", err)
		}
	}
}
