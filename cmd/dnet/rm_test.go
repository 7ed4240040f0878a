package main

import (
	"errors"
	"os"
	"slices"
	"testing"

	"dcni/pkg/ipam"
	"dcni/pkg/mode/bridge"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/records/leases"
	"dcni/pkg/records/registry"
	"dcni/pkg/wire"
)

// used makes the network's objects, as its first ADD does.
func (f *fixture) used(name, link string) (objects []wire.Object) {
	f.t.Helper()
	objects = slices.Clone(leftovers(name, link))
	slices.Reverse(objects) // the bridge first
	for _, o := range objects {
		_, err := f.host.Ensure(o)
		f.must(err)
	}
	_, err := leases.Of(f.store, "", name).Claim(ipam.Request{Owner: owner(name, "gone", "eth0")}, ipam.Config{Subnets: []ipam.Subnet{subnet("10.83.0.0/24")}})
	f.must(err)
	return objects
}

// left lists what there is of a network besides its file.
func (f *fixture) left(name string, objects []wire.Object) (list []string) {
	f.t.Helper()
	for _, o := range objects {
		if f.host.Has(o.Key()) {
			list = append(list, o.Key())
		}
	}
	taken, err := leases.Of(f.store, "", name).Taken()
	f.must(err)
	if len(taken) > 0 {
		list = append(list, "leases")
	}
	if _, err := registry.Of(f.store, "").Get(name); err == nil {
		list = append(list, "registration")
	}
	return list
}

func TestRemove(t *testing.T) {
	f := newFixture(t)
	objects := map[string][]wire.Object{}
	for _, name := range []string{"a", "b", "c", "kept"} {
		f.check([]call{{"create -o com.docker.network.bridge.name=br-" + name + " " + name, 0, network.ID(name) + "\n", ""}})
		objects[name] = f.used(name, "br-"+name)
	}
	f.check([]call{
		{"rm " + network.ID("a") + " nosuch " + network.ID("b")[:8] + " c", 1, network.ID("a") + "\n" + network.ID("b")[:8] + "\nc\n", "dnet: network nosuch not found\n"},
		{"rm -f nosuch", 0, "", ""},
		{"rm nosuch", 1, "", "dnet: network nosuch not found\n"},
		{"remove bridge default", 1, "", "dnet: bridge is a pre-defined network and cannot be removed\ndnet: network default not found\n"},
	})
	for name, o := range objects {
		left := f.left(name, o)
		if name != "kept" && (len(left) != 0 || f.exists("net.d/dcni-"+name+".conflist")) {
			t.Errorf("of %s are left %v, file %v", name, left, f.exists("net.d/dcni-"+name+".conflist"))
		}
		if name == "kept" && len(left) != 4 {
			t.Errorf("of %s are left %v", name, left)
		}
	}
	if f.host.rulesRemoved != 3 {
		t.Errorf("unused rules were looked for %d times", f.host.rulesRemoved)
	}
}

// TestRemoveByHand removes networks that dnet did not make: one in a file written
// by hand, one whose configuration is wrong, one of another suite's.
func TestRemoveByHand(t *testing.T) {
	f := newFixture(t)
	f.network("20-hand.conflist", `{"cniVersion": "1.0.0", "name": "hand", "plugins": [{"type": "dbridge", "bridge": "br-hand"}]}`)
	f.network("21-wrong.conflist", `{"cniVersion": "1.0.0", "name": "wrong", "plugins": [{"type": "dbridge", "bridge": "br-wrong", "internel": true}]}`)
	f.network("22-foreign.conflist", `{"cniVersion": "1.0.0", "name": "foreign", "plugins": [{"type": "vlan"}]}`)
	f.network("23-none.conflist", `{"cniVersion": "1.0.0", "name": "adopted", "plugins": [{"type": "dnone"}]}`)
	f.network("24-joined.conflist", `{"cniVersion": "1.0.0", "name": "joined", "plugins": [{"type": "dcontainer", "container": "web1"}]}`)
	hand, wrong := f.used("hand", "br-hand"), f.used("wrong", bridge.Link("wrong"))
	f.check([]call{
		{"rm hand wrong adopted joined", 0, "hand\nwrong\nadopted\njoined\n", ""},
		{"rm foreign", 1, "", "dnet: network foreign is not dcni's (its plugin is vlan): remove it with what made it, or its file DIR/net.d/22-foreign.conflist\n"},
	})
	if left := append(f.left("hand", hand), f.left("wrong", wrong)...); len(left) != 0 || f.exists("net.d/20-hand.conflist") || f.exists("net.d/21-wrong.conflist") {
		t.Errorf("left are %v", left)
	}
	if f.exists("net.d/24-joined.conflist") {
		t.Error("the file of a network of dcontainer is left")
	}
	if !f.exists("net.d/22-foreign.conflist") {
		t.Error("the file of another suite's network is gone")
	}
}

