package vxlan_test

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/firewall"
	"dcni/pkg/host"
	"dcni/pkg/host/hosttest"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// onBridge runs a test on a host with a bridge br0 that is up.
func onBridge(t *testing.T, f func(h *host.Host)) {
	hosttest.InNewNS(t, func() {
		hosttest.LoUp(t)
		hosttest.BridgeNetfilter(t, "0")
		hosttest.Shell(t, "ip link add br0 address 02:42:00:00:00:01 type bridge && ip link set br0 up")
		f(newHost(t))
	})
}

func newHost(t *testing.T) *host.Host {
	t.Helper()
	h, err := host.New(records.Store{Run: t.TempDir(), Lib: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func device() *wire.Vxlan {
	return &wire.Vxlan{Name: "vx0", Bridge: "br0", VNI: 4096, Local: netip.MustParseAddr("127.0.0.1"), Port: 4789, MTU: 1450, Alias: "web"}
}

// makeOnce ensures objects, and wants a second time to find them all there.
func makeOnce(t *testing.T, h *host.Host, objects ...wire.Object) {
	t.Helper()
	for _, want := range []bool{true, false} {
		for _, o := range objects {
			if changed, err := h.Ensure(o); changed != want || err != nil {
				t.Fatalf("ensure %s: %t, %v; want %t", o, changed, err, want)
			}
			if err := h.Check(o); err != nil {
				t.Fatalf("check %s: %v", o, err)
			}
		}
	}
}

func wantLine(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not in\n%s", w, text)
		}
	}
}

func TestDevice(t *testing.T) {
	onBridge(t, func(h *host.Host) {
		o := device()
		makeOnce(t, h, o)
		wantLine(t, hosttest.Shell(t, "ip -d link show vx0"), "mtu 1450", "master br0", "vxlan id 4096 local 127.0.0.1 ", "dstport 4789",
			"nolearning", "proxy", " learning off", "neigh_suppress off", "isolated off", "alias web", ",UP", "addrgenmode none")
		for _, change := range []string{
			"ip link set vx0 down", "ip link set vx0 mtu 1400", "ip link set vx0 nomaster",
			"bridge link set dev vx0 learning on", "bridge link set dev vx0 isolated on",
		} {
			hosttest.Shell(t, change)
			h := newHost(t)
			if h.Check(o) == nil {
				t.Errorf("after %s CHECK finds nothing", change)
			}
			if changed, err := h.Ensure(o); !changed || err != nil || h.Check(o) != nil {
				t.Errorf("after %s: %t, %v, %v", change, changed, err, h.Check(o))
			}
		}
		other := device()
		other.VNI, other.Port, other.Flood, other.Isolated = 4097, 4790, true, true
		makeOnce(t, newHost(t), other)
		wantLine(t, hosttest.Shell(t, "ip -d link show vx0"), "id 4097", "dstport 4790", "neigh_suppress on", "isolated on")
		if out := hosttest.Shell(t, "ip -d link show vx0"); strings.Contains(out, " proxy ") && !strings.Contains(out, "noproxy") {
			t.Errorf("with flood, the device is no proxy:\n%s", out)
		}
		for range 2 {
			if err := h.Remove(o); err != nil {
				t.Error(err)
			}
		}
		if newHost(t).Check(o) == nil {
			t.Error("it is still there")
		}
	})
}

// A node's address of IPv6 makes the device one of IPv6.
func TestDevice6(t *testing.T) {
	onBridge(t, func(h *host.Host) {
		o := device()
		o.Local = netip.MustParseAddr("::1")
		dst6 := &wire.FDB{Dev: "vx0", MAC: "02:42:0a:00:00:02", Dst: netip.MustParseAddr("2001:db8::2")}
		makeOnce(t, h, o, dst6)
		wantLine(t, hosttest.Shell(t, "ip -d link show vx0"), "local ::1 ")
		dst4 := &wire.FDB{Dev: "vx0", MAC: "02:42:0a:00:00:02", Dst: netip.MustParseAddr("192.0.2.2")}
		if _, err := h.Ensure(dst4); err == nil || !strings.Contains(err.Error(), "address family of its own address only") {
			t.Errorf("an IPv4 node: %v", err)
		}
	})
}

// What is in the way is named.
func TestTaken(t *testing.T) {
	onBridge(t, func(h *host.Host) {
		hosttest.Shell(t, "ip link add other type vxlan id 4096 local 127.0.0.1 dstport 4789")
		_, err := h.Ensure(device())
		hosttest.WantCode(t, err, wire.CodeConfig, "vni 4096: link other has it on UDP port 4789 already")
		hosttest.Shell(t, "ip link del other; ip link add other type vxlan id 7 local 127.0.0.1 dstport 4789 gbp; ip link set other up")
		_, err = h.Ensure(device())
		hosttest.WantCode(t, err, wire.CodePortTaken, "another VXLAN user holds port 4789 with other options: link other")
		if err := h.Check(device()); err == nil {
			t.Error("a device that can't come up was left behind")
		}
		hosttest.Shell(t, "ip link del other; ip link add vx0 type dummy 2>/dev/null || ip link add vx0 type bridge")
		_, err = newHost(t).Ensure(device())
		hosttest.WantCode(t, err, wire.CodeConfig, "link vx0: is no VXLAN device")
		if err := newHost(t).Remove(device()); err != nil || !strings.Contains(hosttest.Shell(t, "ip link"), "vx0") {
			t.Errorf("another owner's link: %v", err)
		}
		hosttest.Shell(t, "ip link del vx0")
		socket, err := net.ListenPacket("udp4", "0.0.0.0:4789")
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		_, err = newHost(t).Ensure(device())
		hosttest.WantCode(t, err, wire.CodePortTaken, "UDP port 4789 is in use by process ")
		if name, _ := os.ReadFile("/proc/self/comm"); err != nil && !strings.Contains(err.Error(), "("+strings.TrimSpace(string(name))+")") {
			t.Errorf("the process is not named: %v", err)
		}
	})
}

func entries() []wire.Object {
	node2, node3 := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	return []wire.Object{
		&wire.FDB{Dev: "vx0", MAC: "02:42:0a:00:00:02", Dst: node2},
		&wire.FDB{Dev: "vx0", MAC: "02:42:0a:00:00:02"},
		&wire.FDB{Dev: "vx0", MAC: wire.FloodMAC, Dst: node2},
		&wire.FDB{Dev: "vx0", MAC: wire.FloodMAC, Dst: node3},
		&wire.Neigh{Dev: "vx0", IP: netip.MustParseAddr("10.0.0.2"), MAC: "02:42:0a:00:00:02"},
		&wire.Neigh{Dev: "vx0", IP: netip.MustParseAddr("fd00::2"), MAC: "02:42:0a:00:00:02"},
		&wire.Neigh{Dev: "br0", IP: netip.MustParseAddr("10.0.0.2"), MAC: "02:42:00:00:00:02"},
		&wire.Neigh{Dev: "br0", IP: netip.MustParseAddr("fd00::2"), MAC: "02:42:00:00:00:02"},
	}
}

// lines are objects as text, sorted.
func lines(objects []wire.Object) string {
	var list []string
	for _, o := range objects {
		list = append(list, o.String())
	}
	slices.Sort(list)
	return strings.Join(list, "\n")
}

// Entries are read back as what they were made from, and one of the same key is replaced.
func TestEntries(t *testing.T) {
	onBridge(t, func(h *host.Host) {
		// What is behind another port is no entry of the network.
		hosttest.Shell(t, "ip link add p0 type veth peer name p1; ip link set p0 master br0 up; ip link set p1 up; bridge fdb add 02:00:00:00:00:09 dev p0 master static")
		makeOnce(t, h, device())
		none, err := h.Entries("br0", "vx0")
		if err != nil || len(none) > 0 {
			t.Errorf("%v in\n%s", err, lines(none))
		}
		want := entries()
		makeOnce(t, h, want...)
		got, err := h.Entries("br0", "vx0")
		if err != nil || lines(got) != lines(want) {
			t.Errorf("%v; got\n%s\nwant\n%s", err, lines(got), lines(want))
		}
		wantLine(t, hosttest.Shell(t, "bridge fdb show dev vx0"), "02:42:0a:00:00:02 sticky master br0 static", "02:42:0a:00:00:02 dst 192.0.2.2 self permanent",
			"00:00:00:00:00:00 dst 192.0.2.2 self permanent", "00:00:00:00:00:00 dst 192.0.2.3 self permanent")

		moved := []wire.Object{
			&wire.FDB{Dev: "vx0", MAC: "02:42:0a:00:00:02", Dst: netip.MustParseAddr("192.0.2.3")},
			&wire.Neigh{Dev: "vx0", IP: netip.MustParseAddr("10.0.0.2"), MAC: "02:42:0a:00:00:03"},
			&wire.Neigh{Dev: "br0", IP: netip.MustParseAddr("fd00::2"), MAC: "02:42:00:00:00:03"},
		}
		for i, o := range []wire.Object{want[0], want[4], want[7]} {
			if err := h.Check(o); err != nil {
				t.Error(err)
			}
			makeOnce(t, h, moved[i])
			if h.Check(o) == nil {
				t.Errorf("%s is there beside %s", o, moved[i])
			}
		}
		hosttest.Shell(t, "bridge fdb replace 02:42:0a:00:00:02 dev p0 master static")
		if err := h.Check(want[1]); err == nil {
			t.Error("CHECK does not see that another port has the MAC")
		}
		if err := h.Remove(want[1]); err != nil || !strings.Contains(hosttest.Shell(t, "bridge fdb show dev p0"), "02:42:0a:00:00:02") {
			t.Errorf("another port's entry: %v", err)
		}
		makeOnce(t, h, want[1])

		for range 2 {
			if err := h.Remove(want[2]); err != nil {
				t.Error(err)
			}
		}
		if h.Check(want[2]) == nil || h.Check(want[3]) != nil {
			t.Error("of two nodes to flood, the wrong one was removed")
		}
		peers := &wire.Peers{Network: "web", Bridge: "br0", Vxlan: "vx0"}
		for range 2 {
			if err := h.Remove(peers); err != nil {
				t.Error(err)
			}
		}
		if left, err := h.Entries("br0", "vx0"); err != nil || len(left) > 0 {
			t.Errorf("%v; left\n%s", err, lines(left))
		}
		if err := h.Remove(device()); err != nil {
			t.Error(err)
		}
		if err := newHost(t).Remove(peers); err != nil {
			t.Error("without a device:", err)
		}
	})
}

// Apply over what is read back reaches the wanted set, and loses nothing that stays.
func TestApply(t *testing.T) {
	onBridge(t, func(h *host.Host) {
		makeOnce(t, h, device())
		makeOnce(t, h, entries()...)
		have, err := h.Entries("br0", "vx0")
		if err != nil {
			t.Fatal(err)
		}
		want := append(entries()[:3], &wire.Neigh{Dev: "br0", IP: netip.MustParseAddr("10.0.0.9"), MAC: "02:42:00:00:00:09"})
		if _, err := wire.Apply(h, have, want); err != nil {
			t.Error(err)
		}
		if got, err := h.Entries("br0", "vx0"); err != nil || lines(got) != lines(want) {
			t.Errorf("%v; got\n%s\nwant\n%s", err, lines(got), lines(want))
		}
	})
}

func TestRule(t *testing.T) {
	hosttest.InNewNS(t, func() {
		for _, family := range []int{4, 6} {
			h := newHost(t)
			o := &wire.Rule{Family: family, Priority: 700, IIF: "br0", Mark: 0x30000, Mask: 0xff0000, Table: 1003}
			makeOnce(t, h, o)
			list := "ip rule show"
			if family == 6 {
				list = "ip -6 rule show"
			}
			wantLine(t, hosttest.Shell(t, list), "700:\tfrom all fwmark 0x30000/0xff0000 iif br0 ", "lookup 1003")
			moved := *o
			moved.Table = 1004
			if h.Check(&moved) == nil {
				t.Error("another table is no difference")
			}
			makeOnce(t, h, &moved)
			if out := hosttest.Shell(t, list); strings.Count(out, "br0") != 1 || !strings.Contains(out, "1004") {
				t.Errorf("the rule was not replaced:\n%s", out)
			}
			for range 2 {
				if err := h.Remove(o); err != nil {
					t.Error(err)
				}
			}
			if h.Check(&moved) == nil {
				t.Error("it is still there")
			}
		}
	})
}

// TestWays wants ways back to other nodes to be listed with an overlay network's entries, its own only, and to
// be taken away with them, after the bridge as well.
func TestWays(t *testing.T) {
	onBridge(t, func(h *host.Host) {
		four, six := netip.MustParseAddr("169.254.3.4"), netip.MustParseAddr("fe80::3")
		var ours []wire.Object
		for _, o := range []struct {
			family int
			via    netip.Addr
			all    string
		}{{4, four, "0.0.0.0/0"}, {6, six, "::/0"}} {
			ours = append(ours,
				&wire.Rule{Family: o.family, Priority: 4789, IIF: "br0", Mark: 0x30000, Mask: firewall.MarkMask, Table: 1003},
				&wire.Route{Dev: "br0", Dst: netip.MustParsePrefix(o.all), Via: o.via, Table: 1003, OnLink: true})
		}
		foreign := &wire.Rule{Family: 4, Priority: 4789, IIF: "br1", Mark: 0x30000, Mask: firewall.MarkMask, Table: 1003}
		makeOnce(t, h, append(ours, foreign)...)
		hosttest.Shell(t, "ip route add 192.0.2.0/24 via 169.254.3.4 dev br0 onlink table 1003; ip route add default via 169.254.3.4 dev br0 onlink table 1004")
		if got, err := h.Entries("br0", "vx0"); err != nil || lines(got) != lines(ours) {
			t.Errorf("%v; got\n%s\nwant\n%s", err, lines(got), lines(ours))
		}
		hosttest.Shell(t, "ip link del br0")
		if got, err := h.Entries("br0", "vx0"); err != nil || lines(got) != lines([]wire.Object{ours[0], ours[2]}) {
			t.Errorf("without the bridge: %v; got\n%s", err, lines(got))
		}
		if err := h.Remove(&wire.Peers{Network: "web", Bridge: "br0", Vxlan: "vx0"}); err != nil {
			t.Error(err)
		}
		left := hosttest.Shell(t, "ip rule; ip -6 rule")
		if strings.Contains(left, "br0") || !strings.Contains(left, "br1") {
			t.Errorf("after removal:\n%s", left)
		}
	})
}
