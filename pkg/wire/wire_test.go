package wire_test

import (
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/wire"
)

func TestAttachment(t *testing.T) {
	a := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
	if got := a.String(); got != "web c1/eth0" {
		t.Errorf("owner is %q", got)
	}
	if got := a.HostLink(); got != "vethd6fbofqio9d" || !wire.IsHostLink(got) {
		t.Errorf("host link is %q", got)
	}
	if got := wire.FormerHostLink(a.HostLink()); got != "v"+a.ID() || !wire.IsHostLink(got) || wire.FormerHostLink(got) != "" {
		t.Errorf("former host link is %q", got)
	}
	// The words don't run together.
	b := wire.Attachment{Network: "we", Container: "bc1", IfName: "eth0"}
	if a.ID() == b.ID() {
		t.Error("two attachments have one ID")
	}
	for _, name := range []string{"", "v", "veth0", "vab2dddb7a4815", "vab2dddb7a481511", "vAB2DDDB7A48151", "xab2dddb7a48151", "ab2dddb7a48151", "veth0123456789", "veth0123456789A", "vethzzzzzzzzzzz", "veth+123456789a"} {
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
		Network: []wire.Object{
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

// all lists the objects of a plan in the order in which they are made.
func all(p wire.Plan) []wire.Object { return slices.Concat(p.Network, p.Own) }

// TestLongObject: an error is no list of ten thousand ports.
func TestLongObject(t *testing.T) {
	long := &wire.Sysctl{Path: "net/ipv4/ip_forward", Value: strings.Repeat("1", 10000)}
	if got := wire.OpErrorOf("ensure", long, fs.ErrPermission).Error(); got != "ensure "+long.Key()+": permission denied" {
		t.Error(got)
	}
}
