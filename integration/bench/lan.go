package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"dcni/integration/testhost"
)

// The LAN of the measurements: a link of the host's, whose other end is a neighbour's.
const (
	lanParent    = "lan0"
	lanNeighbour = "neighbour"
	lanAddress   = "10.96.0.1" // the neighbour's, and the gateway
	lanSubnet    = "10.96.0.0/16"
)

// lans measures the modes that make interfaces on a parent. One that the kernel lacks is
// measured in the virtual machine.
func (b *run) lans() error {
	if b.ours == nil {
		return nil
	}
	if err := b.host.NewNetNS(lanNeighbour); err != nil {
		return err
	}
	for _, command := range []string{
		"ip link add " + lanParent + " up type veth peer name lan1 netns " + lanNeighbour,
		"ip -n " + lanNeighbour + " addr add " + lanAddress + "/16 dev lan1",
		"ip -n " + lanNeighbour + " link set lan1 up",
	} {
		if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", command, err, out)
		}
	}
	for _, kind := range []string{"macvlan", "ipvlan"} {
		if b.kind != "" && b.kind != kind {
			continue
		}
		probe := exec.Command("ip", "link", "add", "link", lanParent, "name", "probe0", "type", kind)
		if probe.Run() != nil {
			if err := b.inVM(kind); err != nil {
				return err
			}
			continue
		}
		if err := exec.Command("ip", "link", "del", "probe0").Run(); err != nil {
			return err
		}
		if err := b.lan(kind); err != nil {
			return err
		}
	}
	return nil
}

// lanLists are the reference's plugin with host-local, and ours.
func lanLists(kind, more string) []*list {
	return []*list{
		mustList(fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "reference-%s", "plugins": [{"type": %[1]q, "master": %q,
			"ipam": {"type": "host-local", "subnet": %q, "gateway": %q, "routes": [{"dst": "0.0.0.0/0"}]}}]}`, kind, lanParent, lanSubnet, lanAddress)),
		mustList(fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "ours-%s", "plugins": [{"type": "d%[1]s", "parent": %q%s,
			"ipam": {"type": "dipam", "subnet": %q, "gateway": %q}}]}`, kind, lanParent, more, lanSubnet, lanAddress)),
	}
}

