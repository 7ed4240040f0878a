package records

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dcni/pkg/records/disk"
	"dcni/pkg/wire"
)

func TestLocksExclude(t *testing.T) {
	s := testStore(t)
	first, err := s.LockAttachment(owner("c1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.TryLockAttachment(owner("c1")); ok || err != nil {
		t.Fatalf("locked twice: %v, %v", ok, err)
	}
	// Neither another attachment nor another kind of lock waits.
	other, ok, err := s.TryLockAttachment(owner("c2"))
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	for _, lock := range []func() (*Lock, error){
		func() (*Lock, error) { return s.LockNetwork("web") }, s.LockFirewall,
	} {
		l, err := lock()
		if err != nil {
			t.Fatal(err)
		}
		l.Unlock()
	}
	got := make(chan *Lock)
	go func() {
		l, _ := s.LockAttachment(owner("c1"))
		got <- l
	}()
	select {
	case <-got:
		t.Fatal("did not wait")
	case <-time.After(20 * time.Millisecond):
	}
	first.Unlock()
	first.Unlock() // no harm
	(<-got).Unlock()
	other.Unlock()
	if l, ok, err := s.TryLockAttachment(owner("c1")); !ok || err != nil {
		t.Fatal(ok, err)
	} else {
		l.Unlock()
	}
}

// TestLockKeys: words that run together are different locks.
func TestLockKeys(t *testing.T) {
	a := attachmentKey(wire.Attachment{Network: "a", Container: "b", IfName: "cd"})
	b := attachmentKey(wire.Attachment{Network: "a", Container: "bc", IfName: "d"})
	if a == b {
		t.Fatal(a)
	}
}

func TestReplace(t *testing.T) {
	s := testStore(t)
	path := filepath.Join(s.Run, "attachments", "web", "c1", "eth0", "dbridge.json")
	for _, text := range []string{"one", "two"} {
		if err := s.writeFile(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != text {
			t.Fatalf("%q, %v", got, err)
		}
	}
	left, err := os.ReadDir(filepath.Join(s.Run, "tmp"))
	if err != nil || len(left) > 0 {
		t.Fatalf("left: %v, %v", left, err)
	}
	if err := os.MkdirAll(filepath.Join(s.Run, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.writeFile(filepath.Join(s.Run, "dir"), nil); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(s.Run, "unreadable", "dir")); err != nil || !info.IsDir() {
		t.Fatalf("a directory in a file's place was not moved away: %v", err)
	}
}

// TestForeignEpoch: an epoch that can't be read is made again of its copy.
func TestForeignEpoch(t *testing.T) {
	s := testStore(t)
	first, err := s.Epoch()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "short", "nothexadecim\n", "0123456789abcdef\n"} {
		os.WriteFile(filepath.Join(s.Run, "epoch"), []byte(text), 0o600)
		if _, err := s.KnownEpoch(); !disk.IsUnreadable(err) {
			t.Errorf("%q: %v", text, err)
		}
		if word, err := s.Epoch(); word != first || err != nil {
			t.Errorf("%q was mended to %q, not to %q: %v", text, word, first, err)
		}
	}
	os.Remove(filepath.Join(s.Run, "epoch.copy")) // as an older version leaves it
	if _, err := s.KnownEpoch(); err != nil || disk.Exists(s.copyPath()) {
		t.Errorf("a reader wrote the copy: %v", err)
	}
	if _, err := s.Epoch(); err != nil {
		t.Error(err)
	}
	os.WriteFile(filepath.Join(s.Run, "epoch"), nil, 0o600)
	if word, err := s.Epoch(); word != first || err != nil {
		t.Errorf("without a copy at first: %q, %v; want %q", word, err, first)
	}
	os.Remove(filepath.Join(s.Run, "epoch.copy"))
	os.WriteFile(filepath.Join(s.Run, "epoch"), nil, 0o600)
	if word, err := s.Epoch(); word == first || err != nil {
		t.Errorf("without a copy: %q, %v", word, err)
	}
}

// TestContainerLocked: the dnet of a container is alive while it holds the container's lock.
func TestContainerLocked(t *testing.T) {
	s := testStore(t)
	if s.ContainerLocked("aa") {
		t.Error("locked, where there is no lock file")
	}
	lock, err := s.LockContainer("aa")
	if err != nil {
		t.Fatal(err)
	}
	if !s.ContainerLocked("aa") || s.ContainerLocked("bb") {
		t.Errorf("aa is locked, bb is not: %t, %t", s.ContainerLocked("aa"), s.ContainerLocked("bb"))
	}
	lock.Unlock()
	if s.ContainerLocked("aa") {
		t.Error("locked after Unlock")
	}
	if err := errors.Join(os.Remove(s.lockPath()), os.Mkdir(s.lockPath(), 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.TryLockAttachment(wire.Attachment{}); ok || err == nil {
		t.Errorf("a directory was locked: %t, %v", ok, err)
	}
	if _, err := s.LockAttachment(wire.Attachment{}); err == nil {
		t.Error("a directory was locked")
	}
}

// TestLocksToRead: those who read don't exclude one another, and wait for one who changes.
// Where no lock was ever taken there is nothing to wait for, and nothing is made.
func TestLocksToRead(t *testing.T) {
	s := testStore(t)
	for name, c := range map[string]struct {
		read func() (*Lock, error)
		try  func() (*Lock, bool, error)
	}{
		"attachment": {func() (*Lock, error) { return s.LockAttachmentToRead(owner("c1")) }, func() (*Lock, bool, error) { return s.TryLockAttachment(owner("c1")) }},
		"network":    {func() (*Lock, error) { return s.LockNetworkToRead("web") }, func() (*Lock, bool, error) { return s.TryLockNetwork("web") }},
	} {
		if err := os.RemoveAll(s.Run); err != nil {
			t.Fatal(err)
		}
		none, err := c.read()
		if none.Unlock(); err != nil || disk.Exists(s.Run) {
			t.Errorf("%s: before the first lock: %v", name, err)
		}
		host, ok, err := s.TryLockHost() // makes the file
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		if _, ok, err := s.TryLockHost(); ok || err != nil {
			t.Errorf("locked twice: %v", err)
		}
		host.Unlock()
		one, err := c.read()
		other, failed := c.read()
		if err := errors.Join(err, failed); err != nil {
			t.Fatal(err)
		}
		one.Unlock()
		if _, ok, err := c.try(); ok || err != nil {
			t.Errorf("%s: changed while it is read: %v", name, err)
		}
		other.Unlock()
		lock, ok, err := c.try()
		if !ok || err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		read := make(chan error)
		go func() {
			l, err := c.read()
			l.Unlock()
			read <- err
		}()
		lock.Unlock() // sooner or later than the other one asks
		if err := <-read; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := errors.Join(os.RemoveAll(s.Run), os.MkdirAll(s.Run, 0o755), os.Symlink("lock", s.lockPath())); err != nil {
		t.Fatal(err)
	}
	if _, err := s.LockNetworkToRead("web"); err == nil || !strings.Contains(err.Error(), s.lockPath()) {
		t.Errorf("a loop was locked: %v", err)
	}
	if s.ContainerLocked("c1") {
		t.Error("a container is locked by a loop")
	}
}

// TestLockRegistry: the registries of two data directories have two locks.
func TestLockRegistry(t *testing.T) {
	s := testStore(t)
	one, err := s.LockRegistry("/a")
	other, failed := s.LockRegistry("/b")
	if err := errors.Join(err, failed); err != nil {
		t.Error(err)
	}
	one.Unlock()
	other.Unlock()
}
