package leases

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dcni/pkg/ipam"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// planted is a network of five addresses with some leases, the first free address of which the
// bitmap has as taken. The state says that the bitmap was made from the links just now.
func planted(t *testing.T, leases int) (l Leases, cfg ipam.Config) {
	t.Helper()
	l, cfg = Of(testStore(t), "", "web"), config(t, "10.1.0.0/29")
	for i := range leases {
		want(t, claimText(l, request(fmt.Sprint("c", i)), cfg), fmt.Sprintf("10.1.0.%d/29", i+2))
	}
	if err := l.session(false, func(s *session) error { return s.rebuild() }); err != nil {
		t.Fatal(err)
	}
	p := pages{dir: filepath.Join(l.dir, ".pages"), cache: map[netip.Addr]*cachedPage{}}
	if err := errors.Join(p.set(netip.MustParseAddr(fmt.Sprint("10.1.0.", leases+2)), true), p.flush()); err != nil {
		t.Fatal(err)
	}
	return l, cfg
}

// TestBelieved: the bitmap is believed, by readers and by claims, if the state says in all that
// it is right, and is made again if it does not.
func TestBelieved(t *testing.T) {
	for name, c := range map[string]struct {
		old, new string // in the state
		believed bool
	}{
		"as it is":     {"exact", "exact", true},
		"dirty":        {"exact", "dirty", false},
		"another boot": {"epoch ", "epoch 0", false},
		"another time": {"changed 1", "changed 2", false},
		"foreign":      {"changed ", "changes ", false},
		"a bad cursor": {"cursor ", "cursed ", false},
		"not whole":    {"dcni leases 1", "dcni leases 2", false},
	} {
		damage := func(l Leases) {
			path := filepath.Join(l.dir, ".state")
			data, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path, []byte(strings.Replace(string(data), c.old, c.new, 1)), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		l, cfg := planted(t, 4)
		damage(l)
		if err := l.Full(cfg); (err != nil) != c.believed {
			t.Errorf("%s: a reader says %v", name, err)
		}
		l, cfg = planted(t, 3)
		damage(l)
		next := "10.1.0.5/29"
		if c.believed {
			next = "10.1.0.6/29"
		}
		if got := claimText(l, request("last"), cfg); got != next {
			t.Errorf("%s: a claim gets %s, want %s", name, got, next)
		}
	}
	// A full network is believed only right after a rebuild.
	l, cfg := planted(t, 4)
	want(t, claimText(l, request("last"), cfg), "error 11: no available IPv4 addresses on this network's address pools: web")
	if err := l.Release(owner("c1")); err != nil {
		t.Fatal(err)
	}
	want(t, claimText(l, request("next"), cfg), "10.1.0.3/29")
	want(t, claimText(l, request("last"), cfg), "10.1.0.6/29")
	verify(t, l)
}

// TestStickyStatic: a name may ask for the very address that is kept for it.
func TestStickyStatic(t *testing.T) {
	l, cfg := Of(testStore(t), "", "web"), config(t, "10.1.0.0/29")
	cfg.Sticky = true
	want(t, claimText(l, sticky("c1", "db"), cfg), "10.1.0.2/29")
	if err := l.Release(owner("c1")); err != nil {
		t.Fatal(err)
	}
	want(t, claimText(l, sticky("c2", "web", "10.1.0.2"), cfg), "error 101: Address already in use: 10.1.0.2 is kept for db")
	want(t, claimText(l, sticky("c2", "db", "10.1.0.2"), cfg), "10.1.0.2/29")
	verify(t, l)
}

// TestKeptAndOthers: of a full network an address that is kept for a name is not given to
// another one while a machine on the LAN has it.
func TestKeptAndOthers(t *testing.T) {
	l, cfg := Of(testStore(t), "", "web"), config(t, "10.1.0.0/29")
	cfg.Sticky = true
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		claimText(l, sticky(name, name), cfg)
	}
	if err := errors.Join(l.Release(owner("b")), l.MarkOthers(conflicts("10.1.0.3"))); err != nil {
		t.Fatal(err)
	}
	want(t, claimText(l, sticky("x", "x"), cfg), "error 11: no available IPv4 addresses on this network's address pools: web")
	want(t, strings.Join(verify(t, l), ", "), "10.1.0.2 a, 10.1.0.4 c, 10.1.0.5 d, 10.1.0.6 e")
}

// TestTakeOverDied: an address that a claim took from a name before it died is that claim's.
func TestTakeOverDied(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/29")
	cfg.Sticky = true
	l := Of(s, "", "web")
	want(t, claimText(l, sticky("c1", "db"), cfg), "10.1.0.2/29")
	if err := l.Release(owner("c1")); err != nil {
		t.Fatal(err)
	}
	epoch, err := s.Epoch()
	if err == nil {
		err = os.Symlink("c2/eth0@"+epoch+":other", filepath.Join(l.dir, "10.1.0.2")) // the first step of its claim
	}
	if err != nil {
		t.Fatal(err)
	}
	want(t, strings.Join(verify(t, l), ", "), "10.1.0.2 c2")
	if _, err := os.Stat(filepath.Join(l.dir, "by-name", "db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is kept for db as well: %v", err)
	}
	want(t, claimText(l, sticky("c3", "db"), cfg), "10.1.0.3/29")
	if _, err := os.Stat(filepath.Join(l.dir, "by-name", "db")); err != nil {
		t.Error(err)
	}
	if target, err := os.Readlink(filepath.Join(l.dir, "by-name", "db", "eth0")); target != "10.1.0.3" || err != nil {
		t.Errorf("kept for db: %s, %v", target, err)
	}
}

