package registry

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"dcni/pkg/firewall"
	"dcni/pkg/ipam"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// TestFits: what is remembered stays only if it is in all what is asked for.
func TestFits(t *testing.T) {
	known := Network{
		Name: "web", Bridge: "br0", Subnets: prefixes("10.1.0.0/24", "172.18.0.0/16"), FromPool: prefixes("172.18.0.0/16"), Ranges: prefixes("10.1.0.0/25"),
	}
	same := Registration{Name: "web", Bridge: "br0", Explicit: prefixes("10.1.0.0/24"), Ranges: prefixes("10.1.0.0/25"), WantPool: true}
	for what, change := range map[string]func(r *Registration){
		"":               func(*Registration) {},
		"a name":         func(r *Registration) { r.Name = "lab" },
		"a bridge":       func(r *Registration) { r.Bridge = "br1" },
		"a subnet":       func(r *Registration) { r.Explicit = prefixes("10.2.0.0/24") },
		"no subnet":      func(r *Registration) { r.Explicit = nil },
		"a range":        func(r *Registration) { r.Ranges = prefixes("10.1.0.128/25") },
		"no range":       func(r *Registration) { r.Ranges = nil },
		"none chosen":    func(r *Registration) { r.WantPool = false },
		"an IPv6 chosen": func(r *Registration) { r.WantULA = true },
	} {
		r := same
		change(&r)
		if got := r.fits(known); got != (what == "") {
			t.Errorf("another %q: fits %t", what, got)
		}
	}
}

// TestApart: networks on a LAN share a subnet if both give addresses of a part of it, and
// of different ones.
func TestApart(t *testing.T) {
	for _, c := range []struct {
		one, other string
		want       bool
	}{
		{"10.1.0.0/25", "10.1.0.128/25", true}, {"10.1.0.0/25", "10.1.0.64/26", false}, {"10.1.0.0/25", "10.1.0.0/25", false},
		{"10.1.0.0/25", "10.2.0.0/25", false}, {"10.2.0.0/25", "10.1.0.0/25", false}, {"10.2.0.0/25", "10.3.0.0/25", false},
	} {
		if got := apart(prefixes("10.1.0.0/24")[0], prefixes(c.one), prefixes(c.other)); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
	if apart(prefixes("10.1.0.0/24")[0], nil, prefixes("10.1.0.0/25")) || apart(prefixes("10.1.0.0/24")[0], prefixes("10.1.0.0/25"), nil) {
		t.Error("a network that gives of the whole subnet is apart from another")
	}
}

// TestFromRecords: an entry that can't be read is made of the record of an attachment that
// is up and whose addresses are of this registry.
func TestFromRecords(t *testing.T) {
	subnets := []ipam.Subnet{{Prefix: prefixes("10.1.0.0/24")[0]}}
	for name, c := range map[string]struct {
		change func(r *records.Record)
		want   string
	}{
		"up":               {func(*records.Record) {}, "web [10.1.0.0/24] [10.1.0.0/24] "},
		"with a bridge":    {func(r *records.Record) { r.Firewall = &firewall.Network{Bridge: "br0"} }, "web [10.1.0.0/24] [10.1.0.0/24] br0"},
		"adding":           {func(r *records.Record) { r.State = records.Adding }, " [] [] "},
		"deleting":         {func(r *records.Record) { r.State = records.Deleting }, " [] [] "},
		"without subnets":  {func(r *records.Record) { r.Subnets = nil }, " [] [] "},
		"another registry": {func(r *records.Record) { r.IPAM.DataDir = "/elsewhere" }, " [] [] "},
		"another network":  {func(r *records.Record) { r.Network = "lab" }, " [] [] "},
	} {
		s := testStore(t)
		r := &records.Record{Attachment: wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}, Plugin: "dbridge", State: records.Up, Subnets: subnets}
		c.change(r)
		if err := s.Put(r); err != nil {
			t.Fatal(err)
		}
		n := Of(s, "").fromRecords("web")
		want(t, name+": "+fmt.Sprintf("%s %v %v %s", n.Name, n.Subnets, n.FromPool, n.Bridge), name+": "+c.want)
	}
}

// TestProbeUnreadable: what Register would mend is no error, and is not mended.
func TestProbeUnreadable(t *testing.T) {
	s := testStore(t)
	n := Of(s, "")
	want(t, registerText(n, Registration{Name: "web", Explicit: prefixes("10.1.0.0/24")}), "[10.1.0.0/24]")
	path := filepath.Join(n.lib, "networks", "web.json")
	for _, text := range []string{"{", `{"name": "lab", "subnets": ["10.1.0.0/24"]}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := n.Probe(Registration{Name: "web", Explicit: prefixes("10.1.0.0/24")}); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if data, _ := os.ReadFile(path); string(data) != text {
			t.Errorf("%s was changed to %s", text, data)
		}
	}
	if err := os.WriteFile(path, []byte(`{"version": 99, "name": "web"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.Probe(Registration{Name: "web", Explicit: prefixes("10.1.0.0/24")}); err == nil {
		t.Error("an entry of a newer version was passed over")
	}
}
