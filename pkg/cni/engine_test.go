package cni_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"dcni/pkg/cni"
	"dcni/pkg/cni/cnitest"
	"dcni/pkg/mode/bridge"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/records/registry"
	"dcni/pkg/wire"
)

// bridgeConf is a configuration of dbridge with more keys of its own.
func bridgeConf(keys string) string {
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "web", "type": "dbridge", %s "ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}}`, keys)
}

// Where the configuration of a network has changed, the youngest attachment says what it is:
// healing puts back what the last ADD made.
func TestHealReconfigured(t *testing.T) {
	// In the order of names the youngest record is the last of the network's, and
	// then the first.
	for _, containers := range [][2]string{{"c1", "c2"}, {"c2", "c1"}} {
		w := cnitest.NewWorld(t, bridge.Plugin)
		for i, masquerade := range []string{"true", "false"} {
			if _, err := w.Engine.Add(w.Request(t, containers[i], bridgeConf(`"masquerade": `+masquerade+`,`))); err != nil {
				t.Fatal(err)
			}
		}
		before := w.State(t)
		for _, key := range w.Host.Keys() {
			w.Host.Lose(key)
		}
		if err := w.Engine.Heal(cni.Scope{}, func(e wire.HealEvent) {
			if e.Error != "" {
				t.Errorf("healed %+v", e)
			}
		}); err != nil {
			t.Fatal(err)
		}
		if after := w.State(t); after != before {
			t.Errorf("%v: healed, the world is\n%s\nand was\n%s", containers, after, before)
		}
	}
}

// TestHealBesideReconfiguringAdd: what an ADD changes of a network stays, also where healing knows of
// the attachments from before, and puts their network back while the ADD is under way.
func TestHealBesideReconfiguringAdd(t *testing.T) {
	heal := func(e cni.Engine) (events []string) {
		if err := e.Heal(cni.Scope{}, func(h wire.HealEvent) { events = append(events, h.Container+" "+h.Object+" "+h.Error) }); err != nil {
			t.Error(err)
		}
		return events
	}
	for name, beside := range map[string]func(w *cnitest.World, add func()){
		"before the attachment is up": func(w *cnitest.World, add func()) {
			healer, looked, added, healed := *w.Engine, make(chan bool), make(chan bool), make(chan bool)
			healer.Locks = &lateLocks{healer.Locks, []func(){func() {}, func() { close(looked); <-added }}}
			w.Engine.Host = lateHost{w.Engine.Host, func() {
				go func() { heal(healer); close(healed) }()
				<-looked // once, and saw that the network is being changed
			}}
			add()
			close(added)
			<-healed
			w.Engine.Host = healer.Host
		},
		"with records read before": func(w *cnitest.World, add func()) {
			healer := *w.Engine
			w.Host.Lose("firewall network web")
			late := &lateLocks{healer.Locks, []func(){add}}
			healer.Locks = late
			if heal(healer); len(late.before) > 0 {
				t.Errorf("healing took no lock of what there is:\n%s", strings.Join(w.Host.Keys(), "\n"))
			}
		},
	} {
		w := cnitest.NewWorld(t, bridge.Plugin)
		add(t, w, "c1", bridgeConf(""))
		beside(w, func() { add(t, w, "c2", bridgeConf(`"masquerade": false,`)) })
		if events := heal(*w.Engine); len(events) > 0 {
			t.Errorf("%s: the network is not as the ADD made it: %q", name, events)
		}
	}
}

// lateLocks have something done before the lock of a network is taken for the first, second ... time.
type lateLocks struct {
	cni.Locks
	before []func()
}

func (l *lateLocks) LockNetwork(name string) (*records.Lock, error) {
	if len(l.before) > 0 {
		before := l.before[0]
		l.before = l.before[1:]
		before()
	}
	return l.Locks.LockNetwork(name)
}