// TestRemoveRegisteredBridge takes away the bridge that was made, not the one that
// the file names since.
func TestRemoveRegisteredBridge(t *testing.T) {
	f := newFixture(t)
	f.check([]call{{"create -o com.docker.network.bridge.name=br-made web", 0, network.ID("web") + "\n", ""}})
	objects := f.used("web", "br-made")
	f.network("dcni-web.conflist", `{"cniVersion": "1.0.0", "name": "web", "plugins": [{"type": "dbridge", "bridge": "br-edited"}]}`)
	f.check([]call{{"rm web", 0, "web\n", ""}})
	if left := f.left("web", objects); len(left) != 0 {
		t.Errorf("left are %v", left)
	}
}

// TestRemoveWithoutFile removes what is left of a network whose file was removed
// by hand, and leaves alone what another directory configures.
func TestRemoveWithoutFile(t *testing.T) {
	f := newFixture(t)
	f.check([]call{{"create -o com.docker.network.bridge.name=br-web web", 0, network.ID("web") + "\n", ""}})
	objects := f.used("web", "br-web")
	f.mkdir("other.d")
	f.check([]call{{"--conf-dir " + f.dir + "/other.d rm web", 1, "", "dnet: network web not found\n"}})
	if left := f.left("web", objects); len(left) != 4 {
		t.Errorf("left are %v", left)
	}
	f.must(os.Remove(f.dir + "/net.d/dcni-web.conflist"))
	f.check([]call{{"rm " + network.ID("web")[:12], 0, network.ID("web")[:12] + "\n", ""}})
	if left := f.left("web", objects); len(left) != 0 {
		t.Errorf("left are %v", left)
	}
}

// TestRemoveInUse refuses while containers are attached, and detaches those whose
// sandbox is gone.
func TestRemoveInUse(t *testing.T) {
	f := newFixture(t)
	// A list as dnet wrote it before dbridge had the key names.
	f.network("dcni-web.conflist", `{"cniVersion": "1.0.0", "name": "web", "plugins": [{"type": "dbridge"}, {"type": "ddns"}]}`)
	// A namespace that can't be looked at is not known to be gone.
	f.write("opaque", "", 0o644)
	live := f.attached(records.Record{Attachment: owner("web", "c1", "eth0"), NetNS: "/proc/self/ns/net", Cookie: ownCookie(t), Names: []string{"shop"}})
	dead := f.attached(records.Record{Attachment: owner("web", "c2", "eth0"), NetNS: f.dir + "/nosuch"})
	adding := f.attached(records.Record{Attachment: owner("web", "c3", "eth0"), State: records.Adding, NetNS: live.NetNS, Cookie: live.Cookie})
	working := f.attached(records.Record{Attachment: owner("web", "c4", "eth0"), State: records.Deleting})
	lock, err := f.store.LockAttachment(working.Attachment)
	f.must(err)
	endpoint := func(r *records.Record, name string) string {
		return `name:"` + name + `" id:"` + r.EndpointID()[:12] + `"`
	}

	// A plugin that fails: the network stays.
	f.plugin("ddns", "")
	f.plugin("dbridge", `echo '{"code": 11, "msg": "busy", "details": "try later"}'; exit 1`)
	f.check([]call{{"rm web", 1, "", "dnet: detach web c2/eth0, whose sandbox is gone: ..."}})
	f.calls()
	// A plugin that does as it is told.
	f.plugin("dbridge", "rm -r "+f.dir+"/run/attachments/web/$CNI_CONTAINERID")
	f.check([]call{{"rm web", 1, "", "dnet: error while removing network: network web has active endpoints (" +
		endpoint(live, "shop") + ", " + endpoint(working, "c4") + ")\n"}})
	if got, want := f.calls(), "ddns DEL c2 eth0 no-netns\ndbridge DEL c2 eth0 no-netns\nddns DEL c3 eth0 no-netns\ndbridge DEL c3 eth0 no-netns\n"; got != want {
		t.Errorf("plugins called:\n%s, want\n%s (for %v and %v)", got, want, dead, adding)
	}
	lock.Unlock()
	f.must(f.store.Delete(live.Attachment, live.Plugin))
	f.check([]call{{"rm web", 0, "web\n", ""}})
	if got, want := f.calls(), "ddns DEL c4 eth0 no-netns\ndbridge DEL c4 eth0 no-netns\n"; got != want {
		t.Errorf("plugins called:\n%s, want\n%s", got, want)
	}
}

