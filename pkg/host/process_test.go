package host

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestHasWord(t *testing.T) {
	for _, c := range []struct {
		text, word string
		want       bool
	}{
		{"0::/system.slice/docker-c1.scope", "c1", true},
		{"9:name=systemd:/libpod_parent/libpod-c1\n8:pids:/", "c1", true},
		{"0::/kubepods/pod7/c1", "c1", true},
		{"c1", "c1", true},
		{"0::/abc1/c11/c1", "c1", true},
		{"0::/system.slice/abc1.service", "c1", false},
		{"0::/system.slice/c12.service", "c1", false},
		{"0::/", "c1", false},
		{"0::/", "", false},
	} {
		if got := hasWord(c.text, c.word); got != c.want {
			t.Errorf("%q has word %q: %v", c.text, c.word, got)
		}
	}
}

// Threads that there are, and those that they make, may be woken late.
func TestSetTimerSlack(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: it takes CAP_SYS_NICE")
	}
	const slack = 60 * time.Microsecond // the test's own process hardly notices
	if err := SetTimerSlack(slack); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		done := make(chan string)
		go func() {
			runtime.LockOSThread() // and the thread ends with the goroutine: the next one has another
			text, _ := os.ReadFile("/proc/" + strconv.Itoa(unix.Gettid()) + "/timerslack_ns")
			done <- strings.TrimSpace(string(text))
		}()
		if got := <-done; got != "60000" {
			t.Errorf("%q; want 60000", got)
		}
	}
}
