package nft

import (
	"fmt"
	"net/netip"
	"testing"

	"dcni/pkg/firewall"
	"dcni/pkg/host/conntrack"
	"dcni/pkg/host/hosttest"
)

// endpoint returns an endpoint with n ports from first on.
func endpointWith(container string, n int, first uint16, hostIP string) *firewall.Endpoint {
	e := hosttest.Endpoint(container, hosttest.Both)
	for i := range n {
		e.Ports = append(e.Ports, hosttest.Port(hostIP, first+uint16(i), "tcp", 80))
	}
	return e
}

func BenchmarkEndpoint(b *testing.B) {
	for _, c := range []struct {
		ports, others int
		hostIP        string // of the others
	}{{1, 0, ""}, {1, 1000, ""}, {1, 10000, ""}, {1, 1000, "127.0.0.1"}, {1000, 0, ""}, {1000, 1000, ""}} {
		name := fmt.Sprintf("ports=%d/others=%d%s", c.ports, c.others, c.hostIP)
		b.Run(name, func(b *testing.B) {
			hosttest.InNewNS(b, func() {
				hosttest.LoUp(b)
				f := newFirewall(b)
				if c.others > 0 {
					if _, err := f.EnsureEndpoint(endpointWith("other", c.others, 20000, c.hostIP)); err != nil {
						b.Fatal(err)
					}
				}
				e := endpointWith("c1", c.ports, 10000, "")
				for b.Loop() {
					if _, err := f.EnsureEndpoint(e); err != nil {
						b.Fatal(err)
					}
					if err := f.RemoveEndpoint(e); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// BenchmarkSteady is what an ADD pays when network and rules are there.
func BenchmarkSteady(b *testing.B) {
	hosttest.InNewNS(b, func() {
		f := newFirewall(b)
		n := testNetwork("web", "br-a", "10.1.0.0/24", "fd00:1::/64")
		if _, err := f.EnsureNetwork(n); err != nil {
			b.Fatal(err)
		}
		b.Run("base", func(b *testing.B) {
			for b.Loop() {
				if _, err := f.Install(nothingUp); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("network", func(b *testing.B) {
			for b.Loop() {
				if _, err := f.EnsureNetwork(n); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("install", func(b *testing.B) {
			for b.Loop() {
				if err := f.install(&firewall.Desired{Networks: []*firewall.Network{n}}); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
}

func BenchmarkFlush(b *testing.B) {
	hosttest.InNewNS(b, func() {
		addr, ports := netip.MustParseAddr("10.1.0.2"), []firewall.Port{hosttest.Port("", 8080, "udp", 80)}
		for b.Loop() {
			if err := conntrack.FlushAddresses([]netip.Addr{addr}); err != nil {
				b.Fatal(err)
			}
			if err := conntrack.FlushPorts(ports); err != nil {
				b.Fatal(err)
			}
		}
	})
}
