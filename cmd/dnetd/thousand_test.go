package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// memory returns how much memory the process takes, in bytes.
func (p *process) memory() int {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	var kB int
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	if _, err := fmt.Sscan(after, &kB); err != nil {
		p.t.Fatal(err)
	}
	return kB << 10
}

// raceDetector reports whether the test runs with the race detector, which takes
// memory.
func raceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// TestThousand has 1,000 containers on 20 networks, under load: a successor, and
// a start after SIGKILL.
func TestThousand(t *testing.T) {
	const n, networks = 1000, 20
	r := newFixture(t)
	d := r.start()
	var sandboxes []*testNetNS
	var ports []uint16
	for i := range n {
		b := r.netNS()
		sandboxes = append(sandboxes, b)
		ports = append(ports, r.serve(b, b.attach(fmt.Sprint("net", i%networks), containerName(i), containerAddress(i))))
	}
	const most = 64 << 20
	if is := d.memory(); is > most && !raceDetector() {
		t.Errorf("%d MB, want at most %d", is>>20, most>>20)
	}
	l := sandboxes[0].load(ports[0], containerName(networks))
	time.Sleep(200 * time.Millisecond)
	next := r.start()
	if err := d.ends(10 * time.Second); err != nil {
		t.Error(err)
	}
	if lost := l.lost(); lost > 0 {
		t.Errorf("%d of %d lost", lost, l.sent.Load())
	}

	next.signal(syscall.SIGKILL)
	_ = next.ends(10 * time.Second)
	begin := time.Now()
	r.start()
	sandboxes[n-1].in(ports[n-1], containerName(n-1-networks), containerAddress(n-1-networks))
	if after := time.Since(begin); after > 2*time.Second {
		t.Errorf("all is open after %v", after)
	}
}
