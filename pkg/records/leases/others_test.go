package leases

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"dcni/pkg/records/disk"
	"dcni/pkg/wire"
)

func conflicts(list ...string) (out []wire.Conflict) {
	for _, a := range list {
		out = append(out, wire.Conflict{Address: netip.MustParseAddr(a), MAC: "02:00:00:00:00:99"})
	}
	return out
}

// age makes what is known of an address older.
func age(t *testing.T, l Leases, address string, by time.Duration) {
	t.Helper()
	s := &session{l: l}
	at := time.Now().Add(-by)
	if err := s.touchLink(s.path("by-others", address), at); err != nil {
		t.Fatal(err)
	}
}

// An address that a machine on the LAN has is passed over, and is tried again when it was
// not heard of for long, is asked for by value, or is the last.
func TestOthersPassedOver(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/29")
	l := Of(s, "", "web")
	want(t, claimText(l, request("c1"), cfg), "10.1.0.2/29")
	if err := l.MarkOthers(conflicts("10.1.0.2", "10.1.0.4")); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.Readlink(l.dir + "/by-others/10.1.0.4"); got != "02:00:00:00:00:99" {
		t.Errorf("by-others/10.1.0.4 -> %s", got)
	}
	want(t, claimText(l, request("c1"), cfg), "10.1.0.3/29") // not the one that it had
	want(t, claimText(l, request("c2"), cfg), "10.1.0.5/29")
	want(t, claimText(l, request("c3"), cfg), "10.1.0.6/29")
	const full = "error 11: no available IPv4 addresses on this network's address pools: web"
	want(t, claimText(l, request("c4"), cfg), full)
	if err := l.Full(cfg); code(err) != wire.CodeTryAgain {
		t.Errorf("Full: %v", err)
	}
	age(t, l, "10.1.0.4", othersAtLeast)
	if err := l.Full(cfg); err != nil {
		t.Errorf("Full: %v", err)
	}
	want(t, claimText(l, request("c4"), cfg), "10.1.0.4/29")
	verify(t, l)
	want(t, claimText(l, request("c5", "10.1.0.2"), cfg), "10.1.0.2/29")
	if names, _ := disk.NamesIn(l.dir + "/by-others"); len(names) > 0 {
		t.Errorf("leased, and others': %v", names)
	}
	for _, c := range []string{"c1", "c2", "c3", "c4", "c5"} {
		l.Release(owner(c))
	}
	verify(t, l)
}

func TestOthersForgotten(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/29")
	l := Of(s, "", "web")
	if err := l.MarkOthers(conflicts("10.1.0.2", "10.1.0.3")); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(l.dir+"/by-others/note", nil, 0o600)
	age(t, l, "10.1.0.2", othersFor)
	want(t, claimText(l, request("c1"), cfg), "10.1.0.2/29")
	names, _ := disk.NamesIn(l.dir + "/by-others")
	want(t, strings.Join(names, " "), "10.1.0.3")
	age(t, l, "10.1.0.3", -2*othersFor) // the clock was set back
	want(t, claimText(l, request("c2"), cfg), "10.1.0.3/29")
	verify(t, l)
}

// What is known of a LAN outlives a claim that came to nothing.
func TestOthersKept(t *testing.T) {
	l := Of(testStore(t), "", "web")
	if err := l.MarkOthers(conflicts("10.1.0.2")); err != nil {
		t.Fatal(err)
	}
	if empty, err := l.Forget(); !empty || err != nil {
		t.Errorf("Forget: %t, %v", empty, err)
	}
	if names, _ := disk.NamesIn(l.dir + "/by-others"); len(names) != 1 {
		t.Errorf("left: %v", names)
	}
}

// What is remembered is bounded: the longest known is forgotten.
func TestOthersMost(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/16")
	l := Of(s, "", "web")
	for i := range othersMost {
		a := fmt.Sprintf("10.1.1.%d", i)
		if err := l.MarkOthers(conflicts(a)); err != nil {
			t.Fatal(err)
		}
		age(t, l, a, time.Minute+time.Duration(othersMost-i)*time.Millisecond)
	}
	if err := l.MarkOthers(conflicts("10.1.0.2")); err != nil {
		t.Fatal(err)
	}
	names, _ := disk.NamesIn(l.dir + "/by-others")
	if _, err := os.Readlink(l.dir + "/by-others/10.1.1.0"); err == nil || len(names) != othersMost {
		t.Errorf("%d are remembered, the longest known: %v", len(names), err == nil)
	}
	want(t, claimText(l, request("c1"), cfg), "10.1.0.3/16")
}

// A name keeps the address that it got in place of one that is taken.
func TestOthersSticky(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/29")
	cfg.Sticky = true
	l := Of(s, "", "web")
	want(t, claimText(l, sticky("c1", "db"), cfg), "10.1.0.2/29")
	if err := l.MarkOthers(conflicts("10.1.0.2")); err != nil {
		t.Fatal(err)
	}
	want(t, claimText(l, sticky("c1", "db"), cfg), "10.1.0.3/29")
	l.Release(owner("c1"))
	want(t, claimText(l, sticky("c2", "db"), cfg), "10.1.0.3/29")
	verify(t, l)
}

// TestOthersLeased: an address that a container has is no other's, whatever machine was heard with it.
func TestOthersLeased(t *testing.T) {
	s, cfg := testStore(t), config(t, "10.1.0.0/30")
	l := Of(s, "", "web")
	want(t, claimText(l, request("c1"), cfg), "10.1.0.2/30")
	if err := l.MarkOthers(conflicts("10.1.0.2")); err != nil {
		t.Fatal(err)
	}
	age(t, l, "10.1.0.2", 2*othersAtLeast)
	want(t, claimText(l, request("c2"), cfg), "error 11: no available IPv4 addresses on this network's address pools: web")
	want(t, fmt.Sprint(verify(t, l)), "[10.1.0.2 c1]")
}
