package leases

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"dcni/pkg/ipam"
	"dcni/pkg/records/disk"
	"dcni/pkg/records/recordstest"
)

func sticky(container, name string, static ...string) ipam.Request {
	r := request(container, static...)
	r.Name = name
	return r
}

func TestSticky(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/29", "fd00:1::/64")
	cfg.Sticky = true
	l := Of(s, "", "web")
	want(t, claimText(l, sticky("c1", "db"), cfg), "10.1.0.2/29 fd00:1::2/64")
	// A second container of that name has addresses of its own.
	want(t, claimText(l, sticky("c2", "db"), cfg), "10.1.0.3/29 fd00:1::3/64")
	verify(t, l)
	l.Release(owner("c1"))
	l.Release(owner("c2"))
	want(t, fmt.Sprint(verify(t, l)), "[]")
	want(t, claimText(l, sticky("c3", "web"), cfg), "10.1.0.4/29 fd00:1::4/64")
	want(t, claimText(l, sticky("c4", "other", "10.1.0.3"), cfg), "error 101: Address already in use: 10.1.0.3 is kept for db")
	reboot(t, s.Run)
	want(t, claimText(l, sticky("c5", "db"), cfg), "10.1.0.3/29 fd00:1::3/64")
	want(t, claimText(l, sticky("c6", "web"), cfg), "10.1.0.4/29 fd00:1::4/64")
	verify(t, l)
}

// TestStickyTakeOver fills the network: what was given back longest ago goes
// first, what is in use never does.
func TestStickyTakeOver(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/29")
	cfg.Sticky = true
	l := Of(s, "", "web")
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		claimText(l, sticky(name, name), cfg)
	}
	for _, name := range []string{"d", "b", "c"} {
		l.Release(owner(name))
		verify(t, l)
	}
	if err := l.Full(cfg); err != nil {
		t.Fatal(err)
	}
	want(t, claimText(l, sticky("x", "x"), cfg), "10.1.0.5/29")
	want(t, claimText(l, sticky("b2", "b"), cfg), "10.1.0.3/29")
	want(t, claimText(l, sticky("y", "y"), cfg), "10.1.0.4/29")
	verify(t, l)
	want(t, claimText(l, sticky("z", "z"), cfg), "error 11: no available IPv4 addresses on this network's address pools: web")
	verify(t, l)
}

// TestStickyClockSet: where the clock was set between, another name's address may go first, but none that is in use,
// and what is kept for a name is still that name's.
func TestStickyClockSet(t *testing.T) {
	for _, step := range []time.Duration{time.Hour, -time.Hour, 24 * time.Hour, -24 * time.Hour} {
		s, cfg := testStore(t), config(t, "10.1.0.0/29")
		cfg.Sticky = true
		l := Of(s, "", "web")
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			claimText(l, sticky(name, name), cfg)
		}
		for _, name := range []string{"b", "c"} {
			l.Release(owner(name))
		}
		for _, name := range []string{"a", "b"} { // of before the clock was set
			if err := l.session(true, func(s *session) error { return s.touch(name, "eth0", time.Now().Add(-step)) }); err != nil {
				t.Fatal(err)
			}
		}
		want(t, claimText(l, sticky("c2", "c"), cfg), "10.1.0.4/29")
		want(t, claimText(l, sticky("x", "x"), cfg), "10.1.0.3/29")
		want(t, claimText(l, sticky("y", "y"), cfg), "error 11: no available IPv4 addresses on this network's address pools: web")
		verify(t, l)
	}
}

// TestStickyReserved has addresses that are kept for names and then become the gateway
// and an auxiliary address: no claim gets them any more.
func TestStickyReserved(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/29")
	cfg.Sticky = true
	l := Of(s, "", "web")
	for i, name := range []string{"a", "b", "c", "d", "e"} {
		want(t, claimText(l, sticky(name, name), cfg), fmt.Sprintf("10.1.0.%d/29", i+2))
		l.Release(owner(name))
	}
	cfg.Subnets[0].Gateway = netip.MustParseAddr("10.1.0.2")
	cfg.Subnets[0].Aux = map[string]netip.Addr{"nas": netip.MustParseAddr("10.1.0.3")}
	want(t, claimText(l, sticky("b", "b"), cfg), "10.1.0.1/29") // the only free one
	want(t, claimText(l, sticky("x", "x"), cfg), "10.1.0.4/29") // kept for c; that of a is longer, but reserved
	want(t, claimText(l, sticky("a", "a"), cfg), "10.1.0.5/29")
	verify(t, l)
}