// TestReleaseWithoutState: what is in the state's place keeps no lease from being released.
func TestReleaseWithoutState(t *testing.T) {
	l, cfg := Of(testStore(t), "", "web"), config(t, "10.1.0.0/29")
	for _, c := range []string{"c1", "c2"} {
		claimText(l, request(c), cfg)
	}
	path := filepath.Join(l.dir, ".state")
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700), l.Release(owner("c1"))); err != nil {
		t.Fatal(err)
	}
	want(t, strings.Join(verify(t, l), ", "), "10.1.0.3 c2")
	if _, err := os.Stat(filepath.Join(l.root, "unreadable", "leases+web+.state")); err != nil {
		t.Error(err)
	}
	if err := errors.Join(os.RemoveAll(l.dir), os.WriteFile(l.dir, nil, 0o600), l.Release(owner("c1"))); err != nil {
		t.Errorf("a file in the directory's place: %v", err)
	}
	want(t, claimText(l, request("c1"), cfg), "10.1.0.2/29")
	verify(t, l)
}

// TestReleaseSweeps: nothing of an owner is left but the addresses that its name keeps.
func TestReleaseSweeps(t *testing.T) {
	l, cfg := Of(testStore(t), "", "web"), config(t, "10.1.0.0/29")
	claimText(l, request("c1"), cfg)
	if err := l.Release(owner("c1")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(l.dir, "by-owner", "c1")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its directory is left: %v", err)
	}
}

// TestForeignOwner: what is in the place of an owner's list and is none is moved away with the
// next rebuild, also where that owner has no lease.
func TestForeignOwner(t *testing.T) {
	l, cfg := Of(testStore(t), "", "web"), config(t, "10.1.0.0/29")
	claimText(l, request("c1"), cfg)
	foreign := filepath.Join(l.dir, "by-owner", "c9", "eth0")
	if err := errors.Join(os.MkdirAll(filepath.Dir(foreign), 0o755), os.WriteFile(foreign, nil, 0o600), os.Remove(filepath.Join(l.dir, ".state"))); err != nil {
		t.Fatal(err)
	}
	want(t, strings.Join(verify(t, l), ", "), "10.1.0.2 c1")
	if _, err := os.Lstat(foreign); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(l.root, "unreadable", "leases+web+by-owner+c9+eth0")); err != nil {
		t.Error(err)
	}
}

