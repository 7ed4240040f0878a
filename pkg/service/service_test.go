package service

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/wire"
)

func endpoint(id string, names ...string) Endpoint {
	n := byte(0)
	fmt.Sscanf(id, "c%d", &n)
	return Endpoint{
		Owner: wire.Attachment{Network: "net", Container: id, IfName: "eth0"}, Name: id, Names: append([]string{id}, names...),
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 9, 0, n}), netip.MustParseAddr(fmt.Sprintf("fd00::%x", n))},
	}
}

var vips = []netip.Addr{netip.MustParseAddr("10.9.0.100"), netip.MustParseAddr("fd00::64")}

// shown returns all that a network's services are for one client, as text.
func shown(n Network, client wire.Attachment) string {
	var lines []string
	for _, s := range n.Services {
		for _, t := range n.Tasks(s) {
			lines = append(lines, fmt.Sprintf("task of %s: %s %s", s.Name, t.Owner.Container, t.State))
		}
	}
	for _, h := range n.Hosts() {
		lines = append(lines, fmt.Sprint("name ", h.Name, " ", h.Addresses))
	}
	for _, six := range []bool{false, true} {
		for _, b := range n.Balancer().Of(client, six) {
			for _, line := range b.Lines() {
				lines = append(lines, fmt.Sprint(b.VIP, ": ", line))
			}
			lines = append(lines, fmt.Sprint("keep ", b.Keep))
		}
	}
	return strings.Join(lines, "\n")
}

func TestServices(t *testing.T) {
	client := endpoint("c9").Owner
	web := Service{Name: "web", Network: "net", Mode: VIP, Affinity: NoAffinity, VIPs: vips}
	checked := web
	checked.Health = "tcp:80"
	four := web
	four.VIPs = vips[:1]
	turning := Service{Name: "web", Network: "net", Mode: DNSRR}
	drained, healthy := endpoint("c2", "web"), endpoint("c1", "web")
	drained.Drained, healthy.Healthy = true, []string{"web"}
	leaving := web
	leaving.Removing = true
	for _, c := range []struct {
		name string
		n    Network
		want string
	}{
		{"no tasks", Network{"net", []Service{four}, []Endpoint{endpoint("c1")}}, `
name web [10.9.0.100]
name tasks.web []
10.9.0.100: reject with tcp reset
10.9.0.100: reject
keep []`},
		{"by name, by alias, in any case", Network{"net", []Service{web}, []Endpoint{endpoint("c2", "WEB"), endpoint("c1", "web"), endpoint("c3", "webs")}}, `
task of web: c1 ready
task of web: c2 ready
name web [10.9.0.100 fd00::64]
name tasks.web [10.9.0.1 10.9.0.2 fd00::1 fd00::2]
10.9.0.100: dnat to numgen inc mod 2 map { 0 : 10.9.0.2, 1 : 10.9.0.1 }
keep [10.9.0.1 10.9.0.2]
fd00::64: dnat to numgen inc mod 2 map { 0 : fd00::2, 1 : fd00::1 }
keep [fd00::1 fd00::2]`},
		{"a drained task keeps what it has", Network{"net", []Service{four}, []Endpoint{endpoint("c1", "web"), drained}}, `
task of web: c1 ready
task of web: c2 draining
name web [10.9.0.100]
name tasks.web [10.9.0.1 10.9.0.2 fd00::1 fd00::2]
10.9.0.100: dnat to 10.9.0.1
keep [10.9.0.1 10.9.0.2]`},
		{"a task that fails its check loses them", Network{"net", []Service{checked}[:1], []Endpoint{healthy, endpoint("c3", "web")}}, `
task of web: c1 ready
task of web: c3 unhealthy
name web [10.9.0.100 fd00::64]
name tasks.web [10.9.0.1 10.9.0.3 fd00::1 fd00::3]
10.9.0.100: dnat to 10.9.0.1
keep [10.9.0.1]
fd00::64: dnat to fd00::1
keep [fd00::1]`},
		{"dnsrr", Network{"net", []Service{turning}, []Endpoint{endpoint("c1", "web"), drained}}, `
task of web: c1 ready
task of web: c2 draining
name web [10.9.0.1 fd00::1]
name tasks.web [10.9.0.1 10.9.0.2 fd00::1 fd00::2]`},
		{"on its way out", Network{"net", []Service{leaving}, []Endpoint{endpoint("c1", "web")}}, `
task of web: c1 ready`},
	} {
		if got := shown(c.n, client); got != strings.TrimPrefix(c.want, "\n") {
			t.Errorf("%s:\n%s\nwant%s", c.name, got, c.want)
		}
	}
}

