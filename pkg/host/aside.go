package host

import (
	"fmt"
	"runtime/debug"
)

// aside runs f in a goroutine of its own until wait is called, as it must be. If
// f panics, so does wait: a caller may recover, as dnetd does, and a goroutine's
// panic that nobody recovers ends the process.
func aside(f func()) (wait func()) {
	done := make(chan any, 1)
	go func() {
		defer func() {
			why := recover()
			if why != nil {
				why = fmt.Sprintf("%v\n%s", why, debug.Stack())
			}
			done <- why
		}()
		f()
	}()
	return func() {
		if why := <-done; why != nil {
			panic(why)
		}
	}
}

// await waits for all, also where one panics.
func await(waits []func()) {
	for _, wait := range waits {
		defer wait()
	}
}
