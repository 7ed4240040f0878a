package integration

import (
	"os"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// cmdClock steps the virtual machine's clock of the time of day, by a time that may be
// negative. Other machines' clocks are left alone.
func cmdClock(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: clock DURATION")
	}
	if os.Getenv(inVM) == "" {
		ts.Fatalf("clock: only in the virtual machine, for scripts in testdata/vm")
	}
	by, err := time.ParseDuration(args[0])
	ts.Check(err)
	ts.Check(stepClock(by))
	ts.Defer(func() { _ = stepClock(-by) })
}

func stepClock(by time.Duration) error {
	to := unix.NsecToTimespec(time.Now().Add(by).UnixNano())
	return unix.ClockSettime(unix.CLOCK_REALTIME, &to)
}