// TestAffinity wants each client at one task, clients spread over tasks, and only those to
// move whose task goes, or that a new one takes.
func TestAffinity(t *testing.T) {
	const tasks, clients = 5, 400
	n := Network{Name: "net", Services: []Service{{Name: "web", Network: "net", Mode: VIP, VIPs: vips[:1], Affinity: ClientAffinity}}}
	for i := range tasks {
		n.Endpoints = append(n.Endpoints, endpoint(fmt.Sprintf("c%d", i+1), "web"))
	}
	at := func(n Network, i int) netip.Addr {
		list := n.Balancer().Of(wire.Attachment{Network: "net", Container: fmt.Sprint("client", i), IfName: "eth0"}, false)[0].Tasks
		if len(list) != 1 {
			t.Fatalf("client %d is at %v", i, list)
		}
		return list[0]
	}
	fewer := n
	gone := n.Endpoints[2].Addresses[0]
	fewer.Endpoints = slices.Delete(slices.Clone(n.Endpoints), 2, 3)
	load, moved := map[netip.Addr]int{}, 0
	for i := range clients {
		before, after := at(n, i), at(fewer, i)
		load[before]++
		if before != after {
			moved++
			if before != gone {
				t.Errorf("client %d moved from %s, which stays", i, before)
			}
		}
	}
	if moved != load[gone] || len(load) != tasks || slices.Max(slices.Collect(mapValues(load))) > 2*clients/tasks {
		t.Errorf("%d moved, clients by task: %v", moved, load)
	}
}

