package main

import (
	"log/slog"
	"syscall"
	"time"

	"dcni/pkg/host"
)

// wantFiles is how many files should be possible: a container takes two to
// four, and on its way to a successor each is open twice.
const wantFiles = 65536

// raiseFileLimit raises the limit of open files if it is low. Go has raised the
// soft one to the hard one already; root may go beyond that.
func raiseFileLimit(log *slog.Logger) {
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	if err == nil && limit.Cur < wantFiles {
		err = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: wantFiles, Max: max(wantFiles, limit.Max)})
	}
	if err != nil {
		log.Info("the limit of open files stays low", "limit", limit.Cur, "error", err)
	}
}

// timerSlack is by how much threads may be woken late. The Go runtime's monitor
// sleeps 20 µs at a time while anything is done: it took a tenth of what dnetd does
// for an ADD, on the processor where that was being done. What dnetd itself waits
// for are tens of milliseconds and more.
const timerSlack = time.Millisecond

// slacken has threads woken when others are. Under systemd the unit says so.
func slacken(log *slog.Logger) {
	if err := host.SetTimerSlack(timerSlack); err != nil {
		log.Debug("threads wake more often than they need to", "error", err)
	}
}
