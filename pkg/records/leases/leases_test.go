package leases

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dcni/pkg/ipam"
	"dcni/pkg/wire"
)

func TestNextFitAndLowest(t *testing.T) {
	for _, tt := range []struct {
		allocation ipam.Allocation
		want       string
	}{
		{ipam.NextFit, "10.1.0.2/29 10.1.0.3/29 10.1.0.4/29 10.1.0.5/29 10.1.0.6/29 10.1.0.2/29"},
		{ipam.Lowest, "10.1.0.2/29 10.1.0.2/29 10.1.0.2/29 10.1.0.2/29 10.1.0.2/29 10.1.0.2/29"},
	} {
		s, cfg := testStore(t), config(t, "10.1.0.0/29")
		cfg.Allocation = tt.allocation
		var got []string
		for i := range 6 {
			name := fmt.Sprint("c", i)
			got = append(got, claimText(Of(s, "", "web"), request(name), cfg))
			if err := Of(s, "", "web").Release(owner(name)); err != nil {
				t.Fatal(err)
			}
		}
		want(t, strings.Join(got, " "), tt.want)
	}
}

func TestClaimErrors(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/29", "fd00:1::/64")
	l := Of(s, "", "web")
	want(t, claimText(l, request("c1", "10.1.0.4"), cfg), "10.1.0.4/29 fd00:1::2/64")
	before := verify(t, l)
	for _, tt := range []struct {
		req  ipam.Request
		want string
	}{
		{request("c2", "10.1.0.4"), "error 101: Address already in use: 10.1.0.4 is leased to web c1/eth0"},
		{request("c2", "10.1.0.5", "fd00:1::2"), "error 101: Address already in use: fd00:1::2 is leased to web c1/eth0"},
		{request("c2", "10.1.0.1"), "error 101: Address already in use: 10.1.0.1 is the gateway"},
		{request("c2", "10.1.0.7"), "error 7: IP address 10.1.0.7 is the broadcast address of 10.1.0.0/29: it can't be a container's"},
		{request("c2", "10.2.0.7"), "error 7: no configured subnet contains IP address 10.2.0.7"},
		{request("../c2"), `error 4: CNI_CONTAINERID "../c2": must be 1 to 255 bytes without '/'`},
	} {
		want(t, claimText(l, tt.req, cfg), tt.want)
	}
	if after := verify(t, l); !slices.Equal(before, after) {
		t.Fatalf("a failed claim changed %v to %v", before, after)
	}
}

// TestAllOrNothing fails in the second family: the first must not stay.
func TestAllOrNothing(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/24", "fd00:1::/126")
	l := Of(s, "", "web")
	want(t, claimText(l, request("c1"), cfg), "10.1.0.2/24 fd00:1::2/126")
	want(t, claimText(l, request("c2"), cfg), "10.1.0.3/24 fd00:1::3/126")
	if err := l.Full(cfg); code(err) != wire.CodeTryAgain {
		t.Fatalf("Full: %v", err)
	}
	const full = "error 11: no available IPv6 addresses on this network's address pools: web"
	want(t, claimText(l, request("c3"), cfg), full)
	want(t, fmt.Sprint(verify(t, l)), "[10.1.0.2 c1 10.1.0.3 c2 fd00:1::2 c1 fd00:1::3 c2]")
	if err := l.Release(owner("c1")); err != nil {
		t.Fatal(err)
	}
	if err := l.Full(cfg); err != nil {
		t.Fatal(err)
	}
}

func TestClaimAgainAndRelease(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/24", "10.2.0.0/24", "fd00:1::/64")
	l := Of(s, "", "web")
	want(t, claimText(l, request("c1"), cfg), "10.1.0.2/24 fd00:1::2/64")
	want(t, claimText(l, request("c1"), cfg), "10.1.0.2/24 fd00:1::2/64")
	want(t, claimText(l, request("c1", "10.2.0.9"), cfg), "10.2.0.9/24 fd00:1::2/64")
	if err := l.Check(owner("c1"), []netip.Addr{netip.MustParseAddr("10.1.0.2")}); err == nil ||
		len(strings.Split(err.Error(), "\n")) != 3 {
		t.Fatalf("Check: %v", err)
	}
	for range 2 {
		if err := l.Release(owner("c1")); err != nil {
			t.Fatal(err)
		}
		want(t, fmt.Sprint(verify(t, l)), "[]")
	}
	if err := Of(s, "", "nosuch").Release(owner("c1")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.Lib, "leases", "nosuch")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a release made a directory: %v", err)
	}
}

