package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"dcni/integration/testhost"
)

// benchServices measures services: here, and beside a Swarm's in the virtual machine, whose kernel
// has IPVS. There the program runs a second time.
func benchServices(o options) error {
	if os.Getenv(inMachine) != "" {
		return bench(o)
	}
	if err := bench(o); err != nil {
		return err
	}
	if _, err := os.Stat("bin/test/vm/boot"); err != nil {
		fmt.Fprintln(os.Stderr, "bench: not measured beside a Swarm's: there is no virtual machine (scripts/vm/prepare)")
		return nil //nolint:nilerr // it says so
	}
	return again(o, "-services")
}

// services measures what a service costs a connection, ingress, and many services.
func (b *run) services() error {
	if os.Getenv(inMachine) != "" {
		return b.besideIPVS()
	}
	r, done, err := b.wire([]string{"n1", "n2", "many"})
	defer done()
	if err != nil {
		return err
	}
	b.table.peersOf = "Services"
	o := &overlayRun{run: b, nodes: [2]*testhost.Host{r.nodes["n1"], r.nodes["n2"]}, outside: r.outside}
	for _, step := range []func() error{o.cluster, o.throughVIP, o.throughNode, func() error { return o.manyServices(r.nodes["many"]) }} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// task attaches a container of a name that is a task of services.
func (o *overlayRun) task(n *testhost.Host, l *list, name string, services ...string) (end, error) {
	n.Enter()
	if err := n.NewNetNS(name); err != nil {
		return end{}, err
	}
	rt := container(name)
	rt.Args = [][2]string{{"DNET_NAME", name}, {"DNET_SERVICE", strings.Join(services, ",")}}
	address, err := l.add(rt)
	return end{n, name, address}, err
}

// answering waits until an address answers, half a minute at most.
func answering(from end, to string) error {
	var err error
	for limit := time.Now().Add(30 * time.Second); time.Now().Before(limit); time.Sleep(50 * time.Millisecond) {
		if _, err = packets(from, to); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s to %s: %w", from.netns, to, err)
}

// compareConnections compares connections, and packets of one, by two ways: the first is the peer's.
func (o *overlayRun) compareConnections(what string, ends [2]end, to [2]string, limit float64) error {
	for i := range ends {
		if err := answering(ends[i], to[i]); err != nil {
			return err
		}
	}
	opened, err := inTurns(41, func(way int) (float64, error) { return connections(ends[way], to[way]) })
	if err != nil {
		return err
	}
	o.table.overlay("a connection "+what, "%.0f /s", opened, higher, limit)
	trips, err := inTurns(21, func(way int) (float64, error) { return packets(ends[way], to[way]) })
	if err != nil {
		return err
	}
	o.table.overlay("... a packet there and back", "%.0f /s", trips, higher, limit)
	return nil
}

// throughVIP compares a service's virtual address with the address of a task, both on another node.
func (o *overlayRun) throughVIP() (err error) {
	n1, n2 := o.nodes[0], o.nodes[1]
	if _, err := o.dnet(n1, "service", "create", "--network", "bench-overlay", "--vip", "10.90.0.100", "api"); err != nil {
		return err
	}
	if o.containers[0], err = o.attachTo(n1, o.overlay, "client"); err != nil {
		return err
	}
	for i := range 2 {
		if o.containers[1], err = o.task(n2, o.overlay, fmt.Sprint("task", i), "api"); err != nil {
			return err
		}
		stop, err := echo(end{n2, o.containers[1].netns, o.containers[1].address + ":80"})
		if err != nil {
			return err
		}
		defer stop()
	}
	client := o.containers[0]
	return o.compareConnections("to a service of two tasks, to a task", [2]end{client, client}, [2]string{o.containers[1].address + ":80", "10.90.0.100:80"}, 0.9)
}

// throughNode compares a port of a node that has no task with the way from a container of that node
// to the task, over the plain overlay.
func (o *overlayRun) throughNode() error {
	n1, n2 := o.nodes[0], o.nodes[1]
	if _, err := o.dnet(n1, "service", "create", "--network", "bench-overlay", "-p", "8080:80", "-p", "8081:81", "ingress"); err != nil {
		return err
	}
	task, err := o.task(n2, o.overlay, "serves", "ingress")
	if err != nil {
		return err
	}
	stop, err := echo(end{n2, task.netns, task.address + ":80"})
	if err != nil {
		return err
	}
	defer stop()
	ends, node := [2]end{o.containers[0], o.outside}, n1.IPv4.String()
	if err := o.compareConnections("by a node without a task, to the overlay", ends, [2]string{task.address + ":80", node + ":8080"}, 0.8); err != nil {
		return err
	}
	var l net.Listener
	if err := task.in(func() error { l, err = net.Listen("tcp", task.address+":81"); return err }); err != nil {
		return err
	}
	defer l.Close()
	public, err := net.ResolveTCPAddr("tcp", node+":8081")
	if err != nil {
		return err
	}
	sent, err := inTurns(transfers, func(way int) (float64, error) {
		return transferTo(transferSpan, ends[way], l, []net.Addr{l.Addr(), public}[way])
	})
	if err != nil {
		return err
	}
	o.table.overlay("... TCP", "%.2f GB/s", sent, higher, 0.8)
	return nil
}

// How many services and containers there are where many are.
const (
	serviceNetworks  = 20 // each with so many services of so many tasks:
	servicesEach     = 5
	tasksEach        = 10
	hundredServices  = 100 // of one network
	hundredClients   = 50  // which are its containers, and tasks of 20 services each
	serviceAddRounds = 50
)

// manyServices measures on a host that has 1,000 containers, tasks of 100 services on 20 networks, and
// 50 more on a network with 100 services, which are tasks of 20 each.
func (o *overlayRun) manyServices(n *testhost.Host) error {
	for i := range serviceNetworks {
		l, err := o.serviceNetwork(n, fmt.Sprint("s", i), 100+i, servicesEach)
		if err != nil {
			return err
		}
		for c := range servicesEach * tasksEach {
			if _, err := o.task(n, l, fmt.Sprintf("s%d-%d", i, c), fmt.Sprint("v", c%servicesEach)); err != nil {
				return err
			}
		}
	}
	none, err := o.serviceNetwork(n, "without", 98, 0)
	if err != nil {
		return err
	}
	hundred, err := o.serviceNetwork(n, "hundred", 99, hundredServices)
	if err != nil {
		return err
	}
	for c := range hundredClients {
		if _, err := o.task(n, none, fmt.Sprint("without-", c)); err != nil {
			return err
		}
		var services []string
		for i := range hundredServices * tasksEach / hundredClients {
			services = append(services, fmt.Sprint("v", (c*hundredServices*tasksEach/hundredClients+i)%hundredServices))
		}
		if _, err := o.task(n, hundred, fmt.Sprint("hundred-", c), services...); err != nil {
			return err
		}
	}
	return errors.Join(o.aChange(n, hundred), o.dearer(n, none, hundred), o.sizeWithServices(n))
}

// serviceNetwork makes a bridge network with services v0, v1, ...
func (o *overlayRun) serviceNetwork(n *testhost.Host, name string, subnet, services int) (*list, error) {
	if _, err := o.dnet(n, "create", "--subnet", fmt.Sprintf("10.%d.0.0/16", subnet), name); err != nil {
		return nil, err
	}
	for i := range services {
		if _, err := o.dnet(n, "service", "create", "--network", name, fmt.Sprint("v", i)); err != nil {
			return nil, err
		}
	}
	return o.read(n, name)
}

// aChange measures how long it takes until a task that drains, or is back, is so for all clients: that is
// when the command returns, which is looked at once.
func (o *overlayRun) aChange(n *testhost.Host, l *list) error {
	moves, err := o.task(n, l, "moves", "v0")
	if err != nil {
		return err
	}
	var took samples
	for range 20 {
		for _, args := range [][]string{{"service", "drain", "moves"}, {"service", "drain", "--undo", "moves"}} {
			began := time.Now()
			if _, err := o.dnet(n, args...); err != nil {
				return err
			}
			took = append(took, time.Since(began))
		}
	}
	for _, args := range [][]string{{"service", "drain", "moves"}, {"service", "drain", "--undo", "moves"}} {
		if _, err := o.dnet(n, args...); err != nil {
			return err
		}
		for c := range hundredClients {
			if err := knows(n, fmt.Sprint("hundred-", c), moves.address, len(args) == 4); err != nil {
				return err
			}
		}
	}
	o.table.overlayOwn(fmt.Sprintf("a task drains, until %d clients know: p50", hundredClients+1), ms(took.percentile(50)), "")
	o.table.overlayOwn(fmt.Sprint("... most of ", len(took)), ms(took.percentile(100)), "100 ms")
	return nil
}

// knows fails unless the rules of a client have an address, or have it not.
func knows(n *testhost.Host, client, address string, want bool) error {
	return end{n, client, ""}.in(func() error {
		out, err := exec.Command("nft", "list", "table", "ip", "dcni").Output()
		if err == nil && regexp.MustCompile(`: `+regexp.QuoteMeta(address)+`\b`).Match(out) != want {
			err = fmt.Errorf("client %s: that %s is a task is not %t in its rules: %s", client, address, want, out)
		}
		return err
	})
}

// dearer compares ADD on a network with 100 services with one on a network that has as many containers, and none.
func (o *overlayRun) dearer(n *testhost.Host, none, hundred *list) error {
	n.Enter()
	if err := n.NewNetNS("comes"); err != nil {
		return err
	}
	adds, err := inTurns(serviceAddRounds, func(way int) (float64, error) {
		add, _, err := []*list{none, hundred}[way].both(container("comes"))
		return add.Seconds() * 1e3, err
	})
	if err != nil {
		return err
	}
	o.table.overlay(fmt.Sprintf("ADD with %d services, to one with none: p50", hundredServices), "%.1f ms", adds, lower, 0)
	o.table.overlayOwn("... dearer", fmt.Sprintf("%.1f ms", median(adds[1])-median(adds[0])), "2 ms")
	return nil
}

// sizeWithServices measures dnetd.
func (o *overlayRun) sizeWithServices(n *testhost.Host) error {
	n.Enter()
	pids := n.Processes(regexp.MustCompile("^dnetd"))
	if len(pids) != 1 {
		return fmt.Errorf("%d processes named dnetd, want 1", len(pids))
	}
	kib, err := memoryOf(pids[0], "VmRSS")
	o.table.overlayOwn(fmt.Sprintf("dnetd with %d services and %d containers", serviceNetworks*servicesEach+hundredServices,
		serviceNetworks*servicesEach*tasksEach+2*hundredClients+1), fmt.Sprintf("%.1f MB", float64(kib)*1024/1e6), "64 MB")
	return err
}

// besideIPVS compares connections through a service's virtual address with those through a Swarm's. All is on
// one node, for both. Docker 20.10 has IPVS in a network namespace of its own for each network of a node, through
// which packets to and from a task pass; our rules are in the client's. A bridge network will do for
// ours, for which a cluster need not run in the emulated machine.
func (b *run) besideIPVS() error {
	r, done, err := b.wire([]string{"n1"})
	defer done()
	if err != nil {
		return err
	}
	b.table.peersOf = "Services beside a Swarm's (emulated)"
	n := r.nodes["n1"]
	o := &overlayRun{run: b, nodes: [2]*testhost.Host{n, n}, outside: r.outside}
	for _, args := range [][]string{
		{"create", "--subnet", "10.90.0.0/16", "bench-services"},
		{"service", "create", "--network", "bench-services", "--vip", "10.90.0.100", "api"},
	} {
		if _, err := o.dnet(n, args...); err != nil {
			return err
		}
	}
	if o.overlay, err = o.read(n, "bench-services"); err != nil {
		return err
	}
	client, err := o.attachSlowly(n, "client")
	if err != nil {
		return err
	}
	task, err := o.task(n, o.overlay, "task", "api")
	if err != nil {
		return err
	}
	b.host.Enter()
	d, err := startDocker(nil, "service")
	if err != nil {
		return err
	}
	return errors.Join(o.besideSwarm(d, client, task), d.stop())
}

func (o *overlayRun) besideSwarm(d *docker, client, task end) error {
	out, err := exec.Command(d.client, "-H", "unix://"+d.socket(), "service", "inspect", "-f", "{{(index .Endpoint.VirtualIPs 0).Addr}}", "api").Output()
	if err != nil {
		return fmt.Errorf("docker service inspect: %w", err)
	}
	vip, _, _ := strings.Cut(string(out), "/")
	asker, theirs := end{host: o.host, netns: d.netns[0]}, end{host: o.host, netns: d.netns[1]}
	if theirs.address, err = overlayAddress(theirs); err != nil {
		return err
	}
	for _, e := range []end{theirs, task} {
		stop, err := echo(end{e.host, e.netns, net.JoinHostPort("0.0.0.0", "80")})
		if err != nil {
			return err
		}
		defer stop()
	}
	return errors.Join(
		o.compareConnections("to a service, to a Swarm's", [2]end{asker, client}, [2]string{vip + ":80", "10.90.0.100:80"}, 1.2),
		o.compareConnections("to a task, to a Swarm's", [2]end{asker, client}, [2]string{theirs.address + ":80", task.address + ":80"}, 0),
		o.compareConnections("to a service, to a task", [2]end{client, client}, [2]string{task.address + ":80", "10.90.0.100:80"}, 0),
		o.compareConnections("to a Swarm's service, to a task", [2]end{asker, asker}, [2]string{theirs.address + ":80", vip + ":80"}, 0),
	)
}
