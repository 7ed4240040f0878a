package registry

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"dcni/pkg/records/leases"
)

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

func registerText(n Registry, r Registration) string {
	got, err := n.Register(r)
	if err != nil {
		return fmt.Sprintf("error %d: %v", code(err), err)
	}
	return fmt.Sprint(got)
}

func TestRegister(t *testing.T) {
	s := testStore(t)
	n := Of(s, "")
	asked := 0
	avoid := func() ([]netip.Prefix, error) {
		asked++
		return prefixes("172.17.0.0/16"), nil
	}
	pool := Registration{Name: "web", WantPool: true, Avoid: avoid}
	want(t, registerText(n, pool), "[172.18.0.0/16]")
	want(t, registerText(n, pool), "[172.18.0.0/16]")
	if asked != 1 {
		t.Fatalf("asked %d times what to avoid", asked)
	}
	want(t, registerText(n, Registration{Name: "db", WantPool: true}), "[172.17.0.0/16]")
	want(t, registerText(n, Registration{Name: "a", Explicit: prefixes("172.18.9.0/24")}),
		`error 7: invalid pool request: Pool overlaps with other one on this address space: `+
			`subnet 172.18.9.0/24 of network "a" and 172.18.0.0/16 of network "web"`)
	want(t, registerText(n, Registration{Name: "a", Explicit: prefixes("172.19.9.0/24")}), "[172.19.9.0/24]")
	want(t, registerText(n, Registration{Name: "b", WantPool: true}), "[172.20.0.0/16]")
	// A changed configuration: other subnets, but the same one from the pool.
	web := Registration{Name: "web", WantPool: true, WantULA: true, HostID: "h", Bridge: "br0"}
	want(t, registerText(n, web), "[172.18.0.0/16 fd71:e64d:b123:4b5e::/64]")
	want(t, registerText(n, Registration{Name: "web", Explicit: prefixes("10.1.0.0/24")}), "[10.1.0.0/24]")
	if err := errors.Join(n.Forget("b"), n.Forget("b")); err != nil {
		t.Fatal(err)
	}
	list, err := n.List()
	want(t, fmt.Sprint(list, err),
		"[{a [172.19.9.0/24] [] []  } {db [172.17.0.0/16] [172.17.0.0/16] []  } {web [10.1.0.0/24] [] []  }] <nil>")
	if _, err := n.Register(Registration{Name: "../x"}); err == nil {
		t.Fatal("a network outside the directory")
	}
}

