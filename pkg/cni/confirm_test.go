package cni_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/cni"
	"dcni/pkg/cni/cnitest"
	"dcni/pkg/mode/bridge"
	"dcni/pkg/network"
)

// A confirmer gives another address once the link is there, or none.
type confirmer struct {
	cni.Addresses
	settle func(l *cni.Lease) error
}

func (c confirmer) Confirm(_ *cni.Request, l *cni.Lease) error { return c.settle(l) }

// Where addresses are settled once the link is there, the plan is made in two
// stages, and an ADD that fails in between leaves nothing.
func TestTwoStages(t *testing.T) {
	const conf = `{"cniVersion": "1.1.0", "name": "web", "type": "dbridge", "ipam": {"type": "dipam", "subnet": "10.1.0.0/24"},
		"runtimeConfig": {"mac": "02:42:00:00:00:77"}}`
	taken := errors.New("somewhere else")
	for _, c := range []struct {
		name    string
		address string // that is settled
		err     error
	}{
		{"another address", "10.1.0.200/24", nil},
		{"the same address", "10.1.0.2/24", nil},
		{"no address", "", taken},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := cnitest.NewWorld(t, bridge.Plugin)
			before := w.State(t)
			between, source := "", w.Engine.Source
			w.Engine.Source = func(d network.Description) cni.Addresses {
				return confirmer{source(d), func(l *cni.Lease) error {
					between = w.Host.String()
					if c.err == nil {
						l.Addresses[0].Address = netip.MustParsePrefix(c.address)
					}
					return c.err
				}}
			}
			result, err := w.Engine.Add(w.Request(t, "c1", conf))
			if !strings.Contains(between, "type veth peer eth0") || strings.Contains(between, "addr 10.1.0.2/24") {
				t.Errorf("when the addresses are settled there is\n%s", between)
			}
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err != nil {
				if after := w.State(t); after != before {
					t.Errorf("left:\n%s\nbefore:\n%s", after, before)
				}
				return
			}
			if got := result.IPs[0].Address.String(); got != c.address || !strings.Contains(w.Host.String(), "addr "+c.address+" dev eth0") {
				t.Errorf("result has %s; there is\n%s", got, w.Host)
			}
		})
	}
}
