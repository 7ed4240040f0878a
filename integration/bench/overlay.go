package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"

	"dcni/integration/testhost"
)

// An overlayRun measures an overlay network between two nodes, beside a VXLAN made by
// hand between the same containers, and beside a bridge network on one of the nodes.
type overlayRun struct {
	*run
	nodes           [2]*testhost.Host // the first has the store's member
	overlay, bridge *list
	narrow          *list  // a bridge network of the overlay's MTU
	containers      [2]end // on the overlay, one on each node
	byHand          [2]end // the same, by addresses of the VXLAN
	beside          [2]end // on the narrow bridge of the first node, and on the other
	outside         end
}

// An end is where traffic begins or ends.
type end struct {
	host    *testhost.Host
	netns   string
	address string
}

// in calls f in the end's network namespace, and leaves the thread in its host.
func (e end) in(f func() error) error {
	e.host.Enter()
	return e.host.In(e.netns, f)
}

// overlays measures overlay networks. It makes the host a wire between two nodes, and so
// comes last.
func (b *run) overlays() error {
	if b.ours == nil {
		return nil
	}
	o, done, err := b.overlayNodes()
	defer done()
	if err != nil {
		return err
	}
	steps := []func() error{
		o.cluster, o.attach, func() error { return o.handMade(1450) },
		o.traffic, o.wayOut, o.adds, o.swarm, o.firstPackets, o.probed,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// overlayNodes makes the host a wire between two nodes. done ends what runs in them.
func (b *run) overlayNodes() (o *overlayRun, done func(), err error) {
	plugins, err := filepath.Abs(b.bin)
	if err != nil {
		return nil, func() {}, err
	}
	b.table.peersOf = "An overlay network between two nodes"
	nodes, err := b.host.NewNodes(plugins, 1500, "n1", "n2")
	done = func() {
		for _, n := range nodes {
			_, _ = n.Kill(regexp.MustCompile("")) // what a daemon left runs on
		}
		b.host.Enter()
	}
	if err != nil {
		return nil, done, err
	}
	return &overlayRun{run: b, nodes: [2]*testhost.Host(nodes), outside: end{b.host, "outside", testhost.OutsideIPv4}}, done, nil
}

// dnet runs the command in a node.
func (o *overlayRun) dnet(n *testhost.Host, args ...string) (string, error) {
	path, err := filepath.Abs(filepath.Join(o.bin, "dnet"))
	if err != nil {
		return "", err
	}
	n.Enter()
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("dnet %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// join makes the two nodes a cluster.
func (o *overlayRun) join() error {
	n1, n2 := o.nodes[0], o.nodes[1]
	if _, err := o.dnet(n1, "cluster", "init", "--advertise", n1.IPv4.String()); err != nil {
		return err
	}
	token, err := o.dnet(n1, "cluster", "token")
	if err != nil {
		return err
	}
	_, err = o.dnet(n2, "cluster", "join", n1.IPv4.String()+":2378", "--token", token, "--advertise", n2.IPv4.String())
	return err
}

// cluster makes the cluster, the overlay network, and two bridge networks on the first node.
func (o *overlayRun) cluster() error {
	n1, n2 := o.nodes[0], o.nodes[1]
	if err := o.join(); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"-d", "overlay", "--subnet", "10.90.0.0/16", "bench-overlay"},
		{"-d", "bridge", "--subnet", "10.91.0.0/16", "bench-bridge"},
		{"-d", "bridge", "--subnet", "10.93.0.0/16", "-o", "com.docker.network.driver.mtu=1450", "bench-narrow"},
	} {
		if _, err := o.dnet(n1, append([]string{"create"}, args...)...); err != nil {
			return err
		}
	}
	var err error
	if o.overlay, err = o.read(n1, "bench-overlay"); err != nil {
		return err
	}
	if _, err = o.read(n2, "bench-overlay"); err != nil {
		return err
	}
	if o.narrow, err = o.read(n1, "bench-narrow"); err != nil {
		return err
	}
	o.bridge, err = o.read(n1, "bench-bridge")
	return err
}

// read reads a network's file, once it is there.
func (o *overlayRun) read(n *testhost.Host, name string) (*list, error) {
	n.Enter()
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		files, err := libcni.ConfFiles("/etc/cni/net.d", []string{".conflist"})
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			if conf, err := libcni.ConfListFromFile(file); err == nil && conf.Name == name {
				return &list{conf}, nil
			}
		}
		if time.Now().After(limit) {
			return nil, fmt.Errorf("no file of network %s is there", name)
		}
	}
}

