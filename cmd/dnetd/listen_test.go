package main

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"dcni/pkg/host/agent"
)

// Who finds enough waiting at the door is never counted among them: others would
// leave, too, and nobody be there.
func TestStays(t *testing.T) {
	d := &door{}
	for range spare {
		if !d.stays() {
			t.Fatal("nobody waits, and one more is too many")
		}
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20000 {
				if d.stays() || d.waiting.Load() != spare {
					t.Errorf("%d wait", d.waiting.Load())
					return
				}
			}
		})
	}
	all.Wait()
}

// Once nobody lets requests in, who knocks finds nobody, and need not wait for what
// else is to end.
func TestListenCloses(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for range 200 {
		door, err := openDoor(r.socket(), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(100*time.Microsecond, cancel)
		(&dnetd{door: door}).listen(ctx)
		if _, err := agent.Dial(r.socket(), time.Second); !errors.Is(err, agent.ErrAbsent) {
			t.Fatal(err)
		}
	}
}
