package cni_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/cni"
	"dcni/pkg/cni/cnitest"
	"dcni/pkg/ipam"
	"dcni/pkg/mode/ipvlan"
	"dcni/pkg/mode/macvlan"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// onLink has one link for a parent.
type onLink struct {
	cni.HostFacts
	link wire.LinkInfo
}

func (o onLink) Parent(names ...string) (wire.LinkInfo, error) {
	o.link.Name, o.link.MAC = names[0], "02:00:00:00:00:01"
	return o.link, nil
}

// parentConf is a network on eth0 with more keys of its own.
func parentConf(keys, subnet string) string {
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "lan", "type": "dmacvlan", "parent": "eth0", "conflictDetection": false, %s
		"ipam": {"type": "dipam", "subnet": %q}}`, keys, subnet)
}

// TestParent: what a network's interfaces have of their parent, and what keeps packets from
// passing.
func TestParent(t *testing.T) {
	const (
		down    = "dmacvlan: parent eth0 is down: no packet passes until it is up\n"
		foreign = "dmacvlan: subnet %s is not that of parent eth0, which has %s: is it on the same LAN?\n"
	)
	for name, c := range map[string]struct {
		link   wire.LinkInfo
		keys   string
		subnet string
		mtu    int // of the interface
		log    string
		err    string
	}{
		"as it is":        {link: wire.LinkInfo{MTU: 1400, Up: true}, subnet: "10.1.0.0/24", mtu: 1400},
		"a smaller MTU":   {link: wire.LinkInfo{MTU: 1400, Up: true}, keys: `"mtu": 1300,`, subnet: "10.1.0.0/24", mtu: 1300},
		"the same MTU":    {link: wire.LinkInfo{MTU: 1400, Up: true}, keys: `"mtu": 1400,`, subnet: "10.1.0.0/24", mtu: 1400},
		"a larger MTU":    {link: wire.LinkInfo{MTU: 1400, Up: true}, keys: `"mtu": 1401,`, subnet: "10.1.0.0/24", err: "mtu 1401: must be at most 1400, which parent eth0 has"},
		"an unknown MTU":  {link: wire.LinkInfo{Up: true}, keys: `"mtu": 9000,`, subnet: "10.1.0.0/24", mtu: 9000},
		"down":            {link: wire.LinkInfo{MTU: 1500}, subnet: "10.1.0.0/24", mtu: 1500, log: down},
		"the same subnet": {link: wire.LinkInfo{MTU: 1500, Up: true, Addresses: prefixes("192.0.2.1/24")}, subnet: "192.0.2.0/24", mtu: 1500},
		"a part of it":    {link: wire.LinkInfo{MTU: 1500, Up: true, Addresses: prefixes("192.0.2.1/24")}, subnet: "192.0.2.128/25", mtu: 1500},
		"another subnet": {link: wire.LinkInfo{MTU: 1500, Up: true, Addresses: prefixes("192.0.2.1/24", "2001:db8::1/64")}, subnet: "10.1.0.0/24", mtu: 1500,
			log: fmt.Sprintf(foreign, "10.1.0.0/24", "[192.0.2.1/24]")},
		"of another family": {link: wire.LinkInfo{MTU: 1500, Up: true, Addresses: prefixes("192.0.2.1/24")}, subnet: "fd00:1::/64", mtu: 1500},
		"another of IPv6": {link: wire.LinkInfo{MTU: 1500, Up: true, Addresses: prefixes("192.0.2.1/24", "2001:db8::1/64")}, subnet: "fd00:1::/64", mtu: 1500,
			log: fmt.Sprintf(foreign, "fd00:1::/64", "[2001:db8::1/64]")},
	} {
		w := cnitest.NewWorld(t, macvlan.Plugin)
		w.Engine.Facts = onLink{w.Engine.Facts, c.link}
		var log bytes.Buffer
		w.Engine.Log = &log
		before := w.State(t)
		result, err := w.Engine.Add(w.Request(t, "c1", parentConf(c.keys, c.subnet)))
		if c.err != "" {
			if err == nil || err.Error() != c.err || w.State(t) != before {
				t.Errorf("%s: %v, want %s; left\n%s", name, err, c.err, w.State(t))
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := result.Interfaces[0].Mtu; got != c.mtu {
			t.Errorf("%s: MTU %d, want %d", name, got, c.mtu)
		}
		if log.String() != c.log {
			t.Errorf("%s: says %q, want %q", name, &log, c.log)
		}
	}
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// given is a source of the addresses of another suite's IPAM plugin.
type given struct {
	cni.Addresses
	prefix string
}

func (g given) Claim(*cni.Request) (*cni.Lease, error) {
	p := netip.MustParsePrefix(g.prefix)
	return &cni.Lease{Addresses: []ipam.Assigned{{Address: p}}, Subnets: []ipam.Subnet{{Prefix: p.Masked()}}}, nil
}

func (g given) Abandon(*cni.Request, *cni.Lease) error { return nil }

// TestAddressOfParent: what another IPAM plugin gives is refused if the parent has it.
func TestAddressOfParent(t *testing.T) {
	for prefix, want := range map[string]string{"192.0.2.1/24": "address 192.0.2.1: parent eth0 has it", "192.0.2.2/24": ""} {
		w := cnitest.NewWorld(t, macvlan.Plugin)
		source := w.Engine.Source
		w.Engine.Source = func(d network.Description) cni.Addresses { return given{source(d), prefix} }
		_, err := w.Engine.Add(w.Request(t, "c1", parentConf("", "192.0.2.0/24")))
		if got := fmt.Sprint(err); got != want && (err != nil || want != "") {
			t.Errorf("%s: %s, want %s", prefix, got, want)
		}
	}
}

// TestParentOfOthers: networks on one parent must go together, and it is the first one that
// is named.
func TestParentOfOthers(t *testing.T) {
	w := cnitest.NewWorld(t, macvlan.Plugin)
	if _, err := w.Engine.Add(w.Request(t, "c1", parentConf("", "10.1.0.0/24"))); err != nil {
		t.Fatal(err)
	}
	other := func(keys string) error {
		conf := strings.Replace(parentConf(keys, "10.2.0.0/24"), `"lan"`, `"other"`, 1)
		_, err := w.Engine.Add(w.Request(t, "c2", conf))
		return err
	}
	const want = "cannot use mode passthru, macvlan network lan is already using parent interface eth0"
	if err := other(`"mode": "passthru",`); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("passthru beside: %v, want %s", err, want)
	}
	if err := other(`"mode": "private",`); err != nil {
		t.Errorf("private beside: %v", err)
	}
	// A network is not in its own way, where its configuration has changed.
	w = cnitest.NewWorld(t, ipvlan.Plugin)
	for i, mode := range []string{"l2", "l3"} {
		conf := strings.Replace(parentConf(fmt.Sprintf(`"mode": %q,`, mode), "10.1.0.0/24"), "dmacvlan", "dipvlan", 1)
		if _, err := w.Engine.Add(w.Request(t, fmt.Sprint("c", i), conf)); err != nil {
			t.Errorf("the same network in mode %s: %v", mode, err)
		}
	}
}
