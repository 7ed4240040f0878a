package records

import (
	"bytes"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/ipam"
	"dcni/pkg/records/disk"
)

// spoilers put something in the place of a file that can't be read.
var spoilers = map[string]func(path string) error{
	"empty":     func(p string) error { return os.WriteFile(p, nil, 0o600) },
	"truncated": func(p string) error { return os.WriteFile(p, []byte(`{"version": 1, "name": "we`), 0o600) },
	"null":      func(p string) error { return os.WriteFile(p, []byte("null"), 0o600) },
	"foreign": func(p string) error {
		return os.WriteFile(p, []byte(`{"name": "x", "id": "y", "network": "z"}`), 0o600)
	},
	"types": func(p string) error {
		return os.WriteFile(p, []byte(`{"state": {}, "subnets": 1, "created": 2}`), 0o600)
	},
	"newer": func(p string) error {
		return os.WriteFile(p, []byte(`{"version": 2, "state": {}, "subnets": 1}`), 0o600)
	},
	"FIFO":      func(p string) error { return unix.Mkfifo(p, 0o600) },
	"directory": func(p string) error { return os.Mkdir(p, 0o700) },
	"loop":      func(p string) error { return os.Symlink(filepath.Base(p), p) },
	"dangling":  func(p string) error { return os.Symlink("/nowhere", p) },
	"a link":    func(p string) error { return os.Symlink("/proc/self/mounts", p) },
	"huge":      func(p string) error { return errors.Join(os.WriteFile(p, nil, 0o600), os.Truncate(p, 1<<40)) },
	"socket": func(p string) error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		return errors.Join(err, unix.Bind(fd, &unix.SockaddrUnix{Name: p}), unix.Close(fd))
	},
}

// TestUnreadable puts each of them in the place of a record, an entry of the registry
// and a container. It is known from other files, is moved away once, and the rest
// goes on.
func TestUnreadable(t *testing.T) {
	for name, spoil := range spoilers {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "d") // the name of a socket must be short
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			var log bytes.Buffer
			s := Store{Run: dir + "/r", Lib: dir + "/l", Log: &log}
			unreadableRecord(t, s, spoil, name == "newer")
			unreadableNetwork(t, s, spoil, name == "newer")
			unreadableContainer(t, s, spoil)
			if got := strings.Count(log.String(), "was moved to"); got != 2 && name != "newer" {
				t.Errorf("told %d times:\n%s", got, &log)
			}
		})
	}
}

// replaceBy puts something in a file's place.
func replaceBy(t *testing.T, spoil func(string) error, path string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(path), spoil(path)); err != nil {
		t.Fatal(err)
	}
}

func unreadableRecord(t *testing.T, s Store, spoil func(string) error, newer bool) {
	a, b := owner("c1"), owner("c2")
	a.Network, b.Network = "web", "web"
	for _, r := range []Record{{Attachment: a, Plugin: "dbridge", State: Up}, {Attachment: b, Plugin: "dbridge", State: Up}} {
		if err := s.Put(&r); err != nil {
			t.Fatal(err)
		}
	}
	path := s.recordPath(a, "dbridge")
	replaceBy(t, spoil, path)
	_, err := s.Get(a, "dbridge")
	unread, is := errors.AsType[*disk.UnreadableError](err)
	if !is || unread.Newer != newer {
		t.Fatalf("get: %v", err)
	}
	list, err := s.List("web")
	if err != nil || len(list) != 2 || list[0].State != Lost || list[1].State != Up {
		t.Fatalf("list: %v, %v", list, err)
	}
	if lost, err := s.Replace(a, "dbridge", unread); err != nil || lost.State != Lost {
		t.Fatal(lost, err)
	}
	if _, err := os.Lstat(filepath.Join(s.Run, "unreadable/attachments+web+c1+eth0+dbridge.json")); err != nil {
		t.Error(err)
	}
	if r, err := s.Get(a, "dbridge"); err != nil || r.State != Lost {
		t.Errorf("after it: %v, %v", r, err)
	}
	if err := s.Delete(a, "dbridge"); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Dir(filepath.Dir(path))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the container's directory is there: %v", err)
	}
}