func mapValues(m map[netip.Addr]int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

// TestBecomes wants to know which services differ between two looks, and whether connections are to be forgotten.
func TestBecomes(t *testing.T) {
	network := func(change func(web, db *Service, c1, c2 *Endpoint)) Balancer {
		web, db, c1, c2 := Service{Name: "web", VIPs: vips}, Service{Name: "db", VIPs: []netip.Addr{netip.MustParseAddr("10.9.0.101")}}, endpoint("c1", "web"), endpoint("c2", "web", "db")
		change(&web, &db, &c1, &c2)
		return Network{Name: "net", Services: []Service{web, db}, Endpoints: []Endpoint{c1, c2}}.Balancer()
	}
	was := network(func(_, _ *Service, _, _ *Endpoint) {})
	for name, c := range map[string]struct {
		change  func(web, db *Service, c1, c2 *Endpoint)
		out, in string
		loses   bool
	}{
		"nothing":        {func(_, _ *Service, _, _ *Endpoint) {}, "", "", false},
		"one drains":     {func(_, _ *Service, c1, _ *Endpoint) { c1.Drained = true }, "web/4 web/6", "web/4 web/6", false},
		"one is dead":    {func(_, _ *Service, c1, _ *Endpoint) { c1.Dead = true }, "web/4 web/6", "web/4 web/6", true},
		"one of both":    {func(_, _ *Service, _, c2 *Endpoint) { c2.Names = nil }, "db/4 web/4 web/6", "db/4 web/4 web/6", true},
		"one more":       {func(_, _ *Service, c1, _ *Endpoint) { c1.Names = append(c1.Names, "db") }, "db/4", "db/4", false},
		"without a name": {func(_, db *Service, _, _ *Endpoint) { db.Removing = true }, "db/4", "", false},
		"of one family":  {func(web, _ *Service, _, _ *Endpoint) { web.VIPs = vips[:1] }, "web/6", "", false},
		"other address":  {func(_, db *Service, _, _ *Endpoint) { db.VIPs = []netip.Addr{netip.MustParseAddr("10.9.0.102")} }, "db/4", "db/4", false},
		"affinity":       {func(web, _ *Service, _, _ *Endpoint) { web.Affinity = ClientAffinity }, "web/4 web/6", "web/4 web/6", false},
	} {
		is := network(c.change)
		names := func(b Balancer) string {
			var list []string
			for _, six := range []bool{false, true} {
				for _, s := range b.Of(endpoint("c9").Owner, six) {
					list = append(list, strings.TrimPrefix(s.Chain, LayoutOf("net", six).Chain+"-")+map[bool]string{false: "/4", true: "/6"}[six])
				}
				if b.Has(six) != (len(b.Of(endpoint("c9").Owner, six)) > 0) {
					t.Errorf("%s: has IPv6 %t: %t", name, six, b.Has(six))
				}
			}
			slices.Sort(list)
			return strings.Join(list, " ")
		}
		out, in := was.Without(is), is.Without(was)
		if names(out) != c.out || names(in) != c.in || out.Loses(in) != c.loses {
			t.Errorf("%s: %q becomes %q, loses %t; want %q, %q, %t", name, names(out), names(in), out.Loses(in), c.out, c.in, c.loses)
		}
	}
}

// TestFirstTurn wants clients that connect once to reach all tasks.
func TestFirstTurn(t *testing.T) {
	n := Network{Name: "net", Services: []Service{{Name: "web", Network: "net", Mode: VIP, VIPs: vips[:1]}}, Endpoints: []Endpoint{endpoint("c1", "web"), endpoint("c2", "web"), endpoint("c3", "web")}}
	first := map[netip.Addr]bool{}
	for i := range 50 {
		list := n.Balancer().Of(wire.Attachment{Network: "net", Container: fmt.Sprint("client", i), IfName: "eth0"}, false)[0].Tasks
		first[list[0]] = true
		if len(list) != 3 {
			t.Fatal(list)
		}
	}
	if len(first) != 3 {
		t.Errorf("first are %v", first)
	}
}

func TestCrowded(t *testing.T) {
	n := Network{Name: "net", Services: []Service{{Name: "web", Network: "net", Mode: VIP, VIPs: vips[:1]}}}
	for i := range MaxTasks {
		e := endpoint("c1", "web")
		e.Owner.Container = fmt.Sprint("task", i)
		n.Endpoints = append(n.Endpoints, e)
	}
	if err := n.Crowded(n.Endpoints[0]); err != nil {
		t.Errorf("one that is there: %v", err)
	}
	if err := n.Crowded(endpoint("c2")); err != nil {
		t.Errorf("no task: %v", err)
	}
	if err := n.Crowded(endpoint("c2", "web")); err == nil || !strings.Contains(err.Error(), "has 256 tasks") {
		t.Errorf("one more: %v", err)
	}
	n.Endpoints[0].Dead = true
	if err := n.Crowded(endpoint("c2", "web")); err != nil {
		t.Errorf("in place of one whose node is dead: %v", err)
	}
}

func TestParse(t *testing.T) {
	ok := Wish{Name: "Web", Mode: VIP, Affinity: ClientAffinity, Health: "http:8080/ok", VIPs: []string{"10.9.0.100", "fd00::64"}}
	if s, err := ok.Parse(); err != nil || s.Name != "web" || !slices.Equal(s.VIPs, vips) {
		t.Errorf("%v, %v", s, err)
	}
	for want, change := range map[string]func(*Wish){
		`service name "a.b": must be 1 to 63 letters`:                            func(w *Wish) { w.Name = "a.b" },
		`service name "": must be`:                                               func(w *Wish) { w.Name = "" },
		`service name "` + strings.Repeat("a", 64):                               func(w *Wish) { w.Name = strings.Repeat("a", 64) },
		`mode "round": must be vip or dnsrr`:                                     func(w *Wish) { w.Mode = "round" },
		`affinity "ip": must be none or client`:                                  func(w *Wish) { w.Affinity = "ip" },
		`affinity "client": needs mode vip`:                                      func(w *Wish) { w.Mode = DNSRR },
		`vip 10.9.0.100: needs mode vip`:                                         func(w *Wish) { w.Mode, w.Affinity = DNSRR, NoAffinity },
		`port published with ingress mode can't be used with dnsrr mode`:         func(w *Wish) { w.Mode, w.Affinity, w.VIPs, w.Ports = DNSRR, NoAffinity, nil, []Port{{8080, 80, "tcp"}} },
		`--local: needs a published port`:                                        func(w *Wish) { w.Local = true },
		`health "icmp": must be tcp:PORT or http:PORT/PATH, as tcp:5432`:         func(w *Wish) { w.Health = "icmp" },
		`health "tcp:0": must be`:                                                func(w *Wish) { w.Health = "tcp:0" },
		`health "tcp:80/": must be`:                                              func(w *Wish) { w.Health = "tcp:80/" },
		`health "http:80": must be`:                                              func(w *Wish) { w.Health = "http:80" },
		"health \"http:80/a b\": must be":                                        func(w *Wish) { w.Health = "http:80/a b" },
		`vip "10.9.0": must be an IP address of the network`:                     func(w *Wish) { w.VIPs = []string{"10.9.0"} },
		`vip 10.9.0.101: is the second of its family, a service has one of each`: func(w *Wish) { w.VIPs = []string{"10.9.0.100", "10.9.0.101"} },
	} {
		w := ok
		change(&w)
		if _, err := w.Parse(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", w, err, want)
		}
	}
	if h, err := ParseHealth("http:8080/a?b=c"); err != nil || h != (Health{true, 8080, "/a?b=c"}) {
		t.Errorf("%v, %v", h, err)
	}
}

// TestJoin wants a node's own containers as its records have them, drained as the store says,
// and those of other nodes as the store has them.
func TestJoin(t *testing.T) {
	at := func(node, id string, change ...func(*Endpoint)) Endpoint {
		e := endpoint(id, "web")
		e.Node = node
		for _, f := range change {
			f(&e)
		}
		return e
	}
	drained := func(e *Endpoint) { e.Drained = true }
	starting := func(e *Endpoint) { e.Starting = true }
	dead := func(e *Endpoint) { e.Dead = true }
	well := func(e *Endpoint) { e.Healthy = []string{"web"} }
	for _, c := range []struct {
		name   string
		p      Picture
		own    []Endpoint
		want   string // with states
		untold string // what the store is to hear
	}{
		{"nothing", Picture{Node: "a"}, nil, "", ""},
		{"a record is there first", Picture{Node: "a"}, []Endpoint{at("", "c1")}, "/c1 ready", ""},
		{"its ADD has ended", Picture{Node: "a", Network: Network{Endpoints: []Endpoint{at("a", "c1", starting)}}}, []Endpoint{at("", "c1")}, "/c1 ready", "c1"},
		{"its record is gone first", Picture{Node: "a", Network: Network{Endpoints: []Endpoint{at("a", "c1")}}}, nil, "", ""},
		{"on another node, in its ADD", Picture{Node: "a", Network: Network{Endpoints: []Endpoint{at("b", "c2", starting)}}}, nil, "", ""},
		{"drained", Picture{Node: "a", Network: Network{Endpoints: []Endpoint{at("a", "c1", drained), at("b", "c2", drained)}}}, []Endpoint{at("", "c1")}, "/c1 draining, b/c2 draining", ""},
		{"its node is dead", Picture{Node: "a", Network: Network{Endpoints: []Endpoint{at("b", "c2", drained, dead)}}}, nil, "b/c2 unreachable", ""},
		{"the node is, with what comes", Picture{Node: "a", Drained: true}, []Endpoint{at("", "c1")}, "/c1 draining", ""},
		{"checked here", Picture{Node: "a", Network: Network{Endpoints: []Endpoint{at("a", "c1")}}}, []Endpoint{at("", "c1", well)}, "/c1 ready", "c1"},
		{"as the store has it", Picture{Node: "a", Network: Network{Endpoints: []Endpoint{at("a", "c1", well)}}}, []Endpoint{at("", "c1", well)}, "/c1 ready", ""},
		{"two of one ID", Picture{Node: "a", Network: Network{Endpoints: []Endpoint{at("a", "c1", well), at("b", "c1", drained)}}}, []Endpoint{at("", "c1", well)}, "/c1 ready, b/c1 draining", ""},
	} {
		n := c.p.Join(c.own)
		var tasks, untold []string
		for _, task := range n.Tasks(Service{Name: "web"}) {
			tasks = append(tasks, task.Node+"/"+task.Owner.Container+" "+string(task.State))
		}
		for _, e := range c.p.Untold(n) {
			untold = append(untold, e.Owner.Container)
		}
		if got := strings.Join(tasks, ", "); got != c.want {
			t.Errorf("%s: tasks %s, want %s", c.name, got, c.want)
		}
		if got := strings.Join(untold, ", "); got != c.untold {
			t.Errorf("%s: untold %s, want %s", c.name, got, c.untold)
		}
	}
	p := Picture{Node: "a", Network: Network{Endpoints: []Endpoint{at("a", "c1", drained), at("a", "c2"), at("b", "c3", drained)}}}
	for id, want := range map[string]bool{"c1": true, "c2": false, "c3": false} {
		if p.DrainedAlone(endpoint(id).Owner) != want {
			t.Errorf("%s drained alone: %t", id, !want)
		}
	}
	if p.Drained = true; p.DrainedAlone(endpoint("c1").Owner) {
		t.Error("the node is drained, and that is no word of its containers")
	}
}
