package cni_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/cni"
	"dcni/pkg/cni/cnitest"
	"dcni/pkg/firewall"
	"dcni/pkg/mode/bridge"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// TestPublishElsewhere: an attachment whose network is not the gateway network of a family any more gives
// the host's ports of it up and has them back later, by the same numbers. At whichever step that fails all
// is as before, and where it dies, DEL removes all.
func TestPublishElsewhere(t *testing.T) {
	world := func(mode string) (*cnitest.World, *cni.Request) {
		w := cnitest.NewWorld(t, bridge.Plugin)
		r := w.Request(t, "c1", `{"cniVersion": "1.1.0", "name": "web", "type": "dbridge", "ipv6": true, `+mode+`
			"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}, "runtimeConfig": {"portMappings": [
			{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}, {"containerPort": 81, "protocol": "udp"}]}}`)
		if _, err := w.Engine.Add(r); err != nil {
			t.Fatal(err)
		}
		return w, r
	}
	for _, mode := range []string{"", `"gatewayModeIPv6": "routed",`, `"firewall": "iptables",`} {
		w, r := world(mode)
		both := w.Host.String()
		for _, not := range [][]firewall.Family{{6}, {4}, {4, 6}, {6}} {
			if err := w.Engine.Publish(r.Attachment, nil, not); err != nil {
				t.Fatal(err)
			}
			rec, err := w.Store.Get(r.Attachment, "dbridge")
			if err != nil || !slices.Equal(rec.Endpoint.NotGateway, not) {
				t.Errorf("%s %v: %v, on record is %+v", mode, not, err, rec.Endpoint)
			}
			if err := w.Engine.Check(w.Request(t, "c1", string(r.Conf))); err != nil && !strings.Contains(err.Error(), "prevResult") {
				t.Errorf("%s %v: %v", mode, not, err)
			}
			if mode != "" {
				continue
			}
			for set, family := range map[string]firewall.Family{"ports4 {": 4, "ports6 {": 6} {
				if strings.Contains(w.Host.String(), set) == slices.Contains(not, family) {
					t.Errorf("not of %v, and there is\n%s", not, w.Host)
				}
			}
		}
		if err := w.Engine.Publish(r.Attachment, nil, nil); err != nil || w.Host.String() != both {
			t.Errorf("%s: %v: there is\n%s\nand was\n%s", mode, err, w.Host, both)
		}
	}
	for _, not := range []firewall.Family{4, 6} {
		steps := func() (*cnitest.World, *cni.Request, func() error) {
			w, r := world("")
			if err := w.Engine.Publish(r.Attachment, nil, []firewall.Family{10 - not}); err != nil {
				t.Fatal(err)
			}
			return w, r, func() error { return w.Engine.Publish(r.Attachment, nil, []firewall.Family{not}) }
		}
		w, _, publish := steps()
		for n := w.Steps(func() { _ = publish() }); n > 0; n-- {
			w, _, publish := steps()
			before, err := w.State(t), error(nil)
			w.FailAt(n, func() { err = publish() })
			if err == nil || len(diff(before, w.State(t))) > 0 {
				t.Errorf("step %d: %v; differs %q", n, err, diff(before, w.State(t)))
			}
			w, r, publish := steps()
			w.DieAt(n, func() { _ = publish() })
			if err := w.Engine.Del(r); err != nil || strings.Contains(w.Host.String(), "8080") {
				t.Errorf("step %d: %v, DEL left\n%s", n, err, w.Host)
			}
		}
	}
}

// diff returns the lines that only one of two texts has.
func diff(a, b string) (list []string) {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for _, l := range slices.Concat(x, y) {
		if slices.Contains(x, l) != slices.Contains(y, l) && !strings.Contains(l, "since") {
			list = append(list, l)
		}
	}
	return list
}

// TestUnbindFails: what an error left half removed is bound again.
func TestUnbindFails(t *testing.T) {
	w := cnitest.NewWorld(t, bridge.Plugin)
	r := w.Request(t, "c1", `{"cniVersion": "1.1.0", "name": "web", "type": "dbridge", "ipv6": true, "ipam": {"type": "dipam", "subnet": "10.1.0.0/24"},
		"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}}`)
	if _, err := w.Engine.Add(r); err != nil {
		t.Fatal(err)
	}
	before := w.State(t)
	w.Host.After = func(op string, o wire.Object) error {
		if _, is := o.(*firewall.Endpoint); is && op == "remove" {
			return errors.New("gone, and no answer")
		}
		return nil
	}
	err := w.Engine.Publish(r.Attachment, nil, []firewall.Family{4})
	if lines := diff(before, w.State(t)); err == nil || len(lines) > 0 {
		t.Errorf("%v; differs %q", err, lines)
	}
}

// TestRebind: the ports of a container are bound by its gateway networks, whichever there are when one
// is left.
func TestRebind(t *testing.T) {
	w := cnitest.NewWorld(t, bridge.Plugin)
	attach := func(name string, keys string) wire.Attachment {
		r := w.Request(t, "c1", fmt.Sprintf(`{"cniVersion": "1.1.0", "name": %q, "type": "dbridge", %s}`, name, keys))
		r.IfName = name
		if _, err := w.Engine.Add(r); err != nil {
			t.Fatal(err)
		}
		return r.Attachment
	}
	const ports = `"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}`
	a := attach("a", `"ipv6": true, "gwPriority": 1, "ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}, `+ports)
	b := attach("b", `"gwPriority": 2, "gatewayModeIPv4": "routed", "ipam": {"type": "dipam", "subnet": "10.2.0.0/24"}`)
	c := cni.NewConnections(w.Store, nil)
	c.Engine = func(string) *cni.Engine { return w.Engine }
	state := func() string {
		text := ""
		for _, at := range []wire.Attachment{a, b} {
			rec, err := w.Store.Get(at, "dbridge")
			if err != nil {
				t.Fatal(err)
			}
			text += at.Network + ": "
			if rec.Endpoint != nil {
				text += fmt.Sprint(rec.Endpoint.Ports, rec.Endpoint.NotGateway)
			}
			text += "; "
		}
		return text
	}
	for _, step := range []struct {
		leaving wire.Attachment
		want    string
	}{
		{wire.Attachment{}, "a: [0.0.0.0:8080->80/tcp] [ipv4]; b: [0.0.0.0:8080->80/tcp] [ipv6]; "},
		{b, "a: [0.0.0.0:8080->80/tcp] []; b: [0.0.0.0:8080->80/tcp] [ipv6]; "},
		{wire.Attachment{}, "a: [0.0.0.0:8080->80/tcp] [ipv4]; b: [0.0.0.0:8080->80/tcp] [ipv6]; "},
		{a, "a: [0.0.0.0:8080->80/tcp] [ipv4]; b: [0.0.0.0:8080->80/tcp] []; "},
	} {
		if err := c.Rebind("c1", step.leaving, nil); err != nil || state() != step.want {
			t.Errorf("leaving %s: %v: %s, want %s", step.leaving.Network, err, state(), step.want)
		}
	}
	changed(t, w, a, func(r *records.Record) { r.State = records.Deleting })
	if err := c.Rebind("c1", wire.Attachment{}, nil); err != nil || !strings.Contains(state(), "b: [0.0.0.0:8080->80/tcp] [];") {
		t.Errorf("%v: %s", err, state())
	}
}
