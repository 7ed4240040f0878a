package nft

import (
	"strings"
	"testing"

	"dcni/pkg/firewall"
	"dcni/pkg/host/hosttest"
	"dcni/pkg/wire"
)

// TestPortsOfSeveralNetworks: what the container publishes by one network is
// published, whichever other one asks; not for another container, and not to
// another port.
func TestPortsOfSeveralNetworks(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.LoUp(t)
		f := newFirewall(t)
		first := hosttest.Endpoint("c1", hosttest.Both, hosttest.Port("", 8080, "tcp", 80), hosttest.Port("127.0.0.1", 8081, "tcp", 80))
		second := hosttest.Endpoint("c1", []string{"10.2.0.2"}, hosttest.Port("", 8080, "tcp", 80), hosttest.Port("", 8081, "tcp", 80), hosttest.Port("", 8082, "tcp", 80))
		second.Owner.Network, second.Owner.IfName = "lab", "eth1"
		f.Siblings = func(a wire.Attachment) (siblings []wire.Attachment) {
			for _, other := range []wire.Attachment{first.Owner, second.Owner} {
				if other != a && other.Container == a.Container {
					siblings = append(siblings, other)
				}
			}
			return siblings
		}
		for _, e := range []*firewall.Endpoint{first, second, second} {
			if _, err := f.EnsureEndpoint(e); err != nil {
				t.Fatalf("%s: %v", e, err)
			}
			if err := f.CheckEndpoint(e); err != nil {
				t.Errorf("%s: %v", e, err)
			}
		}
		got := hosttest.NFT(t, "list", "map", "inet", "dcni", firewall.MapPorts4)
		if !strings.Contains(got, `8080 comment "web c1/eth0"`) || !strings.Contains(got, `8082 comment "lab c1/eth1"`) {
			t.Errorf("published: %s", got)
		}

		other := hosttest.Endpoint("c1", hosttest.Both, hosttest.Port("", 8080, "tcp", 81))
		other.Owner.Network = "third"
		_, err := f.EnsureEndpoint(other)
		hosttest.WantCode(t, err, wire.CodePortTaken, "Bind for 0.0.0.0:8080 failed")
		_, err = f.EnsureEndpoint(hosttest.Endpoint("c2", hosttest.Both, hosttest.Port("", 8082, "tcp", 80)))
		hosttest.WantCode(t, err, wire.CodePortTaken, "Bind for 0.0.0.0:8082 failed")

		// Installed again, the ports are the first one's again, and no clash.
		hosttest.NFT(t, "flush", "ruleset")
		if _, err := f.Install(func() (*firewall.Desired, error) {
			return &firewall.Desired{Endpoints: []*firewall.Endpoint{first, second}}, nil
		}); err != nil {
			t.Error(err)
		}
		for _, e := range []*firewall.Endpoint{first, second} {
			if err := f.CheckEndpoint(e); err != nil {
				t.Errorf("installed again: %s: %v", e, err)
			}
		}

		// The container's way out takes over, and only that.
		f.IsGatewayEndpoint = func(a wire.Attachment, v6 bool) bool { return a == second.Owner && !v6 }
		for _, e := range []*firewall.Endpoint{second, first} {
			if changed, err := f.EnsureEndpoint(e); err != nil || changed != (e == second) {
				t.Errorf("%s: changed %v, %v", e, changed, err)
			}
		}
		got = hosttest.NFT(t, "list", "map", "inet", "dcni", firewall.MapPorts4)
		if !strings.Contains(got, `8080 comment "lab c1/eth1"`) {
			t.Errorf("published: %s", got)
		}
	})
}

// TestTakeover: what one attachment has published, another one of its container takes over when
// that goes, record or none, also where a program has the port: the container's runtime, which
// holds it. What another container has, it does not get.
func TestTakeover(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.LoUp(t)
		f := newFirewall(t)
		going := hosttest.Endpoint("c1", hosttest.Both, hosttest.Port("", 8080, "tcp", 80), hosttest.Port("", 8081, "tcp", 80))
		stays := hosttest.Endpoint("c1", []string{"10.2.0.2"}, hosttest.Port("", 8080, "tcp", 80))
		stays.Owner.Network, stays.Owner.IfName = "lab", "eth1"
		if _, err := f.EnsureEndpoint(going); err != nil {
			t.Fatal(err)
		}
		hosttest.ListenTCP(t, "tcp4", "0.0.0.0:8080")
		takeover := &firewall.Takeover{Endpoint: stays, From: going.Owner}
		for i, want := range []bool{true, false} {
			if changed, err := f.Ensure(takeover); err != nil || changed != want {
				t.Fatalf("time %d: changed %t, %v", i, changed, err)
			}
		}
		if err := f.CheckEndpoint(stays); err != nil {
			t.Error(err)
		}
		if err := f.RemoveEndpoint(going); err != nil {
			t.Error(err)
		}
		if err := f.CheckEndpoint(stays); err != nil {
			t.Errorf("after the other one went: %v", err)
		}
		other := hosttest.Endpoint("c2", hosttest.Both, hosttest.Port("", 8080, "tcp", 80))
		_, err := f.Ensure(&firewall.Takeover{Endpoint: other, From: going.Owner})
		hosttest.WantCode(t, err, wire.CodePortTaken, "Bind for 0.0.0.0:8080 failed")
	})
}

// TestSiblingHidesNoStranger: of two single addresses of one port, a sibling's and a
// stranger's, the stranger's keeps the port from being published on any address.
func TestSiblingHidesNoStranger(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.LoUp(t)
		f := newFirewall(t)
		stranger := hosttest.Endpoint("c2", hosttest.Both, hosttest.Port("127.0.0.2", 8080, "tcp", 80))
		sibling := hosttest.Endpoint("c1", hosttest.Both, hosttest.Port("127.0.0.1", 8080, "tcp", 80))
		sibling.Owner.Network = "lab"
		f.Siblings = func(a wire.Attachment) []wire.Attachment {
			if a.Container == "c1" {
				return []wire.Attachment{sibling.Owner}
			}
			return nil
		}
		for _, e := range []*firewall.Endpoint{stranger, sibling} {
			if _, err := f.EnsureEndpoint(e); err != nil {
				t.Fatal(err)
			}
		}
		_, err := f.EnsureEndpoint(hosttest.Endpoint("c1", hosttest.Both, hosttest.Port("", 8080, "tcp", 80)))
		hosttest.WantCode(t, err, wire.CodePortTaken, "Bind for 0.0.0.0:8080 failed")
	})
}
