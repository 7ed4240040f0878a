package leases

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dcni/pkg/records"
)

// onDisk has every path below a directory, with what a link leads to and what a file holds.
func onDisk(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to, _ := os.Readlink(path)
		data := []byte{}
		if d.Type().IsRegular() {
			data, err = os.ReadFile(path)
		}
		fmt.Fprintf(&b, "%s -> %q %x\n", strings.TrimPrefix(path, dir), to, data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestView: readers see what the next session makes of the files, whatever was done to
// them, and change nothing.
func TestView(t *testing.T) {
	for name, damage := range map[string]func(s records.Store, dir string) error{
		"nothing":    func(records.Store, string) error { return nil },
		"no network": func(_ records.Store, dir string) error { return os.RemoveAll(dir) },
		"dirty": func(_ records.Store, dir string) error {
			data, err := os.ReadFile(dir + "/.state")
			return errors.Join(err, os.WriteFile(dir+"/.state", []byte(strings.Replace(string(data), "clean", "dirty", 1)), 0o600))
		},
		"foreign state": func(_ records.Store, dir string) error { return os.WriteFile(dir+"/.state", []byte("x"), 0o600) },
		"no state":      func(_ records.Store, dir string) error { return os.Remove(dir + "/.state") },
		"no bitmap": func(_ records.Store, dir string) error {
			return errors.Join(os.Remove(dir+"/.state"), os.RemoveAll(dir+"/.pages"))
		},
		"link removed": func(_ records.Store, dir string) error { return os.Remove(dir + "/10.1.0.2") },
		"all removed": func(_ records.Store, dir string) error {
			return errors.Join(os.Remove(dir+"/10.1.0.2"), os.Remove(dir+"/fd00:1::2"))
		},
		"given away": func(_ records.Store, dir string) error {
			to, err := os.Readlink(dir + "/10.1.0.3")
			return errors.Join(err, os.Remove(dir+"/10.1.0.2"), os.Symlink(to, dir+"/10.1.0.2"))
		},
		"link unreadable": func(_ records.Store, dir string) error {
			return errors.Join(os.Remove(dir+"/10.1.0.2"), os.WriteFile(dir+"/10.1.0.2", nil, 0o600))
		},
		"no by-owner": func(_ records.Store, dir string) error {
			return errors.Join(os.RemoveAll(dir+"/by-owner"), os.Remove(dir+"/.state"))
		},
		"foreign by-owner": func(_ records.Store, dir string) error { return replaceFile(dir + "/by-owner/c1/eth0") },
		"half of by-owner": func(_ records.Store, dir string) error { return relink("10.1.0.2", dir+"/by-owner/c1/eth0", dir) },
		"foreign by-name": func(_ records.Store, dir string) error {
			return errors.Join(replaceFile(dir+"/by-name/db/eth0"), os.Remove(dir+"/.state"))
		},
		"another boot": func(s records.Store, _ string) error { return os.RemoveAll(s.Run) },
		"another boot, kept": func(s records.Store, _ string) error {
			return errors.Join(os.RemoveAll(s.Run), s.Put(&records.Record{Attachment: owner("c1"), Plugin: "dbridge"}))
		},
	} {
		for _, keeps := range []bool{true, false} {
			view(t, name, keeps, damage)
		}
	}
}

// view does something to the leases of a network whose IPv4 subnet is full, of which one
// address is kept for a name or none is.
func view(t *testing.T, name string, keeps bool, damage func(s records.Store, dir string) error) {
	if strings.Contains(name, "by-name") && !keeps {
		return
	}
	t.Run(fmt.Sprint(name, ", keeps ", keeps), func(t *testing.T) {
		s, cfg := testStore(t), config(t, "10.1.0.0/29", "fd00:1::/64")
		cfg.Sticky = keeps
		l := Of(s, "", "web")
		for _, c := range []string{"c1", "c2", "db", "c4", "c6"} {
			claimText(l, sticky(c, c), cfg)
		}
		if keeps {
			if err := l.Release(owner("db")); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(tick)
		if err := damage(s, l.dir); err != nil {
			t.Fatal(err)
		}
		seen := func() string {
			var lines []string
			for _, c := range []string{"c1", "c2", "db", "c4", "c5"} {
				addrs, err := l.ByOwner(owner(c))
				slices.SortFunc(addrs, netip.Addr.Compare) // a session sorts what was made by hand
				lines = append(lines, fmt.Sprint(c, addrs, err, l.Check(owner(c), addrs)))
			}
			return strings.Join(append(lines, fmt.Sprint(l.Full(cfg))), "\n")
		}
		before := onDisk(t, filepath.Dir(s.Lib))
		first := seen()
		if after := onDisk(t, filepath.Dir(s.Lib)); after != before {
			t.Errorf("readers changed\n%s, which is now\n%s", before, after)
		}
		if err := l.session(false, func(*session) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if then := seen(); then != first {
			t.Errorf("readers saw\n%s, and after a session\n%s", first, then)
		}
	})
}

func replaceFile(path string) error {
	return errors.Join(os.Remove(path), os.WriteFile(path, []byte("x"), 0o600))
}

// relink has a link lead elsewhere, in leases that are dirty.
func relink(to, path, dir string) error {
	return errors.Join(os.Remove(path), os.Symlink(to, path), os.Remove(dir+"/.state"))
}

// TestViewWaits: a reader waits for who changes leases, and not for another reader.
func TestViewWaits(t *testing.T) {
	s := testStore(t)
	l := Of(s, "", "web")
	reading, err := s.LockNetworkToRead("web") // without a lock file
	if err != nil {
		t.Fatal(err)
	}
	reading.Unlock()
	want(t, claimText(l, request("c1"), config(t, "10.1.0.0/29")), "10.1.0.2/29")
	if reading, err = s.LockNetworkToRead("web"); err != nil {
		t.Fatal(err)
	}
	if addrs, err := l.ByOwner(owner("c1")); len(addrs) != 1 || err != nil {
		t.Errorf("beside a reader: %v, %v", addrs, err)
	}
	if _, free, _ := s.TryLockNetwork("web"); free {
		t.Error("the lock is free while a reader reads")
	}
	reading.Unlock()
	reading.Unlock() // does nothing
	lock, free, err := s.TryLockNetwork("web")
	if err != nil || !free {
		t.Fatal("the reader is gone, and the lock is not free:", err)
	}
	if addrs, err := l.Locked().ByOwner(owner("c1")); len(addrs) != 1 || err != nil {
		t.Errorf("under the own lock: %v, %v", addrs, err)
	}
	done := make(chan error)
	go func() {
		_, err := l.ByOwner(owner("c1"))
		done <- err
	}()
	select {
	case <-done:
		t.Error("a reader read under another's lock")
	case <-time.After(50 * time.Millisecond):
	}
	lock.Unlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
	(*records.Lock)(nil).Unlock() // does nothing
}

func TestParseTarget(t *testing.T) {
	for target, want := range map[string]string{
		"c1/eth0@6f":     "c1 eth0 6f  true",
		"c1/eth0@6f:web": "c1 eth0 6f web true",
		"c1/e@h@6f:w:x":  "c1 e@h 6f w:x true",
		"c1/eth0@":       "c1 eth0   true",
		"c1/eth0":        "    false", "c1@6f": "    false", "/eth0@6f": "    false", "c1/@6f": "    false",
		"../eth0@6f": "    false", "c1/..@6f": "    false", "c1/a/b@6f": "    false", "": "    false",
	} {
		l, ok := parseTarget("web", target)
		if got := fmt.Sprint(l.owner.Container, " ", l.owner.IfName, " ", l.epoch, " ", l.name, " ", ok); got != want {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
		if ok && l.target() != target {
			t.Errorf("%s is written %s", target, l.target())
		}
	}
	for name, want := range map[string]bool{
		"10.1.0.5": true, "fd00::5": true, "fd00::0": false, "FD00::5": false, "010.1.0.5": false, "fe80::1%eth0": false,
		"::ffff:10.1.0.5": false, "10.1.0": false, "by-owner": false, ".state": false, "": false,
	} {
		if a, ok := parseName(name); ok != want || ok && a.String() != name {
			t.Errorf("%s: %v, %v", name, a, ok)
		}
	}
}

// TestReadState: a file that is not whole is not believed, but what is in it of where
// ranges go on.
func TestReadState(t *testing.T) {
	const magic = "dcni leases 1\n"
	for text, want := range map[string]string{
		magic + "clean\nepoch 6f\nchanged 7\n":                          "false false 6f 7 [] true",
		magic + "exact\nepoch 6f\nchanged 7\ncursor a-b 10.1.0.7\n   ":  "false true 6f 7 [a-b 10.1.0.7] true",
		magic + "dirty\nepoch 6f\nchanged 7\ncursor a-b x\n":            "true false 6f 7 [] true",
		magic + "cleaned\nepoch 6f\nchanged 7\n":                        "true false 6f 7 [] true",
		magic + "clean\nepoch 6f\nchanged 7\ncursor a-b\ncursor c fd::": "false false 6f 7 [c fd::] false",
		magic + "clean\nepoch 6f\nchanged 7\ncursors a-b 10.1.0.7\n":    "false false 6f 7 [] false",
		magic + "clean\nepok 6f\nchanged 7\n":                           "false false epok 6f 7 [] false",
		magic + "clean\nepoch 6f\nchange 7\n":                           "false false 6f 0 [] false",
		magic + "clean\nepoch 6f\nchanged x\n":                          "false false 6f 0 [] false",
		magic + "clean\nepoch 6f\n":                                     "false false  0 [] false",
		"dcni leases 2\nclean\nepoch 6f\nchanged 7\n":                   "false false  0 [] false",
		"": "false false  0 [] false",
	} {
		s, ok, err := readState(strings.NewReader(text))
		var cursors []string
		for _, c := range s.cursors {
			cursors = append(cursors, c.span+" "+c.last.String())
		}
		if got := fmt.Sprintf("%t %t %s %d %v %t", s.dirty, s.exact, s.epoch, s.changed, cursors, ok); err != nil || got != want {
			t.Errorf("%q: %s, %v; want %s", text, got, err, want)
		}
	}
}
