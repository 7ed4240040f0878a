package proc

import (
	"os"
	"testing"
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

func TestParent(t *testing.T) {
	if got := Process(os.Getpid()).Parent(); int(got) != os.Getppid() {
		t.Errorf("parent of this process: %d, want %d", got, os.Getppid())
	}
	if got := Process(0).Parent(); got != 0 {
		t.Errorf("parent of a process that is not: %d", got)
	}
}

func TestStartTime(t *testing.T) {
	for stat, want := range map[string]uint64{
		"1 (sh) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9 10 11": 9,
		"7 (a) b (c) R 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4":  4,
	} {
		if got, err := startTimeIn(stat); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", stat, got, err, want)
		}
	}
	for _, stat := range []string{"", "1 (sh) S 0", "1 (sh"} {
		if got, err := startTimeIn(stat); err == nil {
			t.Errorf("%q: %d and no error", stat, got)
		}
	}
}
