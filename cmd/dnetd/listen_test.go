package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"dcni/pkg/host/agent"
)

// Once dnetd accepts no requests, a client is refused at once: it need not wait for
// the rest of dnetd to end.
//
// The test does not run beside others. They start programs, and a child has a copy
// of every descriptor from its fork to its exec. While it has one of the listening
// socket, connecting succeeds.
func TestListenCloses(t *testing.T) {
	r := newFixture(t)
	for range 200 {
		l, err := openListener(r.socket(), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(100*time.Microsecond, cancel)
		(&dnetd{listener: l}).listen(ctx)
		if _, err := agent.Dial(r.socket(), 20*time.Second); !errors.Is(err, agent.ErrAbsent) {
			t.Fatal(err)
		}
	}
}
