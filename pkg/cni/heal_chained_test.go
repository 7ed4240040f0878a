package cni_test

import (
	"encoding/json"
	"strings"
	"testing"

	"dcni/pkg/cni"
	"dcni/pkg/cni/cnitest"
	"dcni/pkg/mode/bridge"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

const chainedConf = `{"cniVersion": "1.1.0", "name": "web", "type": "dbridge", "ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}}`

// lost is a world in which c1 is attached by a chain and its interface is deleted.
func lost(t *testing.T, behind string) *cnitest.World {
	w := cnitest.NewWorld(t, bridge.Plugin)
	w.Chain = network.Chain{List: json.RawMessage(`{"plugins": [{"type": "dbridge"}, ` + behind + `]}`)}
	r := w.Request(t, "c1", chainedConf)
	if _, err := w.Engine.Add(r); err != nil {
		t.Fatal(err)
	}
	w.Host.Lose("link " + r.HostLink())
	return w
}

func checkChained(t *testing.T, w *cnitest.World) (remade bool, differs error) {
	t.Helper()
	rec, err := w.Store.Get(w.Request(t, "c1", chainedConf).Attachment, "dbridge")
	if err != nil {
		t.Fatal(err)
	}
	prev := strings.TrimSuffix(chainedConf, "}") + `, "prevResult": ` + string(rec.Result) + `}`
	return rec.Remade, w.Engine.Check(w.Request(t, "c1", prev))
}

// Where healing dies at any step of making an interface again, the next one makes it as the chain
// had it.
func TestHealChainedDies(t *testing.T) {
	const moved = "routes 10.1.0.0/24 0.0.0.0/0 dev eth0 in tables by source"
	for behind, lines := range map[string][]string{
		`{"type": "tuning", "mtu": 1400, "sysctl": {"net.ipv4.conf.eth0.rp_filter": "2"}}, {"type": "sbr"}`: {"02:42:0a:01:00:02 mtu 1400 in sandbox", "eth0/rp_filter=2", moved},
		`{"type": "sbr"}`: {moved},
	} {
		heal := func(w *cnitest.World) func() {
			return func() { _ = w.Engine.Heal(cni.Scope{}, func(wire.HealEvent) {}) }
		}
		probe := lost(t, behind)
		steps := probe.Steps(heal(probe))
		want := probe.Host.String()
		for _, line := range lines {
			if !strings.Contains(want, line) {
				t.Fatalf("no %q in\n%s", line, want)
			}
		}
		for n := 1; n <= steps; n++ {
			w := lost(t, behind)
			w.DieAt(n, heal(w))
			heal(w)()
			if got := w.Host.String(); got != want {
				t.Fatalf("%s: step %d: healed:\n%s\nwant\n%s", behind, n, got, want)
			}
			if remade, err := checkChained(t, w); !remade || err != nil {
				t.Fatalf("%s: step %d: remade: %t, CHECK: %v", behind, n, remade, err)
			}
		}
	}
}

// What is not known of plugins behind is told once by healing, and by each CHECK.
func TestHealChainedLacks(t *testing.T) {
	const lacks = "eth0 was made again after it was deleted, and lacks what plugins behind dbridge gave it: vrf, odd"
	w := lost(t, `{"type": "vrf"}, {"type": "odd"}`)
	for round, want := range []int{1, 0} {
		told := 0
		if err := w.Engine.Heal(cni.Scope{}, func(e wire.HealEvent) {
			if strings.Contains(e.Error, lacks) {
				told++
			}
		}); err != nil || told != want {
			t.Errorf("healing %d: told %d times, error %v", round, told, err)
		}
		if _, err := checkChained(t, w); err == nil || !strings.Contains(err.Error(), lacks) {
			t.Errorf("CHECK: %v", err)
		}
	}
	// Where no plugin behind has part in the interface, nothing is recorded.
	w = lost(t, `{"type": "portmap"}`)
	if err := w.Engine.Heal(cni.Scope{}, func(wire.HealEvent) {}); err != nil {
		t.Fatal(err)
	}
	if remade, err := checkChained(t, w); remade || err != nil {
		t.Errorf("remade: %t, CHECK: %v", remade, err)
	}
}
