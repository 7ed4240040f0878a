package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// A dnetd that serves may be woken late: what its start does is done by then.
func TestSlack(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: it takes CAP_SYS_NICE")
	}
	t.Parallel()
	d := newRig(t).start()
	got, err := os.ReadFile(fmt.Sprintf("/proc/%d/timerslack_ns", d.Process.Pid))
	if want := fmt.Sprint(timerSlack.Nanoseconds()); err != nil || strings.TrimSpace(string(got)) != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
}