// residentList is a network of ours that is there beside what is measured, with addresses
// that no other list gives.
func residentList(kind string) *list {
	return mustList(fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "resident-%s", "plugins": [{"type": "d%[1]s", "parent": %q,
		"conflictDetection": false, "ipam": {"type": "dipam", "subnet": "10.95.0.0/16"}}]}`, kind, lanParent))
}

// noDetection leaves out what the reference does not do.
const noDetection = `, "conflictDetection": false`

// lan measures one mode: ADD and DEL, many at once, what conflict detection adds, and
// how fast a container talks to the neighbour.
func (b *run) lan(kind string) error {
	lists := lanLists(kind, noDetection)
	detecting := lanLists(kind, "")[1]
	// A parent has containers, mostly: the first ipvlan on one has dcni look for others in all
	// namespaces.
	resident, at := residentList(kind), attachment(max(b.rounds+1, burst), 0)
	if _, err := resident.add(at); err != nil {
		return err
	}
	defer func() { _ = resident.del(at) }() // the host goes anyway
	adds, dels, careful := make([]samples, 3), make([]samples, 3), make([]samples, 3)
	for i := range b.rounds + 1 {
		for which, both := range []func() (_, _ time.Duration, _ error){
			func() (_, _ time.Duration, _ error) { return lists[0].both(attachment(i, 0)) },
			func() (_, _ time.Duration, _ error) { return lists[1].both(attachment(i, 0)) },
			func() (_, _ time.Duration, _ error) { return timeFloor(i, kind) },
			func() (_, _ time.Duration, _ error) { return detecting.both(attachment(i, 0)) },
		} {
			add, del, err := both()
			switch {
			case err != nil:
				return err
			case i == 0: // makes what the network shares
			case which == len(adds):
				careful[1] = append(careful[1], add)
			default:
				adds[which], dels[which] = append(adds[which], add), append(dels[which], del)
			}
		}
	}
	b.table.times(kind+": ADD: p50", adds, 50)
	b.table.times("... DEL: p50", dels, 50)
	b.table.times("... ADD, conflict detection: p50", careful, 50)
	rates, err := b.lanBurst(lists)
	if err != nil {
		return err
	}
	b.table.rates(fmt.Sprintf("... %d, %d at a time", burst, width), rates, perMinute)
	floor, err := b.lanFloorBurst(kind)
	if err != nil {
		return err
	}
	b.table.rows[len(b.table.rows)-1].floor = fmt.Sprint(floor, perMinute)
	return b.lanThroughput(kind, lists[1])
}

const perMinute = " /min" // an emulated machine attaches less than one a second

// lanBurst attaches many containers at once.
func (b *run) lanBurst(lists []*list) (rates [2]int, err error) {
	for which, l := range lists {
		start := time.Now()
		_, failed := b.together(l)
		rates[which] = int(float64(burst) / time.Since(start).Minutes())
		for i := range burst {
			if err := l.del(attachment(i, 0)); err != nil {
				return rates, err
			}
		}
		if failed > 0 {
			return rates, fmt.Errorf("%s: %d of %d ADDs failed", l.conf.Name, failed, burst)
		}
	}
	return rates, nil
}

// lanFloorBurst returns how many containers the floor attaches in a minute, as many at a
// time: the kernel makes links one after another.
func (b *run) lanFloorBurst(kind string) (rate int, err error) {
	var failed atomic.Int64
	start := time.Now()
	b.atOnce(func(i int) {
		if _, err := runFloor("add-"+kind, i); err != nil {
			failed.Add(1)
		}
	})
	rate = int(float64(burst) / time.Since(start).Minutes())
	for i := range burst {
		if _, err := runFloor("del-"+kind, i); err != nil {
			return rate, err
		}
	}
	if failed.Load() > 0 {
		return rate, fmt.Errorf("floor: %d of %d failed", failed.Load(), burst)
	}
	return rate, nil
}

// lanThroughput compares what a container sends to the neighbour in a second with what
// one does on a link made by hand, in turns.
func (b *run) lanThroughput(kind string, l *list) error {
	const rounds = 11
	var sent [2]samples // bytes
	for range rounds {
		if _, err := runFloor("add-"+kind, 0); err != nil {
			return err
		}
		n, err := b.send()
		if err != nil {
			return err
		}
		if _, err := runFloor("del-"+kind, 0); err != nil {
			return err
		}
		sent[0] = append(sent[0], time.Duration(n))
		if _, err := l.add(attachment(0, 0)); err != nil {
			return err
		}
		if n, err = b.send(); err != nil {
			return err
		}
		if err := l.del(attachment(0, 0)); err != nil {
			return err
		}
		sent[1] = append(sent[1], time.Duration(n))
	}
	byHand, ours := int(sent[0].percentile(50)), int(sent[1].percentile(50))
	b.table.own("... sends, to a link made by hand", strconv.FormatFloat(float64(ours)/float64(byHand), 'f', 2, 64))
	return nil
}

// send returns how many bytes sandbox 0 sends to the neighbour in a second.
func (b *run) send() (sent int64, err error) {
	var listener net.Listener
	err = b.host.In(lanNeighbour, func() error {
		listener, err = net.Listen("tcp", net.JoinHostPort(lanAddress, "0"))
		return err
	})
	if err != nil {
		return 0, err
	}
	defer func() { _ = listener.Close() }()
	got := make(chan int64, 1)
	go func() {
		var n int64
		if conn, err := listener.Accept(); err == nil {
			n, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
		got <- n
	}()
	err = b.host.In(sandbox(0), func() error {
		conn, err := net.DialTimeout("tcp", listener.Addr().String(), 10*time.Second)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		buffer := make([]byte, 1<<17)
		for end := time.Now().Add(time.Second); time.Now().Before(end); {
			if _, err := conn.Write(buffer); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return <-got, nil
}

// isLAN reports whether a kind of floor is a link on the LAN.
func isLAN(kind string) bool { return strings.HasSuffix(kind, "vlan") }

// lanFloor makes or deletes the floor's container i on the LAN: a link in its namespace,
// an address and a route.
func lanFloor(verb, kind string, i int) error {
	const first = 200 // network of the floor's addresses: those of the lists are below
	file, err := os.Open(testhost.NetNSPath(sandbox(i)))
	if err != nil {
		return err
	}
	fd := int(file.Fd())
	inside, err := netlink.NewHandleAt(netns.NsHandle(fd), netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	if verb == "del" {
		return inside.LinkDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}})
	}
	parent, err := netlink.LinkByName(lanParent)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.Namespace = hostEnd(i), parent.Attrs().Index, netlink.NsFd(fd)
	link := netlink.Link(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE})
	if kind == "ipvlan" {
		link = &netlink.IPVlan{LinkAttrs: attrs, Mode: netlink.IPVLAN_MODE_L2}
	}
	if err := netlink.LinkAdd(link); err != nil {
		return err
	}
	made, err := inside.LinkByName(hostEnd(i)) // Linux 6.12 refuses a name that the host has
	if err != nil {
		return err
	}
	if err := inside.LinkSetName(made, "eth0"); err != nil {
		return err
	}
	address := &net.IPNet{IP: net.IPv4(10, 96, byte(first+i>>8), byte(i)), Mask: net.CIDRMask(16, 32)}
	return configure(inside, address, net.ParseIP(lanAddress))
}
