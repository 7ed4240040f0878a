package cni_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/cni/cnitest"
	"dcni/pkg/mode/overlay"
	cluster "dcni/pkg/overlay"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// plain is a configuration of an overlay network.
const plain = `{"cniVersion": "1.1.0", "name": "web", "type": "doverlay"}`

func add(t *testing.T, w *cnitest.World, container, conf string) {
	t.Helper()
	if _, err := w.Engine.Add(w.Request(t, container, conf)); err != nil {
		t.Fatalf("ADD %s: %v", container, err)
	}
}

func del(t *testing.T, w *cnitest.World, container string) {
	t.Helper()
	if err := w.Engine.Del(w.Request(t, container, plain)); err != nil {
		t.Fatalf("DEL %s: %v", container, err)
	}
}

// TestLeftovers: what a network has on a node goes with its last attachment there, and
// with none before.
func TestLeftovers(t *testing.T) {
	w := cnitest.NewWorld(t, overlay.Plugin)
	before := w.State(t)
	add(t, w, "c1", plain)
	alone := w.State(t)
	for _, key := range []string{"link br-4b5e57f6eb2f", "link vx-4b5e57f6eb2f", "peers of web", "firewall network web", "fdb 02:42:0a:01:00:4d dev veth9za65pwi115 master"} {
		if !w.Host.Has(key) && !strings.HasPrefix(key, "fdb") {
			t.Errorf("no %s in\n%s", key, alone)
		}
	}
	add(t, w, "c2", plain)
	del(t, w, "c2")
	if now := w.State(t); now != alone {
		t.Errorf("c1 has\n%s\nand had\n%s", now, alone)
	}
	del(t, w, "c1")
	if now := w.State(t); strings.Contains(now, "br-4b5e57f6eb2f") || strings.Contains(now, "10.1.0.") {
		t.Errorf("left:\n%s\nbefore:\n%s", now, before)
	}
}

// A lateHost has left something to another program.
type lateHost struct {
	wire.Host
	finished func()
}

func (h lateHost) Finish() { h.finished() }

// TestFinishes: ADD waits for what another program does for it, when all else is there and
// before the attachment is up.
func TestFinishes(t *testing.T) {
	w := cnitest.NewWorld(t, overlay.Plugin)
	a := w.Request(t, "c1", plain).Attachment
	times := 0
	w.Engine.Host = lateHost{w.Engine.Host, func() {
		times++
		rec, err := w.Store.Get(a, "doverlay")
		if err != nil || rec.State != records.Adding || !w.Host.Has("link "+a.HostLink()) {
			t.Errorf("ADD waits when the record is %+v, %v, and there is\n%s", rec, err, w.State(t))
		}
	}}
	add(t, w, "c1", plain)
	if times != 1 {
		t.Errorf("ADD waited %d times", times)
	}
}

// TestStoreAway: ADD is to be tried again later, DEL succeeds, and what it gives back is
// sent later, unless the attachment is added again before.
func TestStoreAway(t *testing.T) {
	w := cnitest.NewWorld(t, overlay.Plugin)
	add(t, w, "c1", plain)
	add(t, w, "c2", plain)
	w.Cluster.Cut()
	before := w.State(t)
	_, err := w.Engine.Add(w.Request(t, "c3", plain))
	coded := (*wire.Error)(nil)
	if !errors.As(err, &coded) || coded.Code != wire.CodeTryAgain || !strings.Contains(err.Error(), "waited ") || !strings.Contains(err.Error(), " for https://192.0.2.1:2379: ") {
		t.Errorf("ADD: %v", err)
	}
	// The store does not tell whether c3 has claimed something: it is given back in any case.
	if now := strings.Replace(w.State(t), "queued: release of web c3/eth0", "", 1); strings.Contains(now, "c3") {
		t.Errorf("after a failed ADD the world is\n%s\nand was\n%s", now, before)
	}
	rec, err := w.Store.Get(w.Request(t, "c1", plain).Attachment, "doverlay")
	if err != nil {
		t.Fatal(err)
	}
	conf := `{"cniVersion": "1.1.0", "name": "web", "type": "doverlay", "prevResult": ` + string(rec.Result) + `}`
	if err := w.Engine.Check(w.Request(t, "c1", conf)); err != nil {
		t.Errorf("CHECK of what runs: %v", err)
	}
	for range 2 {
		del(t, w, "c1")
	}
	a := w.Request(t, "c1", plain).Attachment
	if !w.Store.Cluster().Released(a) {
		t.Error("nothing is to be given back")
	}
	if err := w.Engine.Status(w.Request(t, "", plain)); !errors.As(err, &coded) || coded.Code != wire.CodeUnavailable {
		t.Errorf("STATUS: %v", err)
	}
	w.Cluster.Mend()
	if err := w.Engine.Status(w.Request(t, "", plain)); err != nil {
		t.Errorf("STATUS: %v", err)
	}
	add(t, w, "c1", plain)
	if w.Store.Cluster().Released(a) {
		t.Error("what c1 has by now would be given back")
	}
	del(t, w, "c1")
	del(t, w, "c2")
	if now := w.State(t); strings.Contains(now, "10.1.0.") {
		t.Errorf("not given back:\n%s", now)
	}
}