// An ADD that asks more of a network that is known, and fails, leaves the registry
// as it was: the subnet that the network was given for IPv6 goes back.
func TestFailedAddRestoresRegistration(t *testing.T) {
	world := func() (w *cnitest.World, add func() error) {
		w = cnitest.NewWorld(t, bridge.Plugin)
		if _, err := w.Engine.Add(w.Request(t, "c0", bridgeConf(""))); err != nil {
			t.Fatal(err)
		}
		return w, func() error {
			_, err := w.Engine.Add(w.Request(t, "c1", bridgeConf(`"ipv6": true,`)))
			return err
		}
	}
	registered := func(w *cnitest.World) registry.Network {
		n, err := registry.Of(w.Store, "").Get("web")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	w, add := world()
	before := registered(w)
	for n := w.Steps(func() { _ = add() }); n > 0; n-- {
		w, add := world()
		var err error
		w.FailAt(n, func() { err = add() })
		if after := registered(w); err != nil && !reflect.DeepEqual(after, before) {
			t.Fatalf("step %d: registered is %+v, and was %+v", n, after, before)
		}
	}
}

// GC of one network leaves the published ports of another's alone, also those that
// no record tells of.
func TestGCOfAnotherNetwork(t *testing.T) {
	w := cnitest.NewWorld(t, bridge.Plugin)
	beta := w.Request(t, "b1", `{"cniVersion": "1.1.0", "name": "beta", "type": "dbridge",
		"ipam": {"type": "dipam", "subnet": "10.2.0.0/24"}, "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}}`)
	if _, err := w.Engine.Add(beta); err != nil {
		t.Fatal(err)
	}
	if err := w.Store.Delete(beta.Attachment, "dbridge"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		network string
		left    bool
	}{{"web", true}, {"beta", false}} {
		gc := w.Request(t, "", `{"cniVersion": "1.1.0", "name": "`+c.network+`", "type": "dbridge", "cni.dev/valid-attachments": [],
			"ipam": {"type": "dipam", "subnet": "10.2.0.0/24"}}`)
		if err := w.Engine.GC(gc); err != nil {
			t.Fatal(err)
		}
		if left := w.Host.Has("firewall endpoint beta b1/eth0"); left != c.left {
			t.Errorf("after GC of %s the ports are there: %t", c.network, left)
		}
	}
}

// vlan stands for what is the host's and goes with its last user, as the
// interface of a VLAN does.
type vlan struct{}

func (vlan) Key() string    { return "link eth0.10" }
func (vlan) Root()          {}
func (vlan) String() string { return "link eth0.10 type vlan" }

// onVLAN is a network whose attachments use the VLAN's interface.
type onVLAN struct{ network.Mode }

func (m onVLAN) Plan(e network.Endpoint) (wire.Plan, error) {
	plan, err := m.Mode.Plan(e)
	plan.Host = append([]wire.Object{vlan{}}, plan.Host...)
	return plan, err
}

// TestHostObjects: what goes with its last user is there for as long as any
// network uses it, and no longer.
func TestHostObjects(t *testing.T) {
	plugin := *bridge.Plugin
	plugin.Parse = func(conf network.Conf) (network.Mode, error) {
		mode, err := bridge.Plugin.Parse(conf)
		return onVLAN{mode}, err
	}
	cnitest.Matrix(t, &plugin, `{
		"cniVersion": "1.1.0", "name": "web", "type": "dbridge", "internal": true,
		"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}
	}`)
}

// onAdopted is a network on a bridge that is another owner's.
type onAdopted struct{ network.Mode }

func (m onAdopted) Plan(e network.Endpoint) (wire.Plan, error) {
	e.Adopted = true
	return m.Mode.Plan(e)
}

// TestAdoptedBridge: what was changed on a bridge that is another owner's goes with the
// last attachment, and so does forwarding.
func TestAdoptedBridge(t *testing.T) {
	plugin := *bridge.Plugin
	plugin.Parse = func(conf network.Conf) (network.Mode, error) {
		mode, err := bridge.Plugin.Parse(conf)
		return onAdopted{mode}, err
	}
	cnitest.Matrix(t, &plugin, `{
		"cniVersion": "1.1.0", "name": "web", "type": "dbridge", "ipv6": true, "icc": false,
		"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}
	}`)
}
