package main

import (
	"log/slog"
	"syscall"
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
