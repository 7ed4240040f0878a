package network

import (
	"math"
	"strings"
	"testing"

	"dcni/pkg/wire"
)

func TestBandwidth(t *testing.T) {
	for _, c := range []struct {
		name string
		b    *Bandwidth
		want string // of the objects, or of the error
	}{
		{"none", nil, ""},
		{"what it receives", &Bandwidth{IngressRate: 10_000_000, IngressBurst: 1_000_000}, "qdisc tbf dev v1 root rate 10000000bit burst 125000 limit 131072"},
		{"what it sends", &Bandwidth{EgressRate: 1_000_000_000, EgressBurst: 8_000_000}, "qdisc tbf dev eth0 root rate 1000000000bit burst 1000000 limit 3125000 in sandbox"},
		{"no burst, slow", &Bandwidth{EgressRate: 1_000_000}, "qdisc tbf dev eth0 root rate 1000000bit burst 65536 limit 131072 in sandbox"},
		{"no burst, fast", &Bandwidth{EgressRate: 100_000_000_000}, "qdisc tbf dev eth0 root rate 100000000000bit burst 625000000 limit 312500000 in sandbox"},
		{"no burst, faster than bursts can be", &Bandwidth{EgressRate: 8e12}, "qdisc tbf dev eth0 root rate 8000000000000bit burst 4294967295 limit 4294967295 in sandbox"},
		{"as containerd has it", &Bandwidth{EgressRate: 1e6, EgressBurst: 8 * math.MaxUint32}, "qdisc tbf dev eth0 root rate 1000000bit burst 4294967295 limit 131072 in sandbox"},
		{"a burst without a rate", &Bandwidth{IngressBurst: 5}, "runtimeConfig.bandwidth.ingressBurst 5: must be 0 without ingressRate"},
		{"less than a byte", &Bandwidth{EgressRate: 7}, "runtimeConfig.bandwidth.egressRate 7: must be at least 8 bits a second, or 0 for no limit"},
		{"a burst that the kernel can't hold", &Bandwidth{EgressRate: 8, EgressBurst: 8*math.MaxUint32 + 8}, "runtimeConfig.bandwidth.egressBurst 34359738368: must be at most 34359738360 bits, 4 GiB"},
		{"less than a packet", &Bandwidth{EgressRate: 8000, EgressBurst: 12111}, "runtimeConfig.bandwidth.egressBurst 12111: must be at least 12112 bits, a packet of 1500 bytes, or none passes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := Endpoint{NetNS: "/run/netns/c1", Attachment: wire.Attachment{IfName: "eth0"}, Bandwidth: c.b}
			got := ""
			if err := c.b.Validate(1500); err != nil {
				got = err.Error()
			} else {
				var lines []string
				for _, o := range append(e.Receives("v1"), e.sends()...) {
					lines = append(lines, o.String())
				}
				got = strings.Join(lines, "\n")
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}