func unreadableNetwork(t *testing.T, s Store, spoil func(string) error, newer bool) {
	subnet := netip.MustParsePrefix("10.1.0.0/24")
	put := Record{Attachment: owner("c1"), Plugin: "dbridge", State: Up, Subnets: []ipam.Subnet{{Prefix: subnet}}}
	put.Network = "shop"
	if err := s.Put(&put); err != nil {
		t.Fatal(err)
	}
	n := s.Networks("")
	shop := Registration{Name: "shop", Explicit: []netip.Prefix{subnet}}
	if _, err := n.Register(shop); err != nil {
		t.Fatal(err)
	}
	replaceBy(t, spoil, filepath.Join(s.Lib, "networks/shop.json"))
	if err := n.Probe(Registration{Name: "new", Explicit: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24")}}); err != nil {
		t.Errorf("probe: %v", err)
	}
	if _, err := n.Register(Registration{Name: "new", Explicit: []netip.Prefix{netip.MustParsePrefix("10.3.0.0/24")}}); err != nil {
		t.Errorf("another network: %v", err)
	}
	if _, err := n.Register(Registration{Name: "thief", Explicit: []netip.Prefix{subnet}}); err == nil {
		t.Error("its subnet was given away")
	}
	_, err := n.Register(shop)
	if disk.IsUnreadable(err) != newer || err != nil && !newer {
		t.Errorf("the network itself: %v", err)
	}
}

func unreadableContainer(t *testing.T, s Store, spoil func(string) error) {
	for _, id := range []string{"one", "two"} {
		if err := s.PutContainer(&Container{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	replaceBy(t, spoil, s.containerPath("one"))
	list, broken, err := s.Containers()
	if err != nil || len(list) != 1 || len(broken) != 1 || !disk.IsUnreadable(broken[0]) {
		t.Errorf("containers: %v, %v, %v", list, broken, err)
	}
}

// TestUnreadableLease: the address of a lease that can't be read stays its owner's.
func TestUnreadableLease(t *testing.T) {
	for name, spoil := range spoilers {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "d")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			s, cfg := Store{Run: dir + "/r", Lib: dir + "/l"}, config(t, "10.1.0.0/29")
			cfg.Sticky = true
			l := s.Leases("", "web")
			want(t, claimText(l, request("c1"), cfg), "10.1.0.2/29")
			for _, file := range []string{"10.1.0.2", ".state", ".pages", "by-owner/c9", ".pages/10.1.0.0", "by-owner", ".link"} {
				if name == "directory" && file == ".pages" {
					continue // it is one
				}
				replaceBy(t, spoil, l.dir+"/"+file)
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

// TestReplaceFails: where nothing can be written, what can't be read stays where it
// is: a record that is not there is that of no attachment.
func TestReplaceFails(t *testing.T) {
	for name, spoil := range spoilers {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "d")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			s := Store{Run: dir + "/r", Lib: dir + "/l"}
			rec := Record{Attachment: owner("c1"), Plugin: "dbridge", State: Up}
			if err := s.Put(&rec); err != nil {
				t.Fatal(err)
			}
			replaceBy(t, spoil, s.recordPath(rec.Attachment, "dbridge"))
			tmp := filepath.Join(s.Run, "tmp")
			if err := errors.Join(os.RemoveAll(tmp), os.Symlink("/sys", tmp)); err != nil { // no file can be made there
				t.Fatal(err)
			}
			_, why := s.Get(rec.Attachment, "dbridge")
			if _, err := s.Replace(rec.Attachment, "dbridge", why); err == nil {
				t.Fatal("a full disk is no error")
			}
			if _, err := s.Get(rec.Attachment, "dbridge"); !disk.IsUnreadable(err) {
				t.Errorf("after it: %v", err)
			}
			if err := os.Remove(tmp); err != nil {
				t.Fatal(err)
			}
			temp, path := filepath.Join(s.Run, "none"), s.recordPath(rec.Attachment, "dbridge")
			if err := s.Root(s.Run).Supplant(temp, path, why); err == nil {
				t.Fatal("nothing was renamed to it")
			}
			if _, err := s.Get(rec.Attachment, "dbridge"); !disk.IsUnreadable(err) {
				t.Errorf("after a failed rename: %v", err)
			}
		})
	}
}

// TestKeptNames: what was moved away before is in no later file's way, and no entry of
// the registry that can't be moved is in another network's.
func TestKeptNames(t *testing.T) {
	s := testStore(t)
	networks, kept := filepath.Join(s.Lib, "networks"), filepath.Join(s.Lib, "unreadable")
	register := func(name, subnet string) {
		t.Helper()
		if _, err := s.Networks("").Register(Registration{Name: name, Explicit: []netip.Prefix{netip.MustParsePrefix(subnet)}}); err != nil {
			t.Error(err)
		}
	}
	spoil := func(path string) {
		t.Helper()
		if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(s.Lib, 0o755); err != nil {
		t.Fatal(err)
	}
	spoil(kept)
	spoil(networks)
	register("one", "10.1.0.0/24")
	spoil(filepath.Join(networks, "x.json"))
	register("two", "10.2.0.0/24")
	for _, name := range []string{"unreadable.2", "unreadable/networks", "unreadable/networks+x.json"} {
		if _, err := os.Lstat(filepath.Join(s.Lib, name)); err != nil {
			t.Error(err)
		}
	}
	spoil(filepath.Join(networks, "x.json"))
	if err := errors.Join(os.RemoveAll(kept), os.Symlink("/sys", kept)); err != nil { // nothing can be moved there
		t.Fatal(err)
	}
	var log bytes.Buffer
	s.Log = &log
	register("three", "10.3.0.0/24")
	if !strings.Contains(log.String(), "network x ") {
		t.Errorf("told: %q", &log)
	}
}

// TestObstacleRace: of processes that move the same file out of a directory's place, none
// moves the directory that another made, with a record in it.
func TestObstacleRace(t *testing.T) {
	s := testStore(t)
	obstacle := filepath.Join(s.attachments(), "web")
	for round := range 100 {
		if err := errors.Join(os.RemoveAll(obstacle), os.MkdirAll(s.attachments(), 0o755), os.WriteFile(obstacle, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		const writers = 8
		var all sync.WaitGroup
		for i := range writers {
			all.Go(func() {
				if err := s.Put(&Record{Attachment: owner(strconv.Itoa(i)), Plugin: "dbridge", State: Up}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if list, err := s.List(""); err != nil || len(list) != writers || t.Failed() {
			t.Fatalf("round %d: %d records, %v", round, len(list), err)
		}
	}
}

// TestMendLink: a lease that is made again is there at any time, so that its address is
// never free: nothing deletes it.
func TestMendLink(t *testing.T) {
	s := testStore(t)
	l, cfg := s.Leases("", "web"), config(t, "10.1.0.0/29")
	want(t, claimText(l, request("c1"), cfg), "10.1.0.2/29")
	link := filepath.Join(l.dir, "10.1.0.2")
	if err := s.Put(&Record{Attachment: owner("c1"), Plugin: "dbridge", State: Up}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.epochPath(), []byte("0123456789ab\n"), 0o600); err != nil { // another one
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
