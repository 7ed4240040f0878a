package vxlan_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"dcni/pkg/host"
	"dcni/pkg/host/hosttest"
	"dcni/pkg/netns"
	"dcni/pkg/wire"
)

// A ns is a network namespace that lives as long as the test.
type ns struct {
	t   *testing.T
	pid int
}

func newNS(t *testing.T) ns {
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		t.Skip("no network namespace:", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	n := ns{t, cmd.Process.Pid}
	n.shell("ip link set lo up")
	return n
}

// try runs a command in the namespace.
func (n ns) try(command string) (string, error) {
	out, err := exec.Command("nsenter", "-t", fmt.Sprint(n.pid), "-n", "sh", "-ec", command).CombinedOutput()
	return string(out), err
}

func (n ns) shell(command string) string {
	n.t.Helper()
	out, err := n.try(command)
	if err != nil {
		n.t.Fatalf("%s: %v: %s", command, err, out)
	}
	return out
}

// awaitLocal waits until packets to an IPv6 address are taken: the kernel enters its route some time after the address.
func (n ns) awaitLocal(a netip.Addr) {
	n.t.Helper()
	n.shell(fmt.Sprintf("for i in $(seq 100); do ip -6 route show table local | grep -q 'local %s ' && exit; sleep 0.05; done; exit 1", a))
}

// do runs f on a thread of the namespace, with the host that it is.
func (n ns) do(f func(h *host.Host)) {
	n.t.Helper()
	in, err := netns.Open(fmt.Sprintf("/proc/%d/ns/net", n.pid))
	if err != nil {
		n.t.Fatal(err)
	}
	defer in.Close()
	err = in.Do(func() error {
		hosttest.BridgeNetfilter(n.t, "0")
		f(newHost(n.t))
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// A vxNode is a node of an overlay network with one container.
type vxNode struct {
	ns
	n         int // its number
	container ns
}

func (v vxNode) underlay(v6 bool) netip.Addr {
	if v6 {
		return netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", v.n))
	}
	return netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", v.n))
}

func (v vxNode) mac() string { return fmt.Sprintf("02:42:0a:00:00:%02x", 10+v.n) }

// addresses are the container's.
func (v vxNode) addresses() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.0.0.%d", 10+v.n)), netip.MustParseAddr(fmt.Sprintf("fd00::%d", 10+v.n))}
}

// nodes makes two, joined by a wire.
func nodes(t *testing.T, v6 bool) (a, b vxNode) {
	a, b = vxNode{newNS(t), 1, newNS(t)}, vxNode{newNS(t), 2, newNS(t)}
	a.shell(fmt.Sprintf("ip link add eth0 type veth peer name eth0 netns %d", b.pid))
	for _, v := range []vxNode{a, b} {
		v.shell(fmt.Sprintf("ip addr add %s/24 dev eth0; ip addr add %s/64 dev eth0 nodad; ip link set eth0 up", v.underlay(false), v.underlay(true)))
		v.shell(fmt.Sprintf("ip link add br0 address 02:42:00:00:00:%02x type bridge; ip addr add 10.0.0.1/24 dev br0; ip addr add fd00::1/64 dev br0 nodad; ip link set br0 up", v.n))
		v.shell(fmt.Sprintf("ip link add v1 type veth peer name eth0 netns %d; ip link set v1 master br0 up", v.container.pid))
		v.container.shell(fmt.Sprintf("ip link set eth0 address %s mtu 1400 up; ip addr add %s/24 dev eth0; ip addr add %s/64 dev eth0 nodad", v.mac(), v.addresses()[0], v.addresses()[1]))
		v.do(func(h *host.Host) {
			o := device()
			o.Local, o.MTU = v.underlay(v6), 1400
			makeOnce(t, h, o, &wire.FDB{Dev: "v1", MAC: v.mac()})
		})
		v.awaitLocal(v.underlay(true))
		v.container.awaitLocal(v.addresses()[1])
	}
	return a, b
}

// learn enters what a node has to know of another one.
func (v vxNode) learn(other vxNode, v6 bool) {
	v.do(func(h *host.Host) {
		objects := []wire.Object{
			&wire.FDB{Dev: "vx0", MAC: other.mac(), Dst: other.underlay(v6)}, &wire.FDB{Dev: "vx0", MAC: other.mac()},
		}
		for _, a := range other.addresses() {
			objects = append(objects, &wire.Neigh{Dev: "vx0", IP: a, MAC: other.mac()})
		}
		makeOnce(v.t, h, objects...)
	})
}

// TestPackets sends real ones between two nodes, over an underlay of either family: the
// device answers what containers ask for, and nothing is flooded.
func TestPackets(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: network namespaces can't be made")
	}
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("underlay v6 %t", v6), func(t *testing.T) {
			a, b := nodes(t, v6)
			send := func(options string, to netip.Addr) error { // with no answer to an earlier one under way
				_, err := a.container.try(fmt.Sprintf("ip neigh flush all; ping %s %s", options, to))
				return err
			}
			ping := func(to netip.Addr) error { return send("-c 1 -W 1", to) }
			reach := func(to netip.Addr) error { return send("-c 1 -w 10", to) } // a busy machine loses some
			if ping(b.addresses()[0]) == nil {
				t.Error("it is reached before any entry is there")
			}
			a.learn(b, v6)
			b.learn(a, v6)
			for _, to := range b.addresses() {
				if err := reach(to); err != nil {
					t.Errorf("%s: %v\n%s\n%s", to, err, a.shell("bridge fdb; ip neigh"), b.shell("bridge fdb; ip neigh"))
				}
			}
			before := sent(a)
			if ping(netip.MustParseAddr("10.0.0.99")) == nil || sent(a) != before {
				t.Errorf("what no node has is asked for on other nodes: %s packets, then %s", before, sent(a))
			}
			if err := reach(netip.MustParseAddr("10.0.0.1")); err != nil || sent(a) != before {
				t.Errorf("the gateway is the node's own: %v", err)
			}
			a.do(func(h *host.Host) {
				if err := h.Remove(&wire.Peers{Network: "web", Bridge: "br0", Vxlan: "vx0"}); err != nil {
					t.Error(err)
				}
			})
			if ping(b.addresses()[0]) == nil {
				t.Error("it is reached with no entry left")
			}
		})
	}
}

// sent is how many frames a node sent to others.
func sent(v vxNode) string {
	return strings.TrimSpace(v.shell(`ip -j -s link show vx0 | grep -o '"tx":{"bytes":[0-9]*,"packets":[0-9]*'`))
}
