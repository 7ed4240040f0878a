package main

import (
	"log/slog"
	"syscall"
)

// wantFiles is how many files dnetd wants to be able to open: a container takes two
// to four, and each is open twice during a handover.
const wantFiles = 65536

// raiseFileLimit raises the limit of open files if it is low. The Go runtime has
// raised the soft limit to the hard one already; root may raise both.
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
