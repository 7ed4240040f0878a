package cni_test

import (
	"fmt"
	"strings"
	"testing"

	"dcni/pkg/cni"
	"dcni/pkg/cni/cnitest"
	"dcni/pkg/mode/bridge"
	"dcni/pkg/wire"
)

// IPv6 is the sandbox's owner's: where it is off, addresses, routes and ports of IPv6 are
// neither made nor missed, and where it is on again they are back.
func TestIPv6SwitchedOff(t *testing.T) {
	const ports = `{"hostPort": 8080, "containerPort": 80}`
	conf := func(subnets, prev string) string {
		return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "web", "type": "dbridge",
			"runtimeConfig": {"portMappings": [%s]}, "ipam": {"type": "dipam", "subnets": [%s]}%s}`, ports, subnets, prev)
	}
	const both, six = `{"subnet": "10.1.0.0/24"}, {"subnet": "fd00:1::/64"}`, `{"subnet": "fd00:2::/64"}`
	for _, before := range []bool{true, false} {
		w := cnitest.NewWorld(t, bridge.Plugin)
		off := &wire.Sysctl{NetNS: "/run/netns/c1", Path: "net/ipv6/conf/all/disable_ipv6", Value: "1"}
		change := func(on bool) {
			t.Helper()
			w.Host.Lose(off.Key())
			if !on {
				if _, err := w.Host.Ensure(off); err != nil {
					t.Fatal(err)
				}
				w.Host.Lose("addr fd00:1::2/64 dev eth0 netns /run/netns/c1") // as the kernel does
				w.Host.Lose("route ::/0 dev eth0 table 0 netns /run/netns/c1")
			}
		}
		want := func(when string, is bool) {
			t.Helper()
			a := w.Request(t, "c1", conf(both, "")).Attachment
			rec, err := w.Store.Get(a, "dbridge")
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Engine.Check(w.Request(t, "c1", conf(both, `, "prevResult": `+string(rec.Result)))); err != nil {
				t.Errorf("off before: %t, %s: CHECK says %v", before, when, err)
			}
			if got := strings.Contains(rec.Endpoint.String(), "fd00:1::2"); got != is || rec.IPv6Off == is {
				t.Errorf("off before: %t, %s: off is %t, published is %s", before, when, rec.IPv6Off, rec.Endpoint)
			}
			for _, line := range []string{"addr fd00:1::2/64", "route -6 default", "fd00:1::2 . 80"} {
				if got := strings.Contains(w.Host.String(), line); got != is {
					t.Errorf("off before: %t, %s: %q is there: %t\n%s", before, when, line, got, w.Host)
				}
			}
		}
		heal := func(events bool) {
			t.Helper()
			if err := w.Engine.Heal(cni.Scope{}, func(e wire.HealEvent) {
				rules := strings.HasPrefix(e.Object, "rule ") // by source: they go with the addresses
				if e.Error != "" || !events && !rules {
					t.Errorf("off before: %t: healed %s: %s, %s, %s", before, e.Attachment, e.Object, e.Was, e.Error)
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
		change(!before)
		result, err := w.Engine.Add(w.Request(t, "c1", conf(both, "")))
		if err != nil {
			t.Fatal(err)
		}
		if len(result.IPs) != 2-len(result.Routes)%2 {
			t.Errorf("off before: %t: result %+v", before, result)
		}
		want("after ADD", !before)
		change(false)
		heal(false)
		want("switched off", false)
		change(true)
		heal(true)
		want("switched on", true)
		change(false)
		heal(false)
		if err := w.Engine.Del(w.Request(t, "c1", conf(both, ""))); err != nil {
			t.Fatal(err)
		}
		if left := w.Host.String(); strings.Contains(left, "8080") || strings.Contains(left, "eth0") {
			t.Errorf("DEL has left\n%s", left)
		}
	}
	w := cnitest.NewWorld(t, bridge.Plugin)
	if _, err := w.Host.Ensure(&wire.Sysctl{NetNS: "/run/netns/c1", Path: "net/ipv6/conf/all/disable_ipv6", Value: "1"}); err != nil {
		t.Fatal(err)
	}
	state := w.State(t)
	_, err := w.Engine.Add(w.Request(t, "c1", conf(six, "")))
	if err == nil || !strings.Contains(err.Error(), "network web has addresses of IPv6 only") {
		t.Errorf("a network with IPv6 only: %v", err)
	}
	if after := w.State(t); after != state {
		t.Errorf("ADD has left\n%s\nand it was\n%s", after, state)
	}
}