// TestForeignHands does what an operator may do.
func TestForeignHands(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/29")
	l := Of(s, "", "web")
	for i := range 5 {
		l.Claim(request(fmt.Sprint("c", i)), cfg)
	}
	const full = "error 11: no available IPv4 addresses on this network's address pools: web"
	want(t, claimText(l, request("c9"), cfg), full)
	for _, step := range []struct {
		name string
		do   func(dir string) error
	}{
		{"a lease removed", func(dir string) error { return os.Remove(dir + "/10.1.0.4") }},
		{"no bitmap", func(dir string) error {
			return errors.Join(os.RemoveAll(dir+"/.pages"), os.Remove(dir+"/10.1.0.4"))
		}},
		{"a short bitmap", func(dir string) error {
			return errors.Join(os.Truncate(dir+"/.pages/10.1.0.0", 5), os.Remove(dir+"/10.1.0.4"))
		}},
		{"no state", func(dir string) error {
			return errors.Join(os.Remove(dir+"/.state"), os.Remove(dir+"/10.1.0.4"))
		}},
		{"no by-owner", func(dir string) error { return os.RemoveAll(dir + "/by-owner") }},
		{"a foreign state", func(dir string) error { return os.WriteFile(dir+"/.state", []byte("x"), 0o600) }},
	} {
		time.Sleep(tick)
		if err := step.do(l.dir); err != nil {
			t.Fatal(step.name, err)
		}
		l.Release(owner("c9"))
		if got := claimText(l, request("c9"), cfg); got != "10.1.0.4/29" {
			t.Fatalf("%s: %s", step.name, got)
		}
		verify(t, l)
	}
	// A foreign file: its address is taken, and it is left alone.
	l.Release(owner("c1"))
	os.WriteFile(l.dir+"/10.1.0.3", nil, 0o600)
	os.Mkdir(l.dir+"/10.1.00.3", 0o700)
	want(t, claimText(l, request("c8"), cfg), full)
	want(t, claimText(l, request("c8", "10.1.0.3"), cfg),
		"error 101: Address already in use: 10.1.0.3 is leased to an unknown owner: its link can't be read")
}

