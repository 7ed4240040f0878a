package cni_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"dcni/pkg/cni"
	"dcni/pkg/cni/cnitest"
	"dcni/pkg/firewall"
	"dcni/pkg/mode/bridge"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// A holding machine has a runtime that binds published ports itself.
type holding struct{ cni.HostFacts }

func (holding) PortHolder() string { return "/usr/bin/podman" }

var web = []firewall.Port{{HostPort: 8080, Protocol: "tcp", ContainerPort: 80}}

// TestPublish: an attachment publishes what another one of its container published, if it has
// nothing of its own and its network publishes at all.
func TestPublish(t *testing.T) {
	for name, c := range map[string]struct {
		keys, runtime string
		change        func(r *records.Record)
		published     string // port of the host
	}{
		"none so far":         {published: "8080"},
		"by a host's address": {keys: `"hostBinding": "127.0.0.1",`, published: "8080"},
		"others":              {runtime: `{"hostPort": 9090, "containerPort": 90}`, published: "9090"},
		"an internal network": {keys: `"internal": true,`},
		"not up":              {change: func(r *records.Record) { r.State = records.Deleting }},
	} {
		w := cnitest.NewWorld(t, bridge.Plugin)
		w.Engine.Facts = holding{w.Engine.Facts}
		r := w.Request(t, "c1", bridgeConf(c.keys+`"runtimeConfig": {"portMappings": [`+c.runtime+`]},`))
		if _, err := w.Engine.Add(r); err != nil {
			t.Fatal(err)
		}
		told := 0
		w.Engine.Relay = func(wire.Attachment) error { told++; return nil }
		if c.change != nil {
			changed(t, w, r.Attachment, c.change)
		}
		before := w.State(t)
		if err := w.Engine.Publish(r.Attachment, web, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		rec, err := w.Store.Get(r.Attachment, "dbridge")
		if err != nil {
			t.Fatal(err)
		}
		published := c.published == "8080"
		if there := strings.Contains(w.Host.String(), ". "+c.published+" "); there != (c.published != "") && c.published != "" {
			t.Errorf("%s: %q is not on the machine:\n%s", name, c.published, w.Host)
		}
		if published != (w.State(t) != before) || published != (told == 1) || (rec.Holder != "") != (c.published != "") {
			t.Errorf("%s: the relay was told %d times, the holder is %q, and the world is\n%s\nand was\n%s", name, told, rec.Holder, w.State(t), before)
		}
		if got := rec.Endpoint != nil && len(rec.Endpoint.Ports) == 1 && fmt.Sprint(rec.Endpoint.Ports[0].HostPort) == c.published; got != (c.published != "") {
			t.Errorf("%s: on record is %+v", name, rec.Endpoint)
		}
		if published && c.keys != "" && rec.Endpoint.Ports[0].HostIP.String() != "127.0.0.1" {
			t.Errorf("%s: %v", name, rec.Endpoint.Ports)
		}
		if err := w.Engine.Del(r); err != nil {
			t.Fatal(err)
		}
		if left := w.Host.String(); strings.Contains(left, "8080") {
			t.Errorf("%s: DEL left\n%s", name, left)
		}
	}
	w := cnitest.NewWorld(t, bridge.Plugin)
	if err := w.Engine.Publish(wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}, web, nil); err == nil {
		t.Error("what is not attached publishes")
	}
}

// changed changes a record.
func changed(t *testing.T, w *cnitest.World, a wire.Attachment, change func(*records.Record)) {
	t.Helper()
	rec, err := w.Store.Get(a, "dbridge")
	if err == nil {
		change(rec)
		err = w.Store.Put(rec)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestPublishFails: at whichever step it fails, all is as before, and where it dies, the
// record tells DEL what there may be.
func TestPublishFails(t *testing.T) {
	world := func() (*cnitest.World, *cni.Request) {
		w := cnitest.NewWorld(t, bridge.Plugin)
		r := w.Request(t, "c1", bridgeConf(""))
		if _, err := w.Engine.Add(r); err != nil {
			t.Fatal(err)
		}
		return w, r
	}
	w, r := world()
	for n := w.Steps(func() { _ = w.Engine.Publish(r.Attachment, web, nil) }); n > 0; n-- {
		w, r := world()
		before, err := w.Store.Get(r.Attachment, "dbridge")
		if err != nil {
			t.Fatal(err)
		}
		machine := w.Host.String()
		w.FailAt(n, func() { err = w.Engine.Publish(r.Attachment, web, nil) })
		after, failed := w.Store.Get(r.Attachment, "dbridge")
		if failed != nil || err == nil || w.Host.String() != machine || !reflect.DeepEqual(after.Endpoint, before.Endpoint) || after.Holder != before.Holder {
			t.Errorf("step %d: %v; the record has %+v, and there is\n%s", n, errors.Join(err, failed), after, w.Host)
		}
		w, r = world()
		w.DieAt(n, func() { _ = w.Engine.Publish(r.Attachment, web, nil) })
		if err := w.Engine.Del(r); err != nil || strings.Contains(w.Host.String(), "8080") {
			t.Errorf("step %d: %v, DEL left\n%s", n, err, w.Host)
		}
	}
}
