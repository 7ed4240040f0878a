package wire_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/wire"
	"dcni/pkg/wire/wiretest"
)

const bothUp = `addr 10.1.0.1/24 dev br0
addr 10.1.0.2/24 dev eth0 in sandbox
link br0 type bridge address 02:42:00:00:00:01 mtu 1500 alias "web"
link br0 up
link eth0 up in sandbox
link v1 mtu 1500 master br0 hairpin on alias "web c1/eth0" type veth peer eth0 address 02:42:00:00:00:02 in sandbox
route default via 10.1.0.1 dev eth0 metric 5 in sandbox
`

const sharedOnly = `addr 10.1.0.1/24 dev br0
link br0 type bridge address 02:42:00:00:00:01 mtu 1500 alias "web"
link br0 up
`

// ensured is a machine on which the objects are so.
func ensured(t *testing.T, objects []wire.Object) *wiretest.Host {
	t.Helper()
	h := wiretest.New()
	if _, err := wire.Ensure(h, objects); err != nil {
		t.Fatal(err)
	}
	return h
}

func wantState(t *testing.T, h *wiretest.Host, when, want string) {
	t.Helper()
	if got := h.String(); got != want {
		t.Fatalf("%s:\n%s\nwant\n%s", when, got, want)
	}
}

func TestVerbs(t *testing.T) {
	h, p := wiretest.New(), bridgeAndVeth()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ensure := func(want int) {
		t.Helper()
		changed, err := wire.Ensure(h, all(p))
		must(err)
		if len(changed) != want {
			t.Errorf("changed %v, want %d", changed, want)
		}
	}
	ensure(7)
	wantState(t, h, "after Ensure", bothUp)
	ensure(0)
	wantState(t, h, "after a second Ensure", bothUp)
	must(wire.Check(h, all(p)))
	if !wire.So(h, all(p)) {
		t.Error("So says that something is missing")
	}
	must(wire.Del(h, p.Own))
	wantState(t, h, "after Del", sharedOnly)
	must(wire.Del(h, p.Own))
	wantState(t, h, "after a second Del", sharedOnly)
	if wire.So(h, all(p)) {
		t.Error("So says that what was deleted is there")
	}

	ensure(4)
	h.Vanish("/ns/c1")
	wantState(t, h, "after the namespace's end", sharedOnly)
	err := wire.Check(h, p.Own)
	if err == nil || strings.Count(err.Error(), "missing") != len(p.Own) {
		t.Errorf("Check tells %v, want all %d differences", err, len(p.Own))
	}
}

// A failed Ensure leaves the machine as it was, whether the step that failed had
// taken effect or not. What was there before stays.
func TestEnsureUndoesItsOwn(t *testing.T) {
	fault := errors.New("fault")
	for n := range all(bridgeAndVeth()) {
		for _, after := range []bool{false, true} {
			p := bridgeAndVeth()
			h := ensured(t, p.Network[:1]) // another's bridge
			before, step := h.String(), 0
			hook := func(op string, _ wire.Object) error {
				if op != "ensure" {
					return nil
				}
				if step++; step == n+1 {
					return fault
				}
				return nil
			}
			if after {
				h.After = hook
			} else {
				h.Step = hook
			}
			changed, err := wire.Ensure(h, all(p))
			if !errors.Is(err, fault) || changed != nil {
				t.Errorf("step %d: %v, %v", n, changed, err)
			}
			if want := "ensure " + all(p)[n].String() + ": fault"; err.Error() != want {
				t.Errorf("step %d says %v, want %s", n, err, want)
			}
			wantState(t, h, fmt.Sprintf("step %d, after %t", n, after), before)
		}
	}
}

// The stages of a plan are its objects, in their order: up to the first address,
// and from there on.
func TestStages(t *testing.T) {
	own := bridgeAndVeth().Own
	link, addresses := wire.Stages(own)
	if !slices.Equal(link, own[:1]) || !slices.Equal(addresses, own[1:]) {
		t.Errorf("of %v: %v and %v", own, link, addresses)
	}
	link, addresses = wire.Stages(own[2:])
	if !slices.Equal(link, own[2:]) || len(addresses) > 0 {
		t.Errorf("without an address: %v and %v", link, addresses)
	}
	if link, addresses = wire.Stages(own[1:]); len(link) > 0 || !slices.Equal(addresses, own[1:]) {
		t.Errorf("without a link: %v and %v", link, addresses)
	}
	link, _ = wire.Stages(own)
	if _ = append(link, own[3]); own[1].Key() != bridgeAndVeth().Own[1].Key() {
		t.Error("what is appended to the first stage overwrites the second")
	}
}

// What can't be undone is said, and keeps nothing else from being undone.
func TestUndoGoesOn(t *testing.T) {
	p := bridgeAndVeth()
	h := ensured(t, all(p))
	stuck := errors.New("stuck")
	h.Step = func(op string, o wire.Object) error {
		if op == "remove" && (o == p.Own[1] || o == p.Own[2]) {
			return stuck
		}
		return nil
	}
	err := wire.Undo(h, all(p))
	const want = "remove link eth0 up in sandbox: stuck\nremove addr 10.1.0.2/24 dev eth0 in sandbox: stuck"
	if !errors.Is(err, stuck) || err.Error() != want {
		t.Errorf("says %v, want %s", err, want)
	}
	wantState(t, h, "after Undo", "")
}