// TestClaimMeetsLink has a link of another owner that the bitmap does not have: it was
// made while file times were too coarse to show it. A claim that meets it leaves it
// alone and takes back its own links.
func TestClaimMeetsLink(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/29", "fd00:1::/64")
	l := Of(s, "", "web")
	want(t, claimText(l, request("c1"), cfg), "10.1.0.2/29 fd00:1::2/64")
	before, err := os.Stat(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	epoch, _ := s.Epoch()
	for _, name := range []string{"10.1.0.3", "fd00:1::4"} {
		if err := os.Symlink(lease{owner: owner("c2"), epoch: epoch}.target(), l.dir+"/"+name); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(l.dir, before.ModTime(), before.ModTime()); err != nil {
		t.Fatal(err)
	}
	want(t, claimText(l, request("c3"), cfg), "10.1.0.4/29 fd00:1::3/64")
	want(t, fmt.Sprint(verify(t, l)), "[10.1.0.2 c1 10.1.0.3 c2 10.1.0.4 c3 fd00:1::2 c1 fd00:1::3 c3 fd00:1::4 c2]")
}

// TestDrop removes all leases of a network, those that are kept for names, too.
func TestDrop(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/29")
	cfg.Sticky = true
	l := Of(s, "", "web")
	for _, name := range []string{"a", "b"} {
		want(t, claimText(Of(s, "", "other"), sticky(name, name), cfg), claimText(l, sticky(name, name), cfg))
	}
	if err := errors.Join(l.Release(owner("b")), l.Drop(), l.Drop()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(l.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Drop: %v", err)
	}
	want(t, claimText(l, sticky("c", "c"), cfg), "10.1.0.2/29")
	want(t, fmt.Sprint(verify(t, Of(s, "", "other"))), "[10.1.0.2 a 10.1.0.3 b]")
}

func TestReboot(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/29")
	l := Of(s, "", "web")
	for i := range 5 {
		l.Claim(request(fmt.Sprint("c", i)), cfg)
	}
	reboot(t, s.Run)
	want(t, claimText(l, request("c9"), cfg), "10.1.0.2/29")
	want(t, fmt.Sprint(verify(t, l)), "[10.1.0.2 c9]")
}

func TestReleaseExcept(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/24", "fd00:1::/64")
	l := Of(s, "", "web")
	for i := range 4 {
		l.Claim(request(fmt.Sprint("c", i)), cfg)
	}
	os.RemoveAll(l.dir + "/by-owner/c1")
	gone, err := l.ReleaseExcept(func(a wire.Attachment) bool { return a == owner("c2") })
	if err != nil {
		t.Fatal(err)
	}
	want(t, fmt.Sprint(gone), "[web c0/eth0 web c1/eth0 web c3/eth0]") // each once
	owners, _ := l.Owners()
	want(t, fmt.Sprint(owners), "[web c2/eth0]")
	verify(t, l)
}

func TestRangesOfTheRuntime(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/24", "fd00:1::/64")
	l := Of(s, "", "web")
	ranges, err := cfg.Ranges([][]ipam.RawRange{
		{{Subnet: "10.1.0.0/24", RangeStart: "10.1.0.20", RangeEnd: "10.1.0.20"}, {Subnet: "10.5.0.0/30"}},
		{{Subnet: "10.6.0.0/24"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range []string{
		"10.1.0.20/24 10.6.0.2/24 fd00:1::2/64", "10.5.0.2/30 10.6.0.3/24 fd00:1::3/64",
		"error 11: no available IPv4 addresses on this network's address pools: web",
	} {
		r := request(fmt.Sprint("c", i))
		r.Ranges = ranges
		want(t, claimText(l, r, cfg), text)
	}
	verify(t, l)
}

func TestInterfaceNames(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/24")
	l, r := Of(s, "", "web"), request("c1")
	r.Owner.IfName = "a@b:c"
	cfg.Sticky = true
	claimText(l, r, cfg)
	target, _ := os.Readlink(l.dir + "/10.1.0.2")
	epoch, _ := s.Epoch()
	want(t, target, "c1/a@b:c@"+epoch+":c1")
	owners, _ := l.Owners()
	want(t, fmt.Sprint(owners), "[web c1/a@b:c]")
	verify(t, l)
}

// TestForgetLeases removes the directory of a network only without leases.
func TestForgetLeases(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/29")
	l := Of(s, "", "web")
	forget := func(l Leases, empty bool) {
		t.Helper()
		if got, err := l.Forget(); got != empty || err != nil {
			t.Errorf("forgot %t, %v", got, err)
		}
		if _, err := os.Stat(l.dir); errors.Is(err, os.ErrNotExist) != empty {
			t.Errorf("its directory: %v", err)
		}
	}
	forget(l, true)
	want(t, claimText(l, request("c1"), cfg), "10.1.0.2/29")
	forget(l, false)
	lock, err := s.LockNetwork("web")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	forget(l.Locked(), false)
	if err := l.Locked().Release(owner("c1")); err != nil {
		t.Fatal(err)
	}
	forget(l.Locked(), true)
}

// TestTaken lists the leases of this boot and what is kept for names.
func TestTaken(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/29")
	l := Of(s, "", "web")
	taken := func() string {
		t.Helper()
		list, err := l.Taken()
		slices.SortFunc(list, netip.Addr.Compare)
		return fmt.Sprint(list) + errText(err)
	}
	want(t, taken(), "[]")
	want(t, claimText(l, request("c1"), cfg), "10.1.0.2/29")
	cfg.Sticky = true
	want(t, claimText(l, sticky("c2", "db"), cfg), "10.1.0.3/29")
	want(t, taken(), "[10.1.0.2 10.1.0.3]")
	reboot(t, s.Run)
	want(t, taken(), "[10.1.0.3]")
	if err := errors.Join(os.MkdirAll(s.Run, 0o755), os.WriteFile(s.Run+"/epoch", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	want(t, taken(), "[10.1.0.3]") // of a boot that is not known
}
