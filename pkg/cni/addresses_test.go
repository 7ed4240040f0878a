package cni

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/records/registry"
)

// routed is a host with routes, or one that can't tell them.
type routed struct {
	aHost
	list []ipam.HostRoute
	err  error
}

func (r routed) Routes() ([]ipam.HostRoute, error) { return r.list, r.err }

func onLink(prefix string) ipam.HostRoute {
	return ipam.HostRoute{Dst: netip.MustParsePrefix(prefix), OnLink: true}
}

// TestAlive: a network without a lease is there if a file names it or the host has a route to
// its subnet, and where that can't be told.
func TestAlive(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "lab.conflist")
	if err := os.WriteFile(conf, []byte(`{"name": "alive-test-lab"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	n := registry.Network{Name: "alive-test-lab", Subnets: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}}
	far := onLink("10.1.0.0/24")
	far.OnLink = false
	for name, c := range map[string]struct {
		conf string
		host routed
		want bool
	}{
		"nothing":           {"", routed{}, false},
		"its file":          {conf, routed{}, true},
		"its file is gone":  {filepath.Join(dir, "gone.conflist"), routed{}, false},
		"its subnet":        {"", routed{list: []ipam.HostRoute{onLink("10.2.0.0/24"), onLink("10.1.0.0/24")}}, true},
		"another subnet":    {"", routed{list: []ipam.HostRoute{onLink("10.1.0.0/16")}}, false},
		"by a router":       {"", routed{list: []ipam.HostRoute{far}}, false},
		"who knows":         {"", routed{err: errors.New("no netlink")}, true},
		"its file, unknown": {conf, routed{err: errors.New("no netlink")}, true},
	} {
		n.Conf = c.conf
		if got := alive(n, c.host); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// TestRegisterOf: what a network asks of the registry.
func TestRegisterOf(t *testing.T) {
	subnet := ipam.Subnet{Prefix: netip.MustParsePrefix("10.1.0.0/24"), Range: netip.MustParsePrefix("10.1.0.128/25")}
	own := network.IPAM{Own: ipam.Config{Subnets: []ipam.Subnet{subnet}}}
	for name, c := range map[string]struct {
		d     network.Description
		want  string // explicit subnets, ranges, and whether a subnet of the pools and one of IPv6 are wanted
		avoid bool   // the first pool
	}{
		"of a pool":     {network.Description{Name: "web"}, "[] [] true false", true},
		"the first":     {network.Description{Name: "bridge"}, "[] [] true false", false},
		"with IPv6":     {network.Description{Name: "web", Families: network.Families{ULA: true}}, "[] [] true true", true},
		"its own":       {network.Description{Name: "web", IPAM: own}, "[10.1.0.0/24] [] false false", true},
		"on a LAN":      {network.Description{Name: "web", IPAM: own, Parent: &network.Parent{Name: "eth0"}}, "[10.1.0.0/24] [10.1.0.128/25] false false", true},
		"leads nowhere": {network.Description{Name: "web", IPAM: own, Parent: &network.Parent{Own: true}}, "[10.1.0.0/24] [] false false", true},
	} {
		reg := Register(c.d, routed{list: []ipam.HostRoute{onLink("172.20.0.0/16")}})
		if got := fmt.Sprint(reg.Explicit, reg.Ranges, reg.WantPool, reg.WantULA); got != c.want || reg.Name != c.d.Name || reg.HostID != "host" {
			t.Errorf("%s: %s of %s on %s, want %s", name, got, reg.Name, reg.HostID, c.want)
		}
		avoid, err := reg.Avoid()
		if err != nil || slices.Contains(avoid, ipam.FirstPool()) != c.avoid || !slices.Contains(avoid, netip.MustParsePrefix("172.20.0.0/16")) {
			t.Errorf("%s: avoids %v, %v", name, avoid, err)
		}
	}
	if _, err := Register(network.Description{}, routed{err: errors.New("no netlink")}).Avoid(); err == nil {
		t.Error("what the host uses is not known, and nothing is avoided")
	}
}

// TestLooseIPAM: DEL learns where the addresses came from, whatever else is wrong.
func TestLooseIPAM(t *testing.T) {
	for conf, want := range map[string]string{
		`{`:                           "dipam ",
		`{}`:                          "dipam ",
		`{"ipam": 5}`:                 "dipam ",
		`{"ipam": {"dataDir": "/x"}}`: "dipam ",
		`{"ipam": {"type": "dipam", "dataDir": "/x"}}`:  "dipam /x",
		`{"x": 1, "ipam": {"type": "keeper", "y": []}}`: "keeper ",
	} {
		if i := looseIPAM([]byte(conf)); i.Type+" "+i.Own.DataDir != want {
			t.Errorf("%s: %s of %s, want %s", conf, i.Type, i.Own.DataDir, want)
		}
	}
}

// TestSources: which source gives a network's addresses.
func TestSources(t *testing.T) {
	source := Source(records.Store{}, aHost{}, nil)
	for of, want := range map[string]string{"": "cni.dipamSource", "dipam": "cni.dipamSource", network.IPAMCluster: "cni.clusterSource", "dhcp": "cni.throughLink", "host-local": "cni.delegate"} {
		if got := fmt.Sprintf("%T", source(network.Description{IPAM: network.IPAM{Type: of}})); got != want {
			t.Errorf("%q: %s, want %s", of, got, want)
		}
	}
	onBridge, _ := source(network.Description{IPAM: network.IPAM{Type: "host-local"}}).(delegate)
	onParent, _ := source(network.Description{IPAM: network.IPAM{Type: "host-local"}, Parent: &network.Parent{}}).(delegate)
	if !onBridge.gateways || onParent.gateways {
		t.Error("a subnet without a gateway has its first address as one on a bridge, and on a parent none")
	}
}