// An error that is meant for the user is passed on in the user's words.
func TestErrorsForUsers(t *testing.T) {
	h, p := wiretest.New(), bridgeAndVeth()
	h.Step = func(string, wire.Object) error { return wire.Errorf(wire.CodePortTaken, "port is already allocated") }
	_, err := wire.Ensure(h, p.Network)
	for _, err := range []error{err, wire.Check(h, p.Network[:1])} {
		var coded *wire.Error
		if !errors.As(err, &coded) || coded.Code != wire.CodePortTaken || err.Error() != "port is already allocated" {
			t.Errorf("says %v", err)
		}
	}
}

// Del removes roots only, newest first; a machine that removes several at once
// gets them at once.
func TestDelOrder(t *testing.T) {
	p := bridgeAndVeth()
	flows := &wire.Flows{}
	own := append(slices.Clone(p.Own), flows)
	h := ensured(t, all(p))
	var order []wire.Object
	h.Step = func(_ string, o wire.Object) error {
		order = append(order, o)
		return nil
	}
	want := []wire.Object{flows, p.Own[0]}
	if err := wire.Del(h, own); err != nil || !slices.Equal(order, want) {
		t.Errorf("removed %v, %v; want %v", order, err, want)
	}
	b := &batch{Host: h, err: errors.New("one could not be removed")}
	if err := wire.Del(b, own); !errors.Is(err, b.err) || !slices.Equal(b.got, want) {
		t.Errorf("removed at once %v, %v; want %v", b.got, err, want)
	}
}

// batch is a machine that removes several objects at once.
type batch struct {
	*wiretest.Host
	got []wire.Object
	err error
}

func (b *batch) RemoveAll(objects []wire.Object) error {
	b.got = objects
	return b.err
}

// Probe says everything that is missing, each once.
func TestProbe(t *testing.T) {
	h, p := wiretest.New(), bridgeAndVeth()
	if err := wire.Probe(h, all(p)); err != nil {
		t.Fatal(err)
	}
	h.Step = func(_ string, o wire.Object) error {
		switch o.(type) {
		case *wire.Route:
			return errors.New("no IPv4")
		case *wire.Bridge:
			return nil
		}
		return errors.New("no netlink")
	}
	if err := wire.Probe(h, all(p)); err == nil || err.Error() != "no netlink\nno IPv4" {
		t.Errorf("says %v", err)
	}
}

// neighbours is the desired set of some peers: all on br0, which is not of it.
func neighbours(hosts ...byte) []wire.Object {
	var list []wire.Object
	for _, h := range hosts {
		list = append(list, &wire.Addr{Dev: "br0", Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 2, 0, h}), 32)})
	}
	return list
}

// A change of a desired set adds first and then removes, newest first.
func TestApply(t *testing.T) {
	h := ensured(t, bridgeAndVeth().Network[:1])
	bridge := h.String()
	have, err := wire.Apply(h, nil, neighbours(1, 2, 3))
	if err != nil || len(have) != 3 {
		t.Fatal(have, err)
	}
	var steps []string
	h.Step = func(op string, o wire.Object) error {
		steps = append(steps, op+" "+o.(*wire.Addr).Prefix.Addr().String())
		return nil
	}
	want := neighbours(4, 2)
	have, err = wire.Apply(h, have, want)
	if err != nil || !slices.Equal(have, want) {
		t.Errorf("reached %v, %v; want %v", have, err, want)
	}
	if got, want := strings.Join(steps, ", "), "ensure 10.2.0.4, ensure 10.2.0.2, remove 10.2.0.3, remove 10.2.0.1"; got != want {
		t.Errorf("did %s; want %s", got, want)
	}
	wantState(t, h, "after the change", "addr 10.2.0.2/32 dev br0\naddr 10.2.0.4/32 dev br0\n"+bridge)
	if have, err = wire.Apply(h, have, nil); err != nil || len(have) > 0 {
		t.Errorf("reached %v, %v; want nothing", have, err)
	}
	wantState(t, h, "after the end", bridge)
}