// TestForgotten: CHECK finds that the cluster does not know of an attachment's addresses.
func TestForgotten(t *testing.T) {
	w := cnitest.NewWorld(t, overlay.Plugin)
	add(t, w, "c1", plain)
	a := w.Request(t, "c1", plain).Attachment
	rec, err := w.Store.Get(a, "doverlay")
	if err != nil {
		t.Fatal(err)
	}
	w.Forget(t, a)
	conf := `{"cniVersion": "1.1.0", "name": "web", "type": "doverlay", "prevResult": ` + string(rec.Result) + `}`
	if err := w.Engine.Check(w.Request(t, "c1", conf)); err == nil || !strings.Contains(err.Error(), "the cluster does not know that the attachment has 10.1.0.") {
		t.Errorf("CHECK: %v", err)
	}
}

// TestClusterFull: ADD tells of a network that has no address left, of whichever
// family, and an address that is given back counts.
func TestClusterFull(t *testing.T) {
	conf := strings.Replace(plain, "web", "tiny", 1)
	for _, c := range []struct {
		subnets []string
		room    int // containers
	}{
		{[]string{"10.9.0.0/30"}, 1},
		{[]string{"fd00:9::/126"}, 2},
		{[]string{"10.9.0.0/30", "fd00:9::/64"}, 1},
		{[]string{"10.9.0.0/24", "fd00:9::/126"}, 2},
	} {
		w := cnitest.NewWorld(t, overlay.Plugin)
		tiny := cluster.Network{VNI: cluster.MinVNI + 9, MTU: 1450}
		for _, text := range c.subnets {
			p := netip.MustParsePrefix(text)
			tiny.Subnets = append(tiny.Subnets, cluster.Subnet{Prefix: p, Gateway: p.Addr().Next()})
		}
		value, err := json.Marshal(tiny)
		if err == nil {
			key := cluster.Keys{Prefix: "/dcni/1/test/"}.Network("tiny")
			_, _, err = w.Cluster.Commit(context.Background(), cluster.Txn{Then: []cluster.Change{{Key: key, Value: value}}})
		}
		if err != nil {
			t.Fatal(err)
		}
		status := func() error { return w.Engine.Status(w.Request(t, "", conf)) }
		for i := range c.room {
			if err := status(); err != nil {
				t.Errorf("%v has %d of %d containers, and STATUS says %v", c.subnets, i, c.room, err)
			}
			add(t, w, fmt.Sprint("c", i), conf)
		}
		refused := func(what string, err error, code wire.Code) {
			t.Helper()
			coded := (*wire.Error)(nil)
			if !errors.As(err, &coded) || coded.Code != code {
				t.Errorf("%v is full, and %s says %v, not code %d", c.subnets, what, err, code)
			}
		}
		if err := status(); err != nil {
			t.Errorf("%v is full, and STATUS says %v: no DEL comes from a runtime that asks", c.subnets, err)
		}
		_, err = w.Engine.Add(w.Request(t, "last", conf))
		refused("ADD", err, wire.CodeTryAgain)
		if err := errors.Join(w.Engine.Del(w.Request(t, "c0", conf)), status()); err != nil {
			t.Errorf("%v, after DEL: %v", c.subnets, err)
		}
	}
}

// TestClusterCollect: GC gives back what attachments of this node have that have no record
// and are not valid.
func TestClusterCollect(t *testing.T) {
	w := cnitest.NewWorld(t, overlay.Plugin)
	for _, container := range []string{"c1", "c2"} {
		add(t, w, container, plain)
	}
	before := w.State(t)
	if err := w.Store.Delete(w.Request(t, "c1", plain).Attachment, "doverlay"); err != nil {
		t.Fatal(err)
	}
	gc := strings.TrimSuffix(plain, "}") + `, "cni.dev/valid-attachments": [{"containerID": "c2", "ifname": "eth0"}]}`
	if err := w.Engine.GC(w.Request(t, "", gc)); err != nil {
		t.Fatal(err)
	}
	if now := w.State(t); strings.Contains(now, "endpoint web c1/eth0") || !strings.Contains(now, "endpoint web c2/eth0") || !strings.Contains(before, "endpoint web c1/eth0") {
		t.Errorf("GC left\n%s\nof\n%s", now, before)
	}
}

// TestClusterRefused: what was claimed is given back where the configuration does not fit, and
// later where the store is away by then.
func TestClusterRefused(t *testing.T) {
	w := cnitest.NewWorld(t, overlay.Plugin)
	before := w.State(t)
	_, err := w.Engine.Add(w.Request(t, "c1", strings.Replace(plain, `"type"`, `"mtu": 1400, "type"`, 1)))
	if err == nil || !strings.Contains(err.Error(), "mtu 1400: must be left out or 1450") || w.State(t) != before {
		t.Errorf("%v, left\n%s", err, w.State(t))
	}
	asked := strings.Replace(plain, `"type"`, `"runtimeConfig": {"ips": ["10.1.0.9"]}, "type"`, 1)
	result, err := w.Engine.Add(w.Request(t, "c1", asked))
	if err != nil || result.IPs[0].Address.String() != "10.1.0.9/24" {
		t.Errorf("%v, %v", result, err)
	}
	_, err = w.Engine.Add(w.Request(t, "c2", asked))
	if coded := (*wire.Error)(nil); !errors.As(err, &coded) || coded.Code != wire.CodeAddressTaken {
		t.Errorf("an address of another's: %v", err)
	}
}
