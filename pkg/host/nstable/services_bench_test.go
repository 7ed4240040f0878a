package nstable

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/hosttest"
	"dcni/pkg/service"
)

// BenchmarkServices is what rules of 100 services of 10 tasks each take: all of them in a sandbox that has none, and
// one that changes.
func BenchmarkServices(b *testing.B) {
	var want []service.Balanced
	for i := range 100 {
		var tasks []string
		for t := range 10 {
			tasks = append(tasks, fmt.Sprintf("10.9.%d.%d", 1+i, 1+t))
		}
		want = append(want, balanced(fmt.Sprint("v", i), fmt.Sprintf("10.9.0.%d", 1+i), tasks...))
	}
	// of the processor: other programs may be busy
	spent := func() (d time.Duration) {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
			b.Fatal(err)
		}
		return time.Duration(ts.Nano())
	}
	fewer := slices.Clone(want)
	fewer[50].Tasks = fewer[50].Tasks[1:]
	states := [][]service.Balanced{want, fewer}
	b.Run("all", func(b *testing.B) {
		took := time.Duration(0)
		for b.Loop() {
			hosttest.InNewNS(b, func() {
				table := tableHere(b, false)
				began := spent()
				if _, err := table.InstallServices("web", want); err != nil {
					b.Fatal(err)
				}
				took += spent() - began
			})
		}
		b.ReportMetric(float64(took.Microseconds())/float64(b.N), "µs-of-processor/op")
	})
	for name, change := range map[string]func(t Table, have, want []service.Balanced) error{
		"one":       func(t Table, _, want []service.Balanced) error { _, err := t.InstallServices("web", want); return err },
		"one-known": func(t Table, have, want []service.Balanced) error { return t.ChangeServices("web", have, want) },
	} {
		hosttest.InNewNS(b, func() {
			table := tableHere(b, false)
			if _, err := table.InstallServices("web", want); err != nil {
				b.Fatal(err)
			}
			b.Run(name, func(b *testing.B) {
				runtime.LockOSThread()
				began := spent()
				for i := 0; b.Loop(); i++ {
					if err := change(table, states[i%2], states[1-i%2]); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64((spent()-began).Microseconds())/float64(b.N), "µs-of-processor/op")
			})
		})
	}
}
