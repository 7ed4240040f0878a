package cni_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"dcni/pkg/cni/cnitest"
	"dcni/pkg/mode/bridge"
	"dcni/pkg/wire"
)

// TestRelay: dnetd, which holds published ports, is told of them when they are on
// record, and when they are not any more. A failing relay fails no ADD or DEL.
func TestRelay(t *testing.T) {
	for _, c := range []struct {
		name, conf, ports string
		told              string
	}{
		{"no port", "", ``, ""},
		{"any address", "", `{"hostPort": 8080, "containerPort": 80}`, "up gone"},
		{"IPv4", "", `{"hostPort": 8080, "containerPort": 80, "hostIP": "0.0.0.0"}`, "up gone"},
		{"IPv6", "", `{"hostPort": 8080, "containerPort": 80, "hostIP": "::"}`, "up gone"},
		{"a binding of the network", `"hostBinding": "127.0.0.1", `, `{"hostPort": 8080, "containerPort": 80}`, "up gone"},
		{"an internal network", `"internal": true, `, `{"hostPort": 8080, "containerPort": 80}`, ""},
	} {
		w := cnitest.NewWorld(t, bridge.Plugin)
		var told, log bytes.Buffer
		w.Engine.Log = &log
		w.Engine.Relay = func(a wire.Attachment) error {
			state := "gone"
			if r, err := w.Store.Get(a, "dbridge"); err == nil {
				state = string(r.State)
			}
			fmt.Fprint(&told, state, " ")
			return errors.New("out of order")
		}
		r := w.Request(t, "c1", fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "web", "type": "dbridge", %s
			"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}, "runtimeConfig": {"portMappings": [%s]}}`, c.conf, c.ports))
		if _, err := w.Engine.Add(r); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if err := errors.Join(w.Engine.Del(r), w.Engine.Del(r)); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := strings.TrimSpace(told.String()); got != c.told {
			t.Errorf("%s: told %q, want %q", c.name, got, c.told)
		}
		const line = "dbridge: not all ports of web c1/eth0 are relayed: out of order\n"
		if want := strings.Repeat(line, len(strings.Fields(c.told))); !strings.HasSuffix(log.String(), want) {
			t.Errorf("%s: logged %q, want %q", c.name, log.String(), want)
		}
	}
}