// TestForeignPage: a bitmap's file that is none of ours is made again, in memory by readers,
// which remove nothing.
func TestForeignPage(t *testing.T) {
	l, cfg := Of(testStore(t), "", "web"), config(t, "10.1.0.0/29")
	for i := range 5 {
		claimText(l, request(fmt.Sprint("c", i)), cfg)
	}
	empty := filepath.Join(l.dir, "by-name", "dead")
	if err := os.MkdirAll(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(l.dir, ".pages", "10.1.0.0")
	if err := os.Truncate(page, 10); err != nil {
		t.Fatal(err)
	}
	if err := l.Full(cfg); code(err) != wire.CodeTryAgain {
		t.Errorf("a reader of a full network says %v", err)
	}
	if _, err := os.Stat(empty); err != nil {
		t.Errorf("a reader removed an empty directory: %v", err)
	}
	if info, err := os.Stat(page); err != nil || info.Size() != 10 {
		t.Errorf("a reader wrote: %v, %v", info, err)
	}
	if err := l.Release(owner("c2")); err != nil {
		t.Fatal(err)
	}
	want(t, claimText(l, request("c9"), cfg), "10.1.0.4/29")
	verify(t, l)
}

// TestMendOnly: the only link of a network is made again of its owner's list.
func TestMendOnly(t *testing.T) {
	l, cfg := Of(testStore(t), "", "web"), config(t, "10.1.0.0/29")
	claimText(l, request("c1"), cfg)
	link := filepath.Join(l.dir, "10.1.0.2")
	if err := errors.Join(os.Remove(link), os.WriteFile(link, nil, 0o600), os.Remove(filepath.Join(l.dir, ".state"))); err != nil {
		t.Fatal(err)
	}
	want(t, strings.Join(verify(t, l), ", "), "10.1.0.2 c1")
}

// TestForgetOthers: of all addresses that are leased it is forgotten that others had them.
func TestForgetOthers(t *testing.T) {
	l, cfg := Of(testStore(t), "", "web"), config(t, "10.1.0.0/29", "fd00:1::/64")
	if err := l.MarkOthers(conflicts("10.1.0.4", "fd00:1::4")); err != nil {
		t.Fatal(err)
	}
	want(t, claimText(l, request("c1", "10.1.0.4", "fd00:1::4"), cfg), "10.1.0.4/29 fd00:1::4/64")
	if left, err := os.ReadDir(filepath.Join(l.dir, "by-others")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestAny asks whether an attachment of this boot has a lease.
func TestAny(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/29")
	l := Of(s, "", "web")
	any := func(when string, wants bool) {
		t.Helper()
		if got, err := l.Any(); got != wants || err != nil {
			t.Errorf("%s: %t, %v", when, got, err)
		}
	}
	any("before the first boot", false)
	if _, err := s.Epoch(); err != nil {
		t.Fatal(err)
	}
	any("without a directory", false)
	cfg.Sticky = true
	claimText(l, sticky("c1", "db"), cfg)
	any("with a lease", true)
	if err := l.Release(owner("c1")); err != nil {
		t.Fatal(err)
	}
	any("only kept for a name", false)
	claimText(l, sticky("c1", "db"), cfg)
	reboot(t, s.Run)
	if _, err := s.Epoch(); err != nil {
		t.Fatal(err)
	}
	any("of another boot", false)
	if err := os.WriteFile(filepath.Join(s.Run, "epoch"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	any("of a boot that is not known", true)
}

// TestBadNames: what can't be a file's name has no leases, and DEL has nothing to release.
func TestBadNames(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/29")
	bad := owner("..")
	l := Of(s, "", "web")
	if _, err := l.Claim(ipam.Request{Owner: bad}, cfg); err == nil {
		t.Error("a claim for ..")
	}
	if _, err := l.ByOwner(bad); err == nil {
		t.Error("a question for ..")
	}
	if err := l.Release(bad); err != nil {
		t.Errorf("a release for ..: %v", err)
	}
	for _, name := range []string{"..", "a/b"} {
		l := Of(s, "", name)
		if _, err := l.Owners(); err == nil {
			t.Errorf("leases of network %s", name)
		}
		if err := l.Full(cfg); err == nil {
			t.Errorf("network %s is not full", name)
		}
	}
	if _, err := os.Stat(s.Lib); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory was made: %v", err)
	}
}

// TestLeasesOfRecords: leases of attachments with a record are of this boot, whatever epoch
// they have: the epoch could not be read, and is another now.
func TestLeasesOfRecords(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/29")
	l := Of(s, "", "web")
	for _, c := range []string{"c1", "c2"} {
		claimText(l, request(c), cfg)
	}
	reboot(t, s.Run)
	if err := s.Put(&records.Record{Attachment: owner("c2"), Plugin: "dbridge", State: records.Up}); err != nil {
		t.Fatal(err)
	}
	have, err := l.ByOwner(owner("c2"))
	want(t, fmt.Sprint(have, err), "[10.1.0.3] <nil>")
	have, err = l.ByOwner(owner("c1"))
	want(t, fmt.Sprint(have, err), "[] <nil>")
	want(t, strings.Join(verify(t, l), ", "), "10.1.0.3 c2")
}

// TestFullPageLost: the bitmap of a full network that lost a page is made again.
func TestFullPageLost(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/30")
	l := Of(s, "", "web")
	want(t, claimText(l, request("c1"), cfg), "10.1.0.2/30")
	const full = "error 11: no available IPv4 addresses on this network's address pools: web"
	want(t, claimText(l, request("c2"), cfg), full) // from here on the state says that it is exact
	if err := os.Truncate(l.dir+"/.pages/10.1.0.0", 5); err != nil {
		t.Fatal(err)
	}
	want(t, claimText(l, request("c2"), cfg), full)
	want(t, fmt.Sprint(verify(t, l)), "[10.1.0.2 c1]")
}

// TestOrderKept: a rebuild leaves an attachment's addresses in the order of its result.
func TestOrderKept(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/24")
	ranges, err := cfg.Ranges([][]ipam.RawRange{{{Subnet: "10.6.0.0/24"}}, {{Subnet: "10.1.0.0/24"}}})
	if err != nil {
		t.Fatal(err)
	}
	l, r := Of(s, "", "web"), request("c1")
	r.Ranges = ranges
	want(t, claimText(l, r, cfg), "10.6.0.2/24 10.1.0.2/24")
	if err := os.Remove(l.dir + "/.state"); err != nil {
		t.Fatal(err)
	}
	verify(t, l)
	addrs, err := l.ByOwner(owner("c1"))
	want(t, fmt.Sprint(addrs)+errText(err), "[10.6.0.2 10.1.0.2]")
}

// TestRemoveListTwice: a list that is gone, with its folder, is no error.
func TestRemoveListTwice(t *testing.T) {
	l := Of(testStore(t), "", "web")
	err := l.session(true, func(s *session) error {
		return errors.Join(s.writeOwner(owner("c1"), []netip.Addr{netip.MustParseAddr("10.1.0.2")}), s.removeOwner(owner("c1")), s.removeOwner(owner("c1")))
	})
	if err != nil {
		t.Error(err)
	}
}
