package netns

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// newNS makes a network namespace that lives as long as the test.
func newNS(t *testing.T) *NS {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	made := make(chan *NS)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is scrapped
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			made <- nil
			return
		}
		n, err := Open("/proc/thread-self/ns/net")
		if err != nil {
			t.Error(err)
		}
		made <- n
	}()
	n := <-made
	if n == nil {
		t.FailNow()
	}
	t.Cleanup(n.Close)
	return n
}

func self(t *testing.T) *NS {
	t.Helper()
	n, err := Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

func TestDoGoesAndComesBack(t *testing.T) {
	other := newNS(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home := self(t)
	failure := errors.New("failure")
	err := other.Do(func() error {
		if here := self(t); !here.Same(other) || here.Same(home) {
			t.Error("Do did not enter the namespace")
		}
		return failure
	})
	if !errors.Is(err, failure) {
		t.Errorf("Do returned %v", err)
	}
	if !self(t).Same(home) {
		t.Error("Do did not come back")
	}
}

func TestCookie(t *testing.T) {
	a, b := newNS(t), newNS(t)
	first, err := a.Cookie()
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := a.Cookie(); again != first {
		t.Error("a cookie changes")
	}
	if other, _ := b.Cookie(); other == first {
		t.Error("two namespaces have one cookie")
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	file, fifo := filepath.Join(dir, "file"), filepath.Join(dir, "fifo")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		filepath.Join(dir, "none"): os.ErrNotExist,
		file:                       ErrNotNetNS,
		fifo:                       ErrNotNetNS, // and does not hang
		dir:                        ErrNotNetNS,
		"/proc/self/ns/mnt":        ErrNotNetNS,
	} {
		if _, err := Open(path); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}

func TestScratch(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home := self(t)
	failure := errors.New("failure")
	err := Scratch(func() error {
		if self(t).Same(home) {
			t.Error("Scratch runs where it was called")
		}
		return failure
	})
	if !errors.Is(err, failure) {
		t.Errorf("error %v, want fn's", err)
	}
	if !self(t).Same(home) {
		t.Error("Scratch did not come back")
	}
}

// TestPin wants a namespace at a path that outlives the mount's maker, and nothing of it afterwards, whatever a
// process that was killed has left.
func TestPin(t *testing.T) {
	own := self(t)
	newNS(t) // or skips
	dir := filepath.Join(t.TempDir(), "ingress")
	path := filepath.Join(dir, "web")
	if err := Pin(path); err != nil {
		t.Fatal(err)
	}
	n, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if n.Same(own) {
		t.Error("it is this process's own")
	}
	for _, left := range []string{"all", "the file", "nothing"} {
		if left == "the file" {
			if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(path, nil, 0o444)); err != nil {
				t.Fatal(err)
			}
		}
		if err := Unpin(path); err != nil {
			t.Errorf("with %s there: %v", left, err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("with %s there, the directory stays: %v", left, err)
		}
	}
}