// container is the configuration of a container in a network namespace of that name.
func container(name string) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: name, NetNS: testhost.NetNSPath(name), IfName: "eth0"}
}

// attachTo makes a network namespace in a node and attaches it.
func (o *overlayRun) attachTo(n *testhost.Host, l *list, name string) (end, error) {
	n.Enter()
	if err := n.NewNetNS(name); err != nil {
		return end{}, err
	}
	address, err := l.add(container(name))
	return end{n, name, address}, err
}

// attach makes the containers that talk.
func (o *overlayRun) attach() (err error) {
	for i, n := range o.nodes {
		if o.containers[i], err = o.attachTo(n, o.overlay, fmt.Sprint("o", i+1)); err != nil {
			return err
		}
	}
	for i, l := range []*list{o.narrow, o.bridge} {
		if o.beside[i], err = o.attachTo(o.nodes[0], l, fmt.Sprint("beside", i)); err != nil {
			return err
		}
	}
	return nil
}

// handPort is the UDP port of the VXLAN by hand.
const handPort = 4788

// handMade makes, between the two containers, what an administrator would: a VXLAN device
// and a bridge on each node, and a pair of interfaces.
func (o *overlayRun) handMade(mtu int) error {
	for i, n := range o.nodes {
		n.Enter()
		address := fmt.Sprintf("10.92.0.%d", i+1)
		script := fmt.Sprintf(`set -e
			ip link add brhand type bridge
			ip link add vxhand mtu %d type vxlan id 99 local %s remote %s dstport %d
			ip link set vxhand master brhand up
			ip link add hand0 mtu %[1]d type veth peer name hand mtu %[1]d netns %[5]s
			ip link set hand0 master brhand up
			ip link set brhand up
			ip -n %[5]s addr add %[6]s/24 dev hand
			ip -n %[5]s link set hand up`, mtu, n.IPv4, o.nodes[1-i].IPv4, handPort, o.containers[i].netns, address)
		if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
			return fmt.Errorf("VXLAN by hand: %w: %s", err, out)
		}
		o.byHand[i] = end{n, o.containers[i].netns, address}
	}
	return nil
}

// A connection's throughput depends on which processors its two ends come to run on, so
// that of many short ones tells more than that of few long ones.
const (
	transfers    = 61
	transferSpan = 300 * time.Millisecond
)

// traffic compares the two ways from container to container.
func (o *overlayRun) traffic() error {
	sent, err := inTurns(transfers, func(way int) (float64, error) {
		if way == 0 {
			return transferFor(transferSpan, o.byHand[0], o.byHand[1])
		}
		return transferFor(transferSpan, o.containers[0], o.containers[1])
	})
	if err != nil {
		return err
	}
	o.table.overlay("node to node, TCP, to VXLAN by hand", "%.2f GB/s", sent, higher, 0.97)
	took, err := inTurns(15, func(way int) (float64, error) {
		if way == 0 {
			return roundTrip(o.byHand[0], o.byHand[1])
		}
		return roundTrip(o.containers[0], o.containers[1])
	})
	if err != nil {
		return err
	}
	o.table.overlay("... round trip: p50", "%.1f µs", took, lower, 1.03)
	return nil
}

// wayOut compares what a container of the overlay and one of a bridge send to the
// outside, with the same MTU, and with the underlay's, which an overlay can't have.
func (o *overlayRun) wayOut() error {
	for i, row := range []struct {
		what  string
		limit float64
	}{{"way out, TCP, to dbridge of the same MTU", 0.97}, {"... to dbridge of MTU 1500", 0}} {
		sent, err := inTurns(transfers, func(way int) (float64, error) {
			if way == 0 {
				return transferFor(transferSpan, o.beside[i], o.outside)
			}
			return transferFor(transferSpan, o.containers[0], o.outside)
		})
		if err != nil {
			return err
		}
		o.table.overlay(row.what, "%.2f GB/s", sent, higher, row.limit)
	}
	return nil
}