func TestEncodeName(t *testing.T) {
	seen := map[string]string{}
	for _, tt := range []struct{ name, want string }{
		{"db-1_x.y", "db-1_x.y"},
		{"..", "%2E."},
		{"../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"},
		{"a@b:c,d", "a%40b%3Ac%2Cd"},
		{"a%40b", "a%2540b"},
		{"name\n\x00ü", "name%0A%00%C3%BC"},
		{strings.Repeat("x", 180), strings.Repeat("x", 180)},
		{strings.Repeat("x", 181), strings.Repeat("x", 180) + "~"},
		{strings.Repeat("x", 182), strings.Repeat("x", 180) + "~"},
	} {
		got := disk.EncodeName(tt.name)
		if !strings.HasPrefix(got, tt.want) || len(got) > 255 || seen[got] != "" {
			t.Errorf("encodeName(%q) = %q", tt.name, got)
		}
		seen[got] = tt.name
	}
}

func TestStickyFilesReadWell(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/29", "fd00:1::/64")
	cfg.Sticky = true
	l := Of(s, "", "web")
	claimText(l, sticky("c1", "db/1"), cfg)
	for path, text := range map[string]string{
		"by-owner/c1/eth0":    "10.1.0.2,fd00:1::2",
		"by-name/db%2F1/eth0": "10.1.0.2,fd00:1::2",
	} {
		got, _ := os.Readlink(l.dir + "/" + path)
		want(t, got, text)
	}
}

// TestStickyPageLost: where the page of the bitmap with a kept address can't be read, the address
// is found all the same.
func TestStickyPageLost(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/16")
	cfg.Sticky = true
	l := Of(s, "", "web")
	want(t, claimText(l, sticky("c1", "db", "10.1.200.9"), cfg), "10.1.200.9/16")
	want(t, claimText(l, request("c2"), cfg), "10.1.0.2/16")
	l.Release(owner("c1"))
	page := l.dir + "/.pages/" + ipam.PageOf(netip.MustParseAddr("10.1.200.9")).String()
	if err := os.Truncate(page, 5); err != nil {
		t.Fatal(err)
	}
	want(t, claimText(l, sticky("c3", "db"), cfg), "10.1.200.9/16")
	verify(t, l)
}

// TestStickyLinkUnreadable: a link that can't be read is made again for the name that has its address.
func TestStickyLinkUnreadable(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/28")
	cfg.Sticky = true
	l := Of(s, "", "web")
	links := map[string]string{} // target by path
	for i := range 8 {
		c := fmt.Sprint("c", i)
		claimText(l, sticky(c, "name-"+c), cfg)
		path := fmt.Sprintf("%s/10.1.0.%d", l.dir, i+2)
		links[path], _ = os.Readlink(path)
		if !strings.HasSuffix(links[path], ":name-"+c) {
			t.Fatalf("%s -> %s", path, links[path])
		}
	}
	for path, was := range links {
		recordstest.ReplaceBy(t, recordstest.Spoilers["empty"], path)
		if err := os.Remove(l.dir + "/.state"); err != nil {
			t.Fatal(err)
		}
		verify(t, l)
		is, _ := os.Readlink(path)
		want(t, is, was)
	}
}

// TestStickyTakenOverByHand: what is kept for a name on one interface and leased to it on another
// is not kept any more, and a folder without a name in it goes.
func TestStickyTakenOverByHand(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/29")
	cfg.Sticky = true
	l := Of(s, "", "web")
	want(t, claimText(l, sticky("c1", "db"), cfg), "10.1.0.2/29")
	l.Release(owner("c1"))
	epoch, err := s.Epoch()
	if err != nil {
		t.Fatal(err)
	}
	other := owner("c2")
	other.IfName = "eth1"
	if err := os.Symlink(lease{owner: other, epoch: epoch, name: "db"}.target(), l.dir+"/10.1.0.2"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(l.dir+"/.state"), os.Mkdir(l.dir+"/by-name/empty", 0o700)); err != nil {
		t.Fatal(err)
	}
	want(t, fmt.Sprint(verify(t, l)), "[10.1.0.2 c2]")
	if left, _ := os.ReadDir(l.dir + "/by-name"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
