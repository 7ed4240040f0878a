package wire_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/wire"
	"dcni/pkg/wire/wiretest"
)

func TestAttachment(t *testing.T) {
	a := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
	if got := a.String(); got != "web c1/eth0" {
		t.Errorf("owner is %q", got)
	}
	if got := a.HostLink(); got != "vab2dddb7a48151" || !wire.IsHostLink(got) {
		t.Errorf("host link is %q", got)
	}
	// The words don't run together.
	b := wire.Attachment{Network: "we", Container: "bc1", IfName: "eth0"}
	if a.ID() == b.ID() {
		t.Error("two attachments have one ID")
	}
	for _, name := range []string{"", "v", "veth0", "vab2dddb7a4815", "vab2dddb7a481511", "vAB2DDDB7A48151", "xab2dddb7a48151"} {
		if wire.IsHostLink(name) {
			t.Errorf("%q passes for ours", name)
		}
	}
}

func TestInvalid(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{wire.Invalid("mtu", 7, "must be more"), "mtu 7: must be more"},
		{wire.Invalid("bridge", "a b", "must be a name"), `bridge "a b": must be a name`},
		{wire.Invalid("subnet", netip.MustParsePrefix("10.0.0.0/8"), "is large"), `subnet "10.0.0.0/8": is large`},
	} {
		if c.err.Error() != c.want {
			t.Errorf("got %q, want %q", c.err, c.want)
		}
	}
}

// bridgeAndVeth is a small plan whose parts refer to one another.
func bridgeAndVeth() wire.Plan {
	gw, ip := netip.MustParsePrefix("10.1.0.1/24"), netip.MustParsePrefix("10.1.0.2/24")
	return wire.Plan{
		Shared: []wire.Object{
			&wire.Bridge{Name: "br0", MAC: "02:42:00:00:00:01", MTU: 1500, Alias: "web"},
			&wire.Addr{Dev: "br0", Prefix: gw},
			&wire.Up{Dev: "br0"},
		},
		Own: []wire.Object{
			&wire.Veth{Name: "v1", Bridge: "br0", NetNS: "/ns/c1", Peer: "eth0", MAC: "02:42:00:00:00:02", MTU: 1500, Alias: "web c1/eth0"},
			&wire.Addr{NetNS: "/ns/c1", Dev: "eth0", Prefix: ip},
			&wire.Up{NetNS: "/ns/c1", Dev: "eth0"},
			&wire.Route{NetNS: "/ns/c1", Dev: "eth0", Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: gw.Addr(), Metric: 5},
		},
	}
}

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

func TestVerbs(t *testing.T) {
	h, p := wiretest.New(), bridgeAndVeth()
	state := func(when, want string) {
		t.Helper()
		if got := h.String(); got != want {
			t.Fatalf("%s:\n%s\nwant\n%s", when, got, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(wire.Add(h, p))
	state("after Add", bothUp)
	must(wire.Add(h, p))
	state("after a second Add", bothUp)
	must(wire.Check(h, append(p.Shared, p.Own...)))
	must(wire.Del(h, p.Own))
	state("after Del", sharedOnly)
	must(wire.Del(h, p.Own))
	state("after a second Del", sharedOnly)

	must(wire.Add(h, p))
	h.Vanish("/ns/c1")
	state("after the namespace's end", sharedOnly)
	err := wire.Check(h, p.Own)
	if err == nil || strings.Count(err.Error(), "missing") != len(p.Own) {
		t.Errorf("Check tells %v, want all %d differences", err, len(p.Own))
	}
}

func TestAddUndoesItsOwn(t *testing.T) {
	whole := wiretest.New()
	steps := 0
	whole.Step = func(string, wire.Object) error { steps++; return nil }
	if err := wire.Add(whole, bridgeAndVeth()); err != nil {
		t.Fatal(err)
	}
	fault := errors.New("fault")
	for n := 1; n <= steps; n++ {
		h, p := wiretest.New(), bridgeAndVeth()
		if _, err := wire.Ensure(h, p.Shared[:1]); err != nil { // somebody else's bridge
			t.Fatal(err)
		}
		before, step := h.String(), 0
		h.Step = func(string, wire.Object) error {
			if step++; step == n {
				return fault
			}
			return nil
		}
		if err := wire.Add(h, p); !errors.Is(err, fault) {
			t.Errorf("step %d: %v", n, err)
		}
		if got := h.String(); got != before {
			t.Errorf("step %d left\n%s\nof\n%s", n, got, before)
		}
	}
}

func TestReferences(t *testing.T) {
	h, p := wiretest.New(), bridgeAndVeth()
	for _, o := range append(p.Shared[1:], p.Own...) {
		if _, err := h.Ensure(o); err == nil {
			t.Errorf("%s was made of nothing", o)
		}
	}
	if _, err := wire.Ensure(h, append(p.Shared, p.Own[0])); err != nil {
		t.Fatal(err)
	}
	second := *p.Own[0].(*wire.Veth)
	second.Name = "v2"
	if _, err := h.Ensure(&second); err == nil {
		t.Error("a sandbox has two links of one name")
	}
}
