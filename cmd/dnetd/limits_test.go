package main

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Threads that there are, and those that they make, may be woken late.
func TestSlacken(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: only CAP_SYS_NICE may say so of other threads")
	}
	slacken(slog.New(slog.DiscardHandler))
	for range 3 {
		done := make(chan string)
		go func() {
			runtime.LockOSThread() // and the thread ends with the goroutine: the next one has another
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/timerslack_ns", unix.Gettid()))
			done <- strings.TrimSpace(string(text))
		}()
		if got, want := <-done, strconv.Itoa(int(timerSlack)); got != want {
			t.Errorf("%q; want %s", got, want)
		}
	}
}