// Apply goes on past errors, and what it says that it reached is what is there:
// the next one, without faults, reaches what is wanted from it.
func TestApplyReached(t *testing.T) {
	fault := errors.New("fault")
	for _, c := range []struct {
		name    string
		op      string
		host    byte
		after   bool
		reached []byte
	}{
		{"not added", "ensure", 4, false, []byte{2, 5}},
		{"half added", "ensure", 4, true, []byte{4, 2, 5}},
		{"not kept", "ensure", 2, false, []byte{4, 2, 5}},
		{"not removed", "remove", 1, false, []byte{4, 2, 5, 1}},
		{"removed with an error", "remove", 1, true, []byte{4, 2, 5, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := ensured(t, bridgeAndVeth().Network[:1])
			bridge := h.String()
			have, _ := wire.Apply(h, nil, neighbours(1, 2, 3))
			hook := func(op string, o wire.Object) error {
				if op == c.op && o.Key() == neighbours(c.host)[0].Key() {
					return fault
				}
				return nil
			}
			if c.after {
				h.After = hook
			} else {
				h.Step = hook
			}
			have, err := wire.Apply(h, have, neighbours(4, 2, 5))
			if !errors.Is(err, fault) || !strings.HasPrefix(err.Error(), c.op+" addr ") {
				t.Errorf("says %v", err)
			}
			if got, want := keysOf(have), keysOf(neighbours(c.reached...)); got != want {
				t.Errorf("reached\n%s\nwant\n%s", got, want)
			}
			h.Step, h.After = nil, nil
			if have, err = wire.Apply(h, have, nil); err != nil || len(have) > 0 {
				t.Errorf("reached %v, %v; want nothing", have, err)
			}
			wantState(t, h, "at the end", bridge)
		})
	}
}

// An object whose contents can't be changed stays as it was: the old value is
// what is there.
func TestApplyOldContents(t *testing.T) {
	h := ensured(t, bridgeAndVeth().Network[:1])
	old, renewed := &wire.Sysctl{Path: "net/ipv4/conf/br0/forwarding", Value: "0"}, &wire.Sysctl{Path: "net/ipv4/conf/br0/forwarding", Value: "1"}
	have, _ := wire.Apply(h, nil, []wire.Object{old})
	h.Step = func(string, wire.Object) error { return errors.New("fault") }
	have, err := wire.Apply(h, have, []wire.Object{renewed})
	if err == nil || len(have) != 1 || have[0] != wire.Object(old) {
		t.Errorf("reached %v, %v", have, err)
	}
	h.Step = nil
	if have, err = wire.Apply(h, have, []wire.Object{renewed}); err != nil || len(have) != 1 || have[0] != wire.Object(renewed) {
		t.Errorf("reached %v, %v", have, err)
	}
}

func keysOf(objects []wire.Object) string {
	var keys []string
	for _, o := range objects {
		keys = append(keys, o.Key())
	}
	return strings.Join(keys, "\n")
}

// The machine in memory refuses what the kernel refuses.
func TestReferences(t *testing.T) {
	h, p := wiretest.New(), bridgeAndVeth()
	for _, o := range append(slices.Clone(p.Network[1:]), p.Own...) {
		if _, err := h.Ensure(o); err == nil {
			t.Errorf("%s was made of nothing", o)
		}
	}
	if _, err := h.Ensure(&wire.Sysctl{Path: "net/ipv6/conf/br0/accept_dad", Value: "0"}); err == nil {
		t.Error("a setting was made of a link that is not there")
	}
	if _, err := wire.Ensure(h, append(slices.Clone(p.Network), p.Own[:2]...)); err != nil {
		t.Fatal(err)
	}
	second := *p.Own[0].(*wire.Veth)
	second.Name = "v2"
	if _, err := h.Ensure(&second); err == nil {
		t.Error("a sandbox has two links of one name")
	}
	second.NetNS = "/ns/c2"
	if _, err := h.Ensure(&second); err != nil {
		t.Fatal(err)
	}
	twice := &wire.Addr{NetNS: "/ns/c2", Dev: "eth0", Prefix: netip.MustParsePrefix("10.1.0.2/32")}
	if _, err := h.Ensure(twice); err == nil {
		t.Error("two sandboxes of one bridge have one address")
	}
	if _, err := h.Ensure(p.Own[3]); err == nil {
		t.Error("a route leads through a link that is down")
	}
	if _, err := h.Ensure(p.Own[2]); err != nil {
		t.Fatal(err)
	}
	far := *p.Own[3].(*wire.Route)
	far.Via = netip.MustParseAddr("10.9.0.1")
	if _, err := h.Ensure(&far); err == nil {
		t.Error("a route leads to a gateway that is not on its link")
	}
	far.OnLink = true
	if _, err := h.Ensure(&far); err != nil {
		t.Error(err)
	}
}

// A setting is written back by the value that changed it, and by no other.
func TestSettingsWrittenBack(t *testing.T) {
	h := wiretest.New()
	for _, pair := range [][2]wire.Object{
		{&wire.Sysctl{Path: "net/ipv4/ip_forward", Value: "1"}, &wire.Sysctl{Path: "net/ipv4/ip_forward", Value: "1"}},
	} {
		for _, o := range pair {
			if _, err := h.Ensure(o); err != nil {
				t.Fatal(err)
			}
		}
		for i, want := range []bool{false, true} {
			if err := h.Remove(pair[1-i]); err != nil {
				t.Fatal(err)
			}
			if gone := !h.Has(pair[0].Key()); gone != want {
				t.Errorf("%s: removed by value %d: gone is %t", pair[0], 1-i, gone)
			}
		}
	}
}
