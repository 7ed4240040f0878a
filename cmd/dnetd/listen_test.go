package main

import (
	"sync"
	"testing"
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