// adds compares an ADD to the overlay, whose store is on the same node, with one to the
// bridge, both with names.
func (o *overlayRun) adds() error {
	n := o.nodes[0]
	n.Enter()
	const name, rounds = "add", 100
	if err := n.NewNetNS(name); err != nil {
		return err
	}
	var adds, dels [2][]float64
	for i := range rounds + 1 {
		for way, l := range []*list{o.bridge, o.overlay} {
			add, del, err := l.both(container(name))
			if err != nil {
				return err
			}
			if i > 0 {
				adds[way], dels[way] = append(adds[way], add.Seconds()*1e3), append(dels[way], del.Seconds()*1e3)
			}
		}
	}
	o.table.overlay("ADD, store on the node, to dbridge: p50", "%.1f ms", adds, lower, 1.6)
	o.table.overlay("... DEL: p50", "%.1f ms", dels, lower, 0)
	return nil
}

// firstPackets measures how long after an ADD a container on the other node gets its
// first answer from the new one.
func (o *overlayRun) firstPackets() error {
	const rounds = 30
	var took samples
	for i := range rounds {
		d, err := o.firstPacket(fmt.Sprint("first", i))
		if err != nil {
			return err
		}
		took = append(took, d)
	}
	o.table.overlayOwn("first answer to the other node after ADD: p50", ms(took.percentile(50)), "")
	o.table.overlayOwn("... p90", ms(took.percentile(90)), "")
	o.table.overlayOwn("... most of "+fmt.Sprint(rounds), ms(took.percentile(100)), "100 ms")
	return nil
}

func (o *overlayRun) firstPacket(name string) (time.Duration, error) {
	n := o.nodes[0]
	fresh, err := o.attachTo(n, o.overlay, name)
	if err != nil {
		return 0, err
	}
	done := time.Now()
	answered, err := firstAnswer(o.containers[1], fresh)
	n.Enter()
	err = errors.Join(err, o.overlay.del(container(name)), n.DelNetNS(name))
	return answered.Sub(done), err
}

// dnetdSize prints the memory in KiB of a build's dnetd, by a line of its status, started by
// an ADD with names in a throwaway host: `dnetd DIRECTORY VmRSS`.
func dnetdSize(bin, line string) error {
	if err := testhost.Isolate(); err != nil {
		return err
	}
	h, err := testhost.NewHost(bin)
	if err != nil {
		return err
	}
	if err := h.NewNetNS("names"); err != nil {
		return err
	}
	l := mustList(`{"cniVersion": "1.0.0", "name": "names", "plugins": [{"type": "dbridge", "names": {}, "ipam": {"type": "dipam", "subnet": "10.99.0.0/16"}}]}`)
	if _, err := l.add(container("names")); err != nil {
		return err
	}
	defer func() { _, _ = h.Kill(regexp.MustCompile("dnetd")) }()
	time.Sleep(time.Second) // it gives back what it needed to start
	pids := h.Processes(regexp.MustCompile("^dnetd"))
	if len(pids) != 1 {
		return fmt.Errorf("%d processes named dnetd, want 1", len(pids))
	}
	kib, err := memoryOf(pids[0], line)
	fmt.Println(kib)
	return err
}

// dnetdSizes compares dnetd's memory on a host that is in no cluster with that of the
// build before.
func (b *run) dnetdSizes() error {
	if b.before == "" {
		return nil
	}
	bins := []string{b.before, b.bin}
	for _, row := range [][2]string{{"VmRSS", "dnetd without a cluster, to the build before"}, {"RssAnon", "... without the pages of its program"}} {
		sizes, err := inTurns(5, func(way int) (float64, error) {
			bin, err := filepath.Abs(bins[way])
			if err != nil {
				return 0, err
			}
			return sizeOf(bin, row[0])
		})
		if err != nil {
			return err
		}
		b.table.overlay(row[1], "%.2f MB", sizes, lower, 1.02)
	}
	return nil
}

// sizeOf runs dnetdSize in a process outside of this one's host.
func sizeOf(bin, line string) (mb float64, err error) {
	done := make(chan error)
	go func() { // this goroutine's thread is in the host, a new one's is not
		cmd := exec.Command("/proc/self/exe", "dnetd", bin, line)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		var kib float64
		if err == nil {
			_, err = fmt.Sscan(string(out), &kib)
		}
		mb = kib * 1024 / 1e6
		done <- err
	}()
	return mb, <-done
}
