package leases

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/records"
	"dcni/pkg/records/recordstest"
)

// TestUnreadableLease: the address of a lease that can't be read stays its owner's.
func TestUnreadableLease(t *testing.T) {
	for name, spoil := range recordstest.Spoilers {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "d")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			s, cfg := records.Store{Run: dir + "/r", Lib: dir + "/l"}, config(t, "10.1.0.0/29")
			cfg.Sticky = true
			l := Of(s, "", "web")
			want(t, claimText(l, request("c1"), cfg), "10.1.0.2/29")
			for _, file := range []string{"10.1.0.2", ".state", ".pages", "by-owner/c9", ".pages/10.1.0.0", "by-owner", ".link"} {
				if name == "directory" && file == ".pages" {
					continue // it is one
				}
				recordstest.ReplaceBy(t, spoil, l.dir+"/"+file)
				// The kernel's clock may not have moved on since the session.
				if err := os.Chtimes(l.dir, time.Time{}, time.Now().Add(time.Second)); err != nil {
					t.Fatal(err)
				}
				if got := claimText(l, request("c2"), cfg); got != "10.1.0.3/29" {
					t.Fatalf("%s: c2 gets %s", file, got)
				}
				if have, err := l.ByOwner(owner("c1")); err != nil || len(have) != 1 {
					t.Fatalf("%s: c1 has %v, %v", file, have, err)
				}
				if verify(t, l); t.Failed() {
					t.Fatal(file)
				}
			}
			if err := l.Release(owner("c1")); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestMendLink: a lease that is made again is there at any time, so that its address is
// never free: nothing deletes it.
func TestMendLink(t *testing.T) {
	s := testStore(t)
	l, cfg := Of(s, "", "web"), config(t, "10.1.0.0/29")
	want(t, claimText(l, request("c1"), cfg), "10.1.0.2/29")
	link := filepath.Join(l.dir, "10.1.0.2")
	if err := s.Put(&records.Record{Attachment: owner("c1"), Plugin: "dbridge", State: records.Up}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Run, "epoch"), []byte("0123456789ab\n"), 0o600); err != nil { // another one
		t.Fatal(err)
	}
	old, err := os.Readlink(link)
	if err != nil {
		t.Fatal(err)
	}
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, l.dir, unix.IN_DELETE); err != nil {
		t.Fatal(err)
	}
	want(t, claimText(l, request("c2"), cfg), "10.1.0.3/29")
	if now, err := os.Readlink(link); err != nil || now == old {
		t.Errorf("the lease is %q, %v, and was %q", now, err, old)
	}
	events := make([]byte, 4096)
	if n, _ := unix.Read(watch, events); n > 0 && bytes.Contains(events[:n], []byte("10.1.0.2\x00")) {
		t.Error("the lease was gone for a moment")
	}
}
