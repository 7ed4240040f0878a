package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
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

// timerSlack is by how much the kernel may wake a thread late that sleeps
// (PR_SET_TIMERSLACK(2const)); 50 µs is the usual. The Go runtime's monitor sleeps
// 20 µs at a time while anything is done: it took a tenth of what dnetd does for an
// ADD, on the processor where that was being done. What dnetd itself waits for are
// tens of milliseconds and more.
const timerSlack = time.Millisecond

// slacken sets the timer slack of the threads that there are. Those to come have
// that of who makes them. Under systemd the unit says so.
func slacken(log *slog.Logger) {
	threads, err := os.ReadDir("/proc/self/task")
	for _, thread := range threads {
		path := filepath.Join("/proc", thread.Name(), "timerslack_ns")
		ns := strconv.FormatInt(timerSlack.Nanoseconds(), 10)
		err = errors.Join(err, os.WriteFile(path, []byte(ns), 0))
	}
	if err != nil {
		log.Debug("threads wake more often than they need to", "error", err)
	}
}
