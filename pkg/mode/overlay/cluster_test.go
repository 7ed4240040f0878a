package overlay_test

import (
	"errors"
	"strings"
	"testing"

	"dcni/pkg/cni/cnitest"
	"dcni/pkg/mode/overlay"
	"dcni/pkg/wire"
)

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
	for _, key := range []string{"link br-4b5e57f6eb2f", "link vx-4b5e57f6eb2f", "peers of web", "firewall network web", "fdb 02:42:0a:01:00:4d dev v81a24bbd51c9b9 master"} {
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
	// Whether c3 has claimed something nobody knows: it is given back in any case.
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

// TestRefused: what a configuration says of the network and the cluster says otherwise is
// an error, and so is what an overlay network can't have.
func TestRefused(t *testing.T) {
	for conf, want := range map[string]string{
		`"vni": 4097`:               `vni 4097: must be left out or 4096, as network "web" has it in the cluster`,
		`"vni": 7`:                  "vni 7: must be 4096 to 16777215",
		`"mtu": 1400`:               "mtu 1400: must be left out or 1450",
		`"encrypted": true`:         "encrypted true: must be left out or false",
		`"internal": true`:          "internal true: must be left out or false",
		`"nodeAddresses": true`:     "nodeAddresses: not supported by this version",
		`"bridge": "br9"`:           `unknown key "bridge"`,
		`"defaultBridge": false`:    `unknown key "defaultBridge"`,
		`"vnl": 4096`:               `unknown key "vnl": did you mean "vni"?`,
		`"ipam": {"type": "dipam"}`: `ipam.type "dipam": must be cluster with doverlay`,
		`"ipam": {"type": "cluster", "sticky": true}`:          "ipam.sticky: must not be given with doverlay",
		`"ipam": {"type": "cluster", "generation": 99}`:        "generation 99",
		`"ipam": {"type": "cluster", "subnet": "10.9.0.0/24"}`: `10.9.0.0/24`,
		`"options": {"com.docker.network.bridge.name": "br9"}`: "bridge: must not be given",
		`"options": {"com.docker.network.driver.mtu": "1400"}`: "mtu 1400: must be left out or 1450",
		`"name": "nosuch"`: `network "nosuch": not in the cluster; dnet create -d overlay makes it`,
	} {
		w := cnitest.NewWorld(t, overlay.Plugin)
		before := w.State(t)
		text := strings.TrimSuffix(plain, "}") + ", " + conf + "}"
		if strings.HasPrefix(conf, `"name"`) {
			text = `{"cniVersion": "1.1.0", "type": "doverlay", ` + conf + "}"
		}
		_, err := w.Engine.Add(w.Request(t, "c1", text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", conf, err, want)
		}
		if now := w.State(t); now != before {
			t.Errorf("%s left\n%s", conf, now)
		}
	}
}