// TestForgotten: what nothing names any more is dropped, but only if in the way.
func TestForgotten(t *testing.T) {
	s := testStore(t)
	n := Of(s, "")
	for i, name := range []string{"dead", "alive", "leased", "stale"} {
		r := Registration{Name: name, Explicit: prefixes(fmt.Sprintf("10.%d.0.0/16", i))}
		want(t, registerText(n, r), "["+r.Explicit[0].String()+"]")
	}
	leases.Of(s, "", "stale").Claim(request("c1"), config(t, "10.3.0.0/16"))
	reboot(t, s.Run)
	leases.Of(s, "", "leased").Claim(request("c1"), config(t, "10.2.0.0/16"))
	for i, text := range []string{"dead", "alive", "leased", "stale"} {
		r := Registration{Name: "new-" + text, Explicit: prefixes(fmt.Sprintf("10.%d.7.0/24", i))}
		r.Alive = func(o Network) bool { return o.Name == "alive" }
		_, err := n.Register(r)
		if gone := text == "dead" || text == "stale"; gone != (err == nil) {
			t.Errorf("%s: %v", text, err)
		}
		if _, err := n.Get(text); errors.Is(err, os.ErrNotExist) != (text == "dead" || text == "stale") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestPoolsRunOut(t *testing.T) {
	s := testStore(t)
	n := Of(s, "")
	var all sync.WaitGroup
	for i := range 31 {
		all.Go(func() {
			if _, err := n.Register(Registration{Name: fmt.Sprint("n", i), WantPool: true}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	seen := map[netip.Prefix]bool{}
	list, _ := n.List()
	for _, o := range list {
		seen[o.Subnets[0]] = true
	}
	if len(seen) != 31 {
		t.Errorf("%d subnets for 31 networks", len(seen))
	}
	r := Registration{Name: "x", WantPool: true}
	want(t, registerText(n, r), "error 11: all predefined address pools have been fully subnetted")
	r.Alive = func(o Network) bool { return o.Subnets[0].String() != "172.25.0.0/16" }
	want(t, registerText(n, r), "[172.25.0.0/16]")
}

// TestProbeNetwork says what Register would, and changes nothing.
func TestProbeNetwork(t *testing.T) {
	n := Of(testStore(t), "")
	dead := func(Network) bool { return false }
	want(t, registerText(n, Registration{Name: "web", Explicit: prefixes("10.1.0.0/24")}), "[10.1.0.0/24]")
	probe := func(r Registration) string {
		return fmt.Sprint(n.Probe(r))
	}
	want(t, probe(Registration{Name: "web", Explicit: prefixes("10.1.0.0/24")}), "<nil>")
	want(t, probe(Registration{Name: "db", WantPool: true}), "<nil>")
	want(t, probe(Registration{Name: "db", Explicit: prefixes("10.1.0.0/25")}), `invalid pool request: Pool overlaps with other one on this address space: `+
		`subnet 10.1.0.0/25 of network "db" and 10.1.0.0/24 of network "web"`)
	want(t, probe(Registration{Name: "db", Explicit: prefixes("10.1.0.0/25"), Alive: dead}), "<nil>")
	want(t, probe(Registration{Name: "db", WantPool: true, Avoid: func() ([]netip.Prefix, error) { return nil, os.ErrPermission }}), os.ErrPermission.Error())
	list, err := n.List()
	want(t, fmt.Sprint(list, err), "[{web [10.1.0.0/24] [] []  }] <nil>")
}

// TestRestore gives a network the registration back that Register replaced.
func TestRestore(t *testing.T) {
	n := Of(testStore(t), "")
	if err := n.Restore(Network{}); err != nil {
		t.Errorf("of no registration: %v", err)
	}
	want(t, registerText(n, Registration{Name: "web", Explicit: prefixes("10.1.0.0/24")}), "[10.1.0.0/24]")
	before, err := n.Get("web")
	if err != nil {
		t.Fatal(err)
	}
	want(t, registerText(n, Registration{Name: "web", Explicit: prefixes("10.2.0.0/24"), Bridge: "br0"}), "[10.2.0.0/24]")
	for range 2 {
		if err := n.Restore(before); err != nil {
			t.Fatal(err)
		}
		now, err := n.Get("web")
		want(t, fmt.Sprint(now, err), "{web [10.1.0.0/24] [] []  } <nil>")
	}
	if err := errors.Join(n.Forget("web")); err != nil {
		t.Fatal(err)
	}
	if err := n.Restore(before); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a network that is gone is back: %v", err)
	}
}

// TestChosenAgain: what was chosen for a network stays, unless its configuration now has
// that subnet, or another of the family.
func TestChosenAgain(t *testing.T) {
	n := Of(testStore(t), "")
	pool := Registration{Name: "web", WantPool: true, WantULA: true, HostID: "h"}
	const ula = "fd71:e64d:b123:4b5e::/64"
	want(t, registerText(n, pool), "[172.17.0.0/16 "+ula+"]")
	pool.Bridge = "br0"
	want(t, registerText(n, pool), "[172.17.0.0/16 "+ula+"]")
	pool.Explicit = prefixes("172.17.9.0/24")
	want(t, registerText(n, pool), "[172.18.0.0/16 172.17.9.0/24 "+ula+"]")
	pool.Explicit = nil
	want(t, registerText(n, pool), "[172.18.0.0/16 "+ula+"]")
	pool.WantULA = false
	want(t, registerText(n, pool), "[172.18.0.0/16]")
	pool.WantPool, pool.WantULA = false, true
	want(t, registerText(n, pool), "["+ula+"]")
}

// TestRegisterOnLAN: networks on a LAN may share a subnet if they give addresses of
// different parts of it, and no other network may.
func TestRegisterOnLAN(t *testing.T) {
	n := Of(testStore(t), "")
	on := func(name, ipRange string) Registration {
		return Registration{Name: name, Explicit: prefixes("192.0.2.0/24"), Ranges: prefixes(ipRange)}
	}
	const overlap = `error 7: invalid pool request: Pool overlaps with other one on this address space: subnet 192.0.2.0/24 of network %q and 192.0.2.0/24 of network %q`
	want(t, registerText(n, on("a", "192.0.2.128/26")), "[192.0.2.0/24]")
	want(t, registerText(n, on("b", "192.0.2.192/26")), "[192.0.2.0/24]")
	want(t, registerText(n, on("a", "192.0.2.128/26")), "[192.0.2.0/24]")
	want(t, registerText(n, on("c", "192.0.2.160/27")), fmt.Sprintf(overlap, "c", "a"))
	want(t, registerText(n, on("c", "192.0.2.0/24")), fmt.Sprintf(overlap, "c", "a"))
	want(t, registerText(n, Registration{Name: "c", Explicit: prefixes("192.0.2.0/24")}), fmt.Sprintf(overlap, "c", "a"))
	want(t, registerText(n, on("b", "192.0.2.0/24")), fmt.Sprintf(overlap, "b", "a")) // its range has become larger
	part := Registration{Name: "c", Explicit: prefixes("192.0.2.128/25"), Ranges: prefixes("192.0.2.240/28")}
	if got := registerText(n, part); !strings.Contains(got, "192.0.2.128/25 of network \"c\" and 192.0.2.0/24 of network \"a\"") {
		t.Errorf("a part of the subnet: %s", got)
	}
	other := Registration{Name: "c", Explicit: prefixes("192.0.2.0/25"), Ranges: prefixes("192.0.2.0/26")}
	want(t, registerText(n, other), `error 7: invalid pool request: Pool overlaps with other one on this address space: subnet 192.0.2.0/25 of network "c" and 192.0.2.0/24 of network "a"`)
}

// TestRegisterAgain: a network that is registered needs no lock, and nothing is asked of the
// host for it.
func TestRegisterAgain(t *testing.T) {
	s := testStore(t)
	n := Of(s, "")
	pool := Registration{Name: "web", WantPool: true}
	want(t, registerText(n, pool), "[172.17.0.0/16]")
	if err := errors.Join(os.RemoveAll(s.Run), os.MkdirAll(filepath.Join(s.Run, "lock"), 0o755)); err != nil { // a lock that can't be had
		t.Fatal(err)
	}
	pool.Avoid = func() ([]netip.Prefix, error) { return nil, os.ErrPermission }
	want(t, registerText(n, pool), "[172.17.0.0/16]")
	want(t, fmt.Sprint(n.Probe(pool)), "<nil>")
	if got, err := n.Register(Registration{Name: "lab", WantPool: true}); err == nil {
		t.Errorf("a new network without the lock: %v", got)
	}
}

// TestAvoid: what the host uses is asked for and avoided where a subnet is to be chosen, of
// either family, and only there.
func TestAvoid(t *testing.T) {
	n := Of(testStore(t), "")
	const ula = "fd71:e64d:b123:4b5e::/64" // of web on host h
	web := Registration{Name: "web", WantULA: true, HostID: "h", Avoid: func() ([]netip.Prefix, error) { return prefixes(ula), nil }}
	if got := registerText(n, web); got == "["+ula+"]" || strings.HasPrefix(got, "error") {
		t.Errorf("in spite of what the host uses: %s", got)
	}
	unknown := func() ([]netip.Prefix, error) { return nil, os.ErrPermission }
	want(t, registerText(n, Registration{Name: "lab", Explicit: prefixes("10.1.0.0/24"), Avoid: unknown}), "[10.1.0.0/24]")
	want(t, registerText(n, Registration{Name: "db", WantULA: true, HostID: "h", Avoid: unknown}), "error 0: "+os.ErrPermission.Error())
}

// TestProbeChanged: a network whose configuration has changed is probed as a new one.
func TestProbeChanged(t *testing.T) {
	n := Of(testStore(t), "")
	for i, name := range []string{"web", "lab"} {
		subnet := fmt.Sprintf("10.%d.0.0/24", i+1)
		want(t, registerText(n, Registration{Name: name, Explicit: prefixes(subnet)}), "["+subnet+"]")
	}
	err := n.Probe(Registration{Name: "web", Explicit: prefixes("10.2.0.0/25")})
	if err == nil || !strings.Contains(err.Error(), `10.2.0.0/24 of network "lab"`) {
		t.Errorf("its subnet is another's by now: %v", err)
	}
	want(t, fmt.Sprint(n.Probe(Registration{Name: "web", Explicit: prefixes("10.3.0.0/24")})), "<nil>")
}

// TestSeveralInTheWay: of the networks in the way, those that are gone are forgotten, and one
// that is there is an error all the same.
func TestSeveralInTheWay(t *testing.T) {
	n := Of(testStore(t), "")
	for i, name := range []string{"a", "b", "c"} {
		subnet := fmt.Sprintf("10.1.%d.0/24", i)
		want(t, registerText(n, Registration{Name: name, Explicit: prefixes(subnet)}), "["+subnet+"]")
	}
	all := Registration{Name: "web", Explicit: prefixes("10.1.0.0/16"), Alive: func(o Network) bool { return o.Name == "b" }}
	if got := registerText(n, all); !strings.Contains(got, `10.1.1.0/24 of network "b"`) {
		t.Errorf("one of three is alive: %s", got)
	}
	all.Alive = func(Network) bool { return false }
	want(t, registerText(n, all), "[10.1.0.0/16]")
	list, err := n.List()
	want(t, fmt.Sprint(list, err), "[{web [10.1.0.0/16] [] []  }] <nil>")
}

// TestListNothing: where there is no directory, or something else in its place, no network is
// known.
func TestListNothing(t *testing.T) {
	n := Of(testStore(t), "")
	for range 2 {
		list, err := n.List()
		want(t, fmt.Sprint(list, err), "[] <nil>")
		if err := errors.Join(os.MkdirAll(n.lib, 0o755), os.WriteFile(filepath.Join(n.lib, "networks"), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	want(t, registerText(n, Registration{Name: "web", WantPool: true}), "[172.17.0.0/16]")
}