// TestRemoveOrphanWithoutFile has the recorded plugin called with the recorded
// configuration.
func TestRemoveOrphanWithoutFile(t *testing.T) {
	f := newFixture(t)
	f.check([]call{{"create web", 0, network.ID("web") + "\n", ""}})
	f.must(os.Remove(f.dir + "/net.d/dcni-web.conflist"))
	f.plugin("dbridge", "rm -r "+f.dir+"/run/attachments/web/$CNI_CONTAINERID")
	f.attached(records.Record{Attachment: owner("web", "c1", "eth0"), State: records.Adding, Config: []byte(`{"cniVersion": "1.0.0", "name": "web", "type": "dbridge", "mtu": 1400}`)})
	f.check([]call{{"rm web", 0, "web\n", ""}})
	data, _ := os.ReadFile(f.dir + "/stdin.dbridge")
	if got, want := f.calls(), "dbridge DEL c1 eth0 no-netns\n"; got != want || compact(t, data) != `{"cniVersion":"1.0.0","mtu":1400,"name":"web","type":"dbridge"}` {
		t.Errorf("plugins called: %swith %s", got, data)
	}
	f.attached(records.Record{Attachment: owner("web", "c1", "eth0"), State: records.Adding})
	f.must(registry.Of(f.store, "").Create(registry.Registration{Name: "web"}, "", func() error { return nil }, func(registry.Network) error { return nil }))
	f.check([]call{{"rm web", 1, "", "dnet: detach web c1/eth0, whose sandbox is gone: record of web c1/eth0\n..."}})
}

// TestRemoveUnreleased: an attachment that waits for an IPAM plugin is said to, and
// removed where nothing else is left of its network.
func TestRemoveUnreleased(t *testing.T) {
	f := newFixture(t)
	r := f.attached(records.Record{Attachment: owner("web", "c1", "eth0"), State: records.Deleting, IPAM: records.IPAM{Type: "host-local"},
		Config: []byte(`{"cniVersion": "1.0.0", "name": "web", "type": "dbridge"}`)})
	lock, err := f.store.LockAttachment(r.Attachment)
	f.must(err)
	f.check([]call{{"rm web", 1, "", "dnet: error while removing network: network web has active endpoints (" +
		`name:"c1" id:"` + r.EndpointID()[:12] + "\" whose addresses the IPAM plugin host-local has not released yet)\n"}})
	lock.Unlock()
	f.plugin("dbridge", `echo '{"code": 11, "msg": "ipam host-local: away"}'; exit 1`)
	f.check([]call{{"rm web", 1, "", "dnet: detach web c1/eth0, whose sandbox is gone: plugin type=\"dbridge\" name=\"web\" failed (delete): ipam host-local: away\n"}})
	f.plugin("dbridge", "rm -r "+f.dir+"/run/attachments/web/$CNI_CONTAINERID")
	f.check([]call{{"rm web", 0, "web\n", ""}, {"rm web", 1, "", "dnet: network web not found\n"}})
}

// TestRemoveFails keeps the registration when the bridge can't be removed: another
// rm goes on from there.
func TestRemoveFails(t *testing.T) {
	f := newFixture(t)
	f.check([]call{{"create -o com.docker.network.bridge.name=br-web web", 0, network.ID("web") + "\n", ""}})
	objects := f.used("web", "br-web")
	f.host.Step = func(op string, o wire.Object) error {
		if op == "remove" && o.Key() == objects[0].Key() {
			return errors.New("device or resource busy")
		}
		return nil
	}
	status, stdout, stderr := f.dnet("rm web")
	if status != 1 || stdout != "" || !printed(stderr, "dnet: remove ...") || f.exists("net.d/dcni-web.conflist") {
		t.Errorf("status %d, %q, %q", status, stdout, stderr)
	}
	f.host.Step = nil
	f.check([]call{{"rm web", 0, "web\n", ""}})
	if left := f.left("web", objects); len(left) != 0 {
		t.Errorf("left are %v", left)
	}
}
