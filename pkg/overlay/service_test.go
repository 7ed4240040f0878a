package overlay_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"dcni/pkg/overlay"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// asService is a service of the network web with these virtual addresses asked for.
func asService(name string, vips ...string) overlay.Service {
	v := overlay.Service{Service: service.Service{Name: name, Network: "web", Mode: service.VIP, Affinity: service.NoAffinity}}
	for _, a := range vips {
		v.VIPs = append(v.VIPs, netip.MustParseAddr(a))
	}
	return v
}

func serve(t testing.TB, c overlay.Cluster, name string, vips ...string) overlay.Service {
	t.Helper()
	v, err := c.CreateService(t.Context(), asService(name, vips...))
	must(t, err)
	return v
}

// TestServiceKeys wants the keys that other nodes look for.
func TestServiceKeys(t *testing.T) {
	for got, want := range map[string]string{
		keys.Service("web", "api"):                                        "/dcni/1/test/service/web/api",
		keys.Service("web", ""):                                           "/dcni/1/test/service/web/",
		keys.Service("", ""):                                              "/dcni/1/test/service/",
		overlay.ServiceOwner("api").String():                              "/api",
		fmt.Sprint(overlay.ParseOwner([]byte("/api")).OfService()):        "true",
		fmt.Sprint(overlay.ParseOwner([]byte("a/api")).OfService()) + " ": "false ",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestCreateService wants a service with what it needs in the store, or nothing.
func TestCreateService(t *testing.T) {
	c := newCluster(t, 2)
	create(t, c[0], "web", "10.9.0.0/29")
	claim(t, c[1], "web", "c1", "10.9.0.2")
	v := serve(t, c[0], "api", "10.9.0.3")
	if fmt.Sprint(v.VIPs) != "[10.9.0.3]" {
		t.Errorf("it has %s", v.VIPs)
	}
	bare := asService("api")
	bare.Mode = service.DNSRR // it needs nothing that is another's
	before := entries(t, c[0].Store, keys.Prefix)
	for _, w := range []struct {
		service overlay.Service
		code    wire.Code
		text    string
	}{
		{asService("api"), 0, "service api exists already on network web"},
		{bare, 0, "service api exists already on network web"},
		{asService("far", "10.8.0.1"), wire.CodeConfig, "vip: no configured subnet contains IP address 10.8.0.1"},
		{asService("gate", "10.9.0.1"), wire.CodeAddressTaken, "vip: Address already in use: 10.9.0.1 is the gateway"},
		{asService("box", "10.9.0.2"), wire.CodeAddressTaken, "vip: Address already in use: 10.9.0.2 is claimed by c1/eth0 on node b"},
		{asService("other", "10.9.0.3"), wire.CodeAddressTaken, "vip: Address already in use: 10.9.0.3 is claimed by service api"},
		{asService("a/b"), wire.CodeConfig, `name "a/b"`},
	} {
		_, err := c[1].CreateService(t.Context(), w.service)
		wantError(t, err, w.code, w.text)
	}
	if after := entries(t, c[0].Store, keys.Prefix); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("what was refused left something: %v, before %v", after, before)
	}
	// Its address is its own, whatever nodes and runtimes give back.
	_, err := c[1].Claim(t.Context(), asking("web", "c2", "10.9.0.3"))
	wantError(t, err, wire.CodeAddressTaken, "10.9.0.3 is claimed by service api")
	must(t, c[0].ReleaseExcept(t.Context(), "web", func(wire.Attachment) bool { return false }))
	must(t, c[0].RemoveNode(t.Context(), "b"))
	if got := entries(t, c[0].Store, keys.Addr("web", netip.Addr{})); fmt.Sprint(got) != "map[/dcni/1/test/addr/web/10.9.0.3:/api]" {
		t.Errorf("addresses: %v", got)
	}
	// Names without an address of their own, and addresses that are chosen, until none is left.
	lookup := asService("list")
	lookup.Mode = service.DNSRR
	if v, err = c[0].CreateService(t.Context(), lookup); err != nil || len(v.VIPs) > 0 {
		t.Errorf("dnsrr has %s, %v", v.VIPs, err)
	}
	for _, name := range []string{"s1", "s2", "s3", "s4"} {
		serve(t, c[0], name)
	}
	_, err = c[0].CreateService(t.Context(), asService("s5"))
	wantError(t, err, wire.CodeTryAgain, "vip: no available IPv4 addresses on this network's address pools: web")
}

// TestServicesAtOnce: nodes that make services at the same time get different addresses.
func TestServicesAtOnce(t *testing.T) {
	const each = 10
	c := newCluster(t, 3)
	create(t, c[0], "web", "10.9.0.0/26")
	var all sync.WaitGroup
	for i, node := range c {
		all.Go(func() {
			for j := range each {
				serve(t, node, fmt.Sprintf("s%d-%d", i, j))
			}
		})
	}
	all.Wait()
	owners := map[string]bool{}
	for _, owner := range entries(t, c[0].Store, keys.Addr("web", netip.Addr{})) {
		owners[owner] = true
	}
	if want := each * len(c); len(owners) != want {
		t.Errorf("%d services have an address, want %d", len(owners), want)
	}
}

// TestRemoveService wants all of a service to go, also if another wrote something unreadable,
// and a network with services to stay.
func TestRemoveService(t *testing.T) {
	c := newCluster(t, 2)
	create(t, c[0], "web", "10.9.0.0/24")
	serve(t, c[0], "api", "10.9.0.7")
	serve(t, c[0], "broken", "10.9.0.8")
	must(t, put(t, c[0].Store, keys.Service("web", "broken"), "{"))
	list, err := c[1].Services(t.Context(), "web")
	if len(list) != 1 || list[0].Name != "api" || err == nil || !strings.Contains(err.Error(), "service/web/broken") {
		t.Errorf("services: %v, %v", list, err)
	}
	wantError(t, c[1].RemoveNetwork(t.Context(), "web"), 0, "network web has services: api, broken: dnet service rm comes first")
	must(t, c[1].RemoveService(t.Context(), "web", "broken"))
	must(t, c[1].RemoveService(t.Context(), "web", "api"))
	must(t, c[1].RemoveService(t.Context(), "web", "api"))
	must(t, c[1].RemoveNetwork(t.Context(), "web"))
	for _, prefix := range []string{keys.Service("", ""), keys.Addr("web", netip.Addr{})} {
		if left := entries(t, c[0].Store, prefix); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
	_, err = c[0].CreateService(t.Context(), asService("api"))
	wantError(t, err, wire.CodeConfig, `network "web": not in the cluster`)
}

// TestRecoverService wants what was lost to be as it was, once, whichever nodes know of it.
func TestRecoverService(t *testing.T) {
	c := newCluster(t, 2)
	create(t, c[0], "web", "10.9.0.0/24")
	for _, node := range c {
		must(t, node.RecoverService(t.Context(), asService("api", "10.9.0.7").Service))
	}
	claim(t, c[0], "web", "c1", "10.9.0.9")
	wantError(t, c[0].RecoverService(t.Context(), asService("late", "10.9.0.9").Service), wire.CodeAddressTaken, "10.9.0.9 is claimed by c1/eth0 on node a")
	got, err := c[0].ServiceNetworks(t.Context())
	if err != nil || fmt.Sprint(got) != "[web]" {
		t.Errorf("networks with services: %s, %v", got, err)
	}
}

// TestUnreadableService wants values that would become something else on a node to be refused.
func TestUnreadableService(t *testing.T) {
	c := newCluster(t, 1)
	create(t, c[0], "web", "10.9.0.0/24")
	for value, text := range map[string]string{
		`{"name":"other","network":"web","mode":"vip","affinity":"none"}`:                      `it is service "other" of network "web"`,
		`{"name":"api","network":"lab","mode":"vip","affinity":"none"}`:                        `it is service "api" of network "lab"`,
		`{"name":"api","network":"web","mode":"mesh","affinity":"none"}`:                       `mode "mesh": must be vip or dnsrr`,
		`{"name":"api","network":"web","mode":"vip","affinity":"none","vips":["224.0.0.1"]}`:   "vip 224.0.0.1: must be an address of the network",
		`{"name":"api","network":"web","mode":"vip","affinity":"none","health":"exec:reboot"}`: `health "exec:reboot"`,
	} {
		must(t, put(t, c[0].Store, keys.Service("web", "api"), value))
		_, err := c[0].Services(t.Context(), "web")
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want %s", value, err, text)
		}
		p := overlay.Picture{Keys: keys, Self: "a", Network: "web"}
		if err := p.Apply(overlay.Event{Entry: overlay.Entry{Key: keys.Service("web", "api"), Value: []byte(value)}}); err == nil {
			t.Errorf("%s: the picture takes it", value)
		}
	}
}

// TestTaskChanges wants a drained task and node to stay so, whatever their nodes write.
func TestTaskChanges(t *testing.T) {
	c := newCluster(t, 2)
	now := int64(1000)
	for i := range c {
		c[i].Now = func() int64 { return now }
	}
	create(t, c[0], "web", "10.9.0.0/24")
	claim(t, c[1], "web", "c1", "10.9.0.2")
	o := overlay.Owner{Node: "b", Attachment: overlay.AttachmentKey(attachment("web", "c1"))}
	drain := func(on bool) func(*overlay.Endpoint) bool {
		return func(ep *overlay.Endpoint) bool {
			changed := ep.Drained != on
			ep.Drained = on
			return changed
		}
	}
	now = 2000
	must(t, c[0].ChangeTask(t.Context(), "web", o, drain(true)))
	now = 3000
	must(t, c[0].ChangeTask(t.Context(), "web", o, drain(true))) // nothing to write
	running := overlay.Endpoint{Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.2")}, MAC: "02:42:0a:09:00:02", Container: "c1", IfName: "eth0", Name: "box", Ready: true}
	if conflicts, err := c[1].Recover(t.Context(), "web", []overlay.Endpoint{running}); err != nil || len(conflicts) > 0 {
		t.Fatal(conflicts, err)
	}
	var ep overlay.Endpoint
	must(t, json.Unmarshal([]byte(entries(t, c[0].Store, keys.Endpoint("web", "", ""))[keys.Endpoint("web", o.Node, o.Attachment)]), &ep))
	if !ep.Drained || ep.Since != 2000 || ep.Name != "box" {
		t.Errorf("it is %+v", ep)
	}
	o.Attachment = "none"
	if err := c[0].ChangeTask(t.Context(), "web", o, drain(true)); !errors.Is(err, overlay.ErrNotFound) {
		t.Errorf("of an endpoint that is not there: %v", err)
	}
	must(t, c[0].DrainNode(t.Context(), "b", true))
	nodes, err := c[1].Nodes(t.Context())
	if err != nil || !nodes["b"].Drained || nodes["a"].Drained {
		t.Errorf("nodes: %v, %v", nodes, err)
	}
	if err := c[0].DrainNode(t.Context(), "z", true); !errors.Is(err, overlay.ErrNotFound) {
		t.Errorf("a node that is not there: %v", err)
	}
}

// TestPictureServices follows a network's services through a table of changes.
func TestPictureServices(t *testing.T) {
	c := newCluster(t, 2)
	create(t, c[0], "web", "10.9.0.0/24")
	p := picture(t, c[0].Store, "a")
	dead := map[string]bool{}
	claimAs := func(node int, container, address string, ready bool, names ...string) func() {
		return func() {
			w := asking("web", container, address)
			w.Names, w.Ready = names, ready
			_, err := c[node].Claim(t.Context(), w)
			must(t, err)
		}
	}
	change := func(node, container string, f func(*overlay.Endpoint)) func() {
		return func() {
			must(t, c[0].ChangeTask(t.Context(), "web", overlay.Owner{Node: node, Attachment: overlay.AttachmentKey(attachment("web", container))},
				func(ep *overlay.Endpoint) bool { f(ep); return true }))
		}
	}
	for _, step := range []struct {
		name string
		do   func()
		want string
	}{
		{"nothing", func() {}, ""},
		{"a container", claimAs(0, "c1", "10.9.0.2", true, "c1", "API"), ""},
		{"a service", func() { serve(t, c[1], "api", "10.9.0.100") }, "api [10.9.0.100]: a/c1 [API] 10.9.0.2"},
		{"on another node, that begins", claimAs(1, "c2", "10.9.0.3", false, "c2", "api"), "api [10.9.0.100]: a/c1 [API] 10.9.0.2; b/c2 [api] 10.9.0.3 starting"},
		{"it has begun", change("b", "c2", func(ep *overlay.Endpoint) { ep.Ready = true }), "api [10.9.0.100]: a/c1 [API] 10.9.0.2; b/c2 [api] 10.9.0.3"},
		{"it is well", change("b", "c2", func(ep *overlay.Endpoint) { ep.Healthy = []string{"api"} }), "api [10.9.0.100]: a/c1 [API] 10.9.0.2; b/c2 [api] 10.9.0.3 [api]"},
		{"a task of nothing", claimAs(1, "c3", "10.9.0.4", true, "c3"), "api [10.9.0.100]: a/c1 [API] 10.9.0.2; b/c2 [api] 10.9.0.3 [api]"},
		{"drained", change("a", "c1", func(ep *overlay.Endpoint) { ep.Drained = true }), "api [10.9.0.100]: a/c1 [API] 10.9.0.2 drained; b/c2 [api] 10.9.0.3 [api]"},
		{"the node is", func() { must(t, c[0].DrainNode(t.Context(), "b", true)) }, "api [10.9.0.100]: a/c1 [API] 10.9.0.2 drained; b/c2 [api] 10.9.0.3 drained [api]"},
		{"the node is dead", func() { dead["b"] = true }, "api [10.9.0.100]: a/c1 [API] 10.9.0.2 drained; b/c2 [api] 10.9.0.3 dead drained [api]"},
		{"this one is", func() { dead["a"] = true }, "api [10.9.0.100]: a/c1 [API] 10.9.0.2 drained; b/c2 [api] 10.9.0.3 dead drained [api]"},
		{"another service", func() {
			clear(dead)
			serve(t, c[0], "c3", "10.9.0.101")
		}, "api [10.9.0.100] c3 [10.9.0.101]: a/c1 [API] 10.9.0.2 drained; b/c2 [api] 10.9.0.3 drained [api]; b/c3 [c3] 10.9.0.4 drained"},
		{"the first goes", func() { must(t, c[0].RemoveService(t.Context(), "web", "api")) }, "c3 [10.9.0.101]: b/c3 [c3] 10.9.0.4 drained"},
		{"all go", func() { must(t, c[0].RemoveService(t.Context(), "web", "c3")) }, ""},
	} {
		step.do()
		p.list(t)
		got := p.Services(func(node string) bool { return !dead[node] })
		var services, tasks []string
		for _, s := range got.Services {
			services = append(services, fmt.Sprintf("%s %s", s.Name, s.VIPs))
		}
		for _, e := range got.Endpoints {
			line := fmt.Sprintf("%s/%s %s %s", e.Node, e.Owner.Container, e.Names, e.Addresses[0])
			for _, is := range []struct {
				so   bool
				word string
			}{{e.Starting, " starting"}, {e.Dead, " dead"}, {e.Drained, " drained"}} {
				if is.so {
					line += is.word
				}
			}
			if len(e.Healthy) > 0 {
				line += fmt.Sprint(" ", e.Healthy)
			}
			tasks = append(tasks, line)
		}
		text := ""
		slices.Sort(tasks) // by container: the store has them by the hash of their attachment
		if len(services) > 0 {
			text = strings.Join(services, " ") + ": " + strings.Join(tasks, "; ")
		}
		if text != step.want || got.Node != "a" || got.Name != "web" {
			t.Errorf("%s: %s: %s, want %s", step.name, got.Node, text, step.want)
		}
	}
	// A node that asks the store itself sees the same, and which nodes are alive.
	serve(t, c[0], "api", "10.9.0.100")
	write(t, c[0].Store, keys.Alive("a"), overlay.Alive{})
	got, err := c[1].Serving(t.Context(), "web")
	if err != nil || got.Node != "b" || !got.Drained || len(got.Services) != 1 || len(got.Endpoints) != 2 {
		t.Errorf("the store has %+v, %v", got, err)
	}
	got, err = c[0].Serving(t.Context(), "web")
	if err != nil || len(got.Endpoints) != 2 || got.Endpoints[0].Dead || !got.Endpoints[1].Dead {
		t.Errorf("the store has %+v, %v", got, err)
	}
}

// TestPublishedServices wants a port to be one service's of the cluster, nodes to be reached by their hosts as
// long as there is one, with a way back to each, and all to be as before then.
func TestPublishedServices(t *testing.T) {
	c := newCluster(t, 2)
	create(t, c[0], "web", "10.9.0.0/24")
	claim(t, c[1], "web", "c2", "10.9.0.3")
	p := picture(t, c[0].Store, "a")
	before := lines(p.Objects())
	v := asService("api", "10.9.0.100")
	v.Ports = []service.Port{{Published: 8080, Target: 80, Protocol: "tcp"}, {Published: 53, Target: 53, Protocol: "udp"}}
	_, err := c[0].CreateService(t.Context(), v)
	must(t, err)
	other := asService("other")
	other.Ports = []service.Port{{Published: 80, Target: 80, Protocol: "tcp"}, {Published: 8080, Target: 81, Protocol: "tcp"}}
	_, err = c[1].CreateService(t.Context(), other)
	wantError(t, err, wire.CodePortTaken, "port 8080/tcp is already published by service api of network web")
	p.list(t)
	router, linkLocal := overlay.RouterMAC("b", "web"), p.LinkLocals()["b"]
	var ways []string
	for _, line := range lines(p.Objects()) {
		if !slices.Contains(before, line) {
			ways = append(ways, line)
		}
	}
	at := linkLocal.As4()
	mark := fmt.Sprintf("%#x", uint32(at[2])<<24|uint32(at[3])<<16)
	for _, want := range []string{
		"neigh 10.9.0.3 dev br lladdr " + router + " PERMANENT", `element inet dcni senders { "br" . ` + router + ` comment "web" : ` + mark[:2],
		"route default via " + linkLocal.String() + " dev br onlink table ", "route -6 default via fe80::a9fe:",
		"fwmark " + mark + "/0xffff0000 iif br lookup ", "-6 rule pref 4789 fwmark " + mark,
	} {
		if !slices.ContainsFunc(ways, func(line string) bool { return strings.Contains(line, want) }) {
			t.Errorf("no %s in\n%s", want, strings.Join(ways, "\n"))
		}
	}
	must(t, c[1].RemoveService(t.Context(), "web", "api"))
	p.list(t)
	if got := lines(p.Objects()); !slices.Equal(got, before) {
		t.Errorf("without the service:\n%s", strings.Join(got, "\n"))
	}
	if left := entries(t, c[0].Store, keys.Prefix+"port/"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	_, err = c[1].CreateService(t.Context(), other)
	must(t, err)
	bad := asService("bad")
	bad.Ports = []service.Port{{Published: 1, Target: 1, Protocol: "icmp"}}
	value, err := json.Marshal(bad)
	must(t, err)
	must(t, put(t, c[0].Store, keys.Service("web", "bad"), string(value)))
	if _, err := c[0].Services(t.Context(), "web"); err == nil || !strings.Contains(err.Error(), "must be two ports") {
		t.Errorf("a port of no protocol: %v", err)
	}
}
