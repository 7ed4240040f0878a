package parents_test

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"dcni/pkg/host"
	"dcni/pkg/host/hosttest"
	"dcni/pkg/netns"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// A machine is a host with what is on record of it.
type machine struct {
	*host.Host
	records records.Store
}

// onParent runs a test on a host with a parent p0, and a sandbox.
func onParent(t *testing.T, f func(h machine, path string, cookie uint64)) {
	hosttest.InSandbox(t, func(path string, cookie uint64) {
		hosttest.InNewNS(t, func() {
			if out, err := exec.Command("sh", "-c", "ip link add p0 type veth peer name p1 && ip link set p0 up && ip link set p1 up && ip link add link p1 m0 type macvlan && ip link del m0").CombinedOutput(); err != nil {
				t.Skipf("no macvlan: %s", out)
			}
			store := records.Store{Run: t.TempDir(), Lib: t.TempDir()}
			h, err := host.New(store)
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			f(machine{h, store}, path, cookie)
		})
	})
}

// A child is made once, follows its parent's MTU, and is removed in its own namespace
// only.
func TestChild(t *testing.T) {
	onParent(t, func(h machine, path string, cookie uint64) {
		o := &wire.Child{
			Owner: wire.Attachment{Network: "lan", Container: "c1", IfName: "eth0"}, NetNS: path, Cookie: cookie,
			Name: "eth0", Kind: wire.KindMacvlan, Parent: "p0", Mode: "private", MAC: "02:42:00:00:00:07", MTU: 1500,
		}
		for _, want := range []bool{true, false} {
			if changed, err := h.Ensure(o); changed != want || err != nil {
				t.Fatalf("ensure: %t, %v; want %t", changed, err, want)
			}
		}
		if err := h.Check(o); err != nil {
			t.Error(err)
		}
		hosttest.Shell(t, "ip link set p0 mtu 1400")
		h.CloseNetNS("")
		if err := h.Check(o); err != nil {
			t.Error("it follows its parent:", err)
		}
		hosttest.Shell(t, "ip link set p0 mtu 1500")
		h.CloseNetNS("")
		if err := h.Check(o); err == nil || err.Error() != "has mtu 1400 instead of 1500" {
			t.Errorf("check: %v", err)
		}
		if changed, err := h.Ensure(o); !changed || err != nil || h.Check(o) != nil {
			t.Errorf("ensure: %t, %v", changed, err)
		}
		hosttest.Shell(t, "ip link set p0 name p9; ip link set p1 name p0")
		h.CloseNetNS("")
		if err := h.Check(o); err == nil || err.Error() != "eth0 in the sandbox is not on p0" {
			t.Errorf("on another parent: %v", err)
		}
		if changed, err := h.Ensure(o); !changed || err != nil || h.Check(o) != nil {
			t.Errorf("made again: %t, %v, %v", changed, err, h.Check(o))
		}
		second := *o
		second.Kind = wire.KindIpvlan
		if _, err := h.Ensure(&second); err == nil || !strings.Contains(err.Error(), `CNI_IFNAME "eth0": the sandbox has an interface of that name`) {
			t.Errorf("another kind: %v", err)
		}
		other := *o
		other.Cookie++
		if err := h.Remove(&other); err != nil || h.Check(o) != nil {
			t.Errorf("removed in another namespace: %v, %v", err, h.Check(o))
		}
		moved := *o
		moved.NetNS = "/nowhere"
		for range 2 { // the namespace is found without its path, for this process has it open
			if err := h.Remove(&moved); err != nil {
				t.Error(err)
			}
		}
		for range 2 {
			if err := h.Remove(o); err != nil {
				t.Error(err)
			}
		}
		if _, err := h.HasLink(path, "eth0"); err != nil || h.Check(o) == nil {
			t.Errorf("left: %v", err)
		}
	})
}

// An interface is made with what plugins behind had set of it, in one step: it never is without.
func TestTuned(t *testing.T) {
	onParent(t, func(h machine, path string, cookie uint64) {
		hosttest.Shell(t, "ip link add br0 type bridge")
		length := 77
		tuned := wire.Tuning{Promisc: true, AllMulti: true, TxQueueLen: &length}
		child := &wire.Child{
			Owner: wire.Attachment{Network: "lan", Container: "c1", IfName: "eth0"}, NetNS: path, Cookie: cookie,
			Name: "eth0", Kind: wire.KindMacvlan, Parent: "p0", Mode: "bridge", MTU: 1400, Tuned: tuned,
		}
		tuned.MTU = 1400
		pair := &wire.Veth{Name: "v1", Bridge: "br0", NetNS: path, Peer: "eth1", MAC: "02:42:00:00:00:07", MTU: 1500, Tuned: tuned}
		for name, o := range map[string]wire.Object{"eth0": child, "eth1": pair} {
			if changed, err := h.Ensure(o); !changed || err != nil || h.Check(o) != nil {
				t.Fatalf("%s: %t, %v, %v", name, changed, err, h.Check(o))
			}
			got, err := exec.Command("nsenter", "--net="+strings.Replace(path, "self", strconv.Itoa(os.Getpid()), 1), "ip", "-o", "link", "show", name).CombinedOutput()
			for _, word := range []string{"PROMISC", "ALLMULTI", "mtu 1400 ", "qlen 77"} {
				if err != nil || !strings.Contains(string(got), word) {
					t.Errorf("no %s: %s, %v", word, got, err)
				}
			}
		}
		if !child.Made || !pair.Made {
			t.Errorf("made: %t and %t", child.Made, pair.Made)
		}
		child.Made, pair.Made = false, false
		for _, o := range []wire.Object{child, pair} {
			if changed, err := h.Ensure(o); changed || err != nil {
				t.Errorf("again: %t, %v", changed, err)
			}
		}
		if child.Made || pair.Made {
			t.Error("made again")
		}
	})
}

// What an ADD left that died before the interface got its name is removed, too.
func TestChildWithoutName(t *testing.T) {
	onParent(t, func(h machine, path string, cookie uint64) {
		o := &wire.Child{Owner: wire.Attachment{Network: "lan", Container: "c1", IfName: "eth0"}, NetNS: path, Cookie: cookie, Name: "eth0", Kind: wire.KindMacvlan, Parent: "p0", Mode: "bridge"}
		if _, err := h.Ensure(o); err != nil {
			t.Fatal(err)
		}
		ns, err := netns.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		err = ns.Do(func() error { return exec.Command("ip", "link", "set", "eth0", "name", o.Owner.HostLink()).Run() })
		if err != nil {
			t.Fatal(err)
		}
		h.CloseNetNS("")
		if err := h.Remove(o); err != nil {
			t.Error(err)
		}
		if there, err := h.HasLink(path, o.Owner.HostLink()); there || err != nil {
			t.Errorf("left: %t, %v", there, err)
		}
	})
}

// An interface that the container renamed gets its name back, and goes with DEL if that
// was not to be. One of another attachment's that has the name stays.
func TestChildByAlias(t *testing.T) {
	onParent(t, func(h machine, path string, cookie uint64) {
		of := func(network string) *wire.Child {
			return &wire.Child{Owner: wire.Attachment{Network: network, Container: "c1", IfName: "eth0"}, NetNS: path, Cookie: cookie, Name: "eth0", Kind: wire.KindMacvlan, Parent: "p0", Mode: "bridge"}
		}
		inside := func(args ...string) {
			t.Helper()
			ns, err := netns.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer ns.Close()
			if err := ns.Do(func() error { return exec.Command("ip", args...).Run() }); err != nil {
				t.Fatal(err)
			}
			h.CloseNetNS("")
		}
		lan, other := of("lan"), of("other")
		if _, err := h.Ensure(lan); err != nil {
			t.Fatal(err)
		}
		inside("link", "set", "eth0", "name", "foo")
		if changed, err := h.Ensure(lan); !changed || err != nil || h.Check(lan) != nil {
			t.Errorf("renamed: %t, %v, %v", changed, err, h.Check(lan))
		}
		if _, err := h.Ensure(other); err == nil || !strings.Contains(err.Error(), "the sandbox has an interface of that name") {
			t.Errorf("another's: %v", err)
		}
		if err := h.Remove(other); err != nil || h.Check(lan) != nil {
			t.Errorf("another's is removed: %v, %v", err, h.Check(lan))
		}
		inside("link", "set", "eth0", "name", "foo", "up")
		if err := h.Remove(lan); err != nil {
			t.Error(err)
		}
		if there, err := h.HasLink(path, "foo"); there || err != nil {
			t.Errorf("left: %t, %v", there, err)
		}
	})
}

// The kernel refuses a second macvlan beside one in mode passthru, and that is said. What
// it refuses for another reason is not called so.
func TestChildRefused(t *testing.T) {
	onParent(t, func(h machine, path string, cookie uint64) {
		of := func(mode, mac string) *wire.Child {
			return &wire.Child{Owner: wire.Attachment{Network: "lan", Container: "c1", IfName: "eth0"}, NetNS: path, Cookie: cookie, Name: "eth0", Kind: wire.KindMacvlan, Parent: "p0", Mode: mode, MAC: mac}
		}
		const multicast, conflict = "01:00:5e:00:00:01", "passthru goes together with no other"
		for _, mode := range []string{"bridge", "passthru"} {
			small := of(mode, multicast)
			small.MTU = 20 // below the least of Ethernet
			if _, err := h.Ensure(small); err == nil || strings.Contains(err.Error(), conflict) {
				t.Errorf("alone, in mode %s: %v", mode, err)
			}
			if err := h.Remove(small); err != nil {
				t.Error(err)
			}
		}
		stayIn(t, path)
		first, second := of("passthru", ""), of("bridge", "")
		if _, err := h.Ensure(first); err != nil {
			t.Fatal(err)
		}
		second.Name, second.Owner.IfName = "eth1", "eth1"
		if _, err := h.Ensure(second); err == nil || !strings.Contains(err.Error(), conflict) {
			t.Errorf("beside passthru: %v", err)
		}
	})
}

// A link that dcni makes is on record and is removed; another owner's is not, and none
// is made beside it.
func TestSharedLink(t *testing.T) {
	onParent(t, func(h machine, _ string, _ uint64) {
		o := &wire.SharedLink{Name: "mh-0", Kind: wire.KindMacvlan, Parent: "p0"}
		own := &wire.SharedLink{Name: "dm-0", Kind: wire.KindDummy}
		for _, o := range []*wire.SharedLink{o, own} {
			if changed, err := h.Ensure(o); !changed || err != nil {
				t.Fatalf("%s: %t, %v", o, changed, err)
			}
		}
		list, err := h.HostObjects()
		if err != nil || len(list) != 2 || list[0].String() != own.String() || list[1].String() != o.String() {
			t.Errorf("on record: %v, %v", list, err)
		}
		hosttest.Shell(t, "ip link set mh-0 down")
		h.CloseNetNS("")
		if err := h.Check(o); err == nil {
			t.Error("one that is down is as it should be")
		}
		if changed, err := h.Ensure(o); !changed || err != nil || h.Check(o) != nil {
			t.Errorf("raised: %t, %v", changed, err)
		}
		access := &wire.HostAccess{Owner: wire.Attachment{Network: "lan", Container: "c1", IfName: "eth0"}, Link: "mh-0", Parent: "p0", Addresses: []netip.Addr{netip.MustParseAddr("10.7.0.2")}}
		if _, err := h.Ensure(access); err == nil || !strings.Contains(err.Error(), "the host has no address beside 10.7.0.2 on parent p0") {
			t.Errorf("without an address: %v", err)
		}
		hosttest.Shell(t, "ip addr add 10.7.0.1/24 dev p0; ip link set p0 up; ip route add 10.7.0.3/32 dev mh-0 metric 5")
		if changed, err := h.Ensure(access); !changed || err != nil || h.Check(access) != nil {
			t.Errorf("access: %t, %v", changed, err)
		}
		lost := *access
		lost.Addresses = nil // by its identity alone
		if err := h.Remove(&lost); err != nil || h.Check(access) == nil {
			t.Errorf("access removed: %v", err)
		}
		if out, _ := exec.Command("ip", "route", "show", "dev", "mh-0").Output(); !strings.Contains(string(out), "10.7.0.3") {
			t.Errorf("another's route is gone: %s", out)
		}
		for _, o := range []*wire.SharedLink{o, own, o} {
			if err := h.Remove(o); err != nil {
				t.Error(err)
			}
		}
		hosttest.Shell(t, "ip link add dm-0 type bridge")
		h.CloseNetNS("")
		if changed, err := h.Ensure(own); changed || err != nil {
			t.Errorf("another owner's: %t, %v", changed, err)
		}
		if err := h.Remove(own); err != nil {
			t.Error(err)
		}
		if there, err := h.HasLink("", "dm-0"); !there || err != nil {
			t.Errorf("another owner's is removed: %v", err)
		}
	})
}

// A link that its owner made again in place of dcni's, or that something else uses by now,
// is the owner's: dcni forgets that it made it.
func TestSharedLinkOfOthers(t *testing.T) {
	const again = "ip link del dm-0; ip link add dm-0 type bridge; ip link set dm-0 up; "
	for name, c := range map[string]struct {
		by   string
		left bool
	}{
		"unused":                {"ip link set dm-0 down", false},
		"made again":            {again, true},
		"with an address":       {"ip addr add 10.8.0.1/24 dev dm-0", true},
		"with one of IPv6":      {"ip addr add fd00:8::1/64 dev dm-0", true},
		"with a master":         {"ip link add br9 type bridge; ip link set dm-0 master br9", true},
		"with a port":           {"ip link add v8 type veth peer name v9; ip link set v8 master dm-0 || ip link add link dm-0 m9 type macvlan", true},
		"with a child":          {"ip link add link dm-0 m9 type macvlan", true},
		"with a child far away": {"ip link add link dm-0 m9 type macvlan; ip link set m9 netns $SANDBOX", true},
		"gone":                  {"ip link del dm-0", false},
	} {
		t.Run(name, func(t *testing.T) {
			onParent(t, func(h machine, path string, _ uint64) {
				if name == "with a master" && exec.Command("ip", "link", "add", "d9", "type", "dummy").Run() != nil {
					t.Skip("no dummy links; the bridge in place of one can't be a port")
				}
				own := &wire.SharedLink{Name: "dm-0", Kind: wire.KindDummy}
				if changed, err := h.Ensure(own); !changed || err != nil {
					t.Fatalf("%t, %v", changed, err)
				}
				stayIn(t, path)
				hosttest.Shell(t, strings.ReplaceAll(c.by, "$SANDBOX", strings.Replace(path, "self", strconv.Itoa(os.Getpid()), 1)))
				h.CloseNetNS("")
				if err := h.Remove(own); err != nil {
					t.Error(err)
				}
				if there, err := h.HasLink("", "dm-0"); there != c.left || err != nil {
					t.Errorf("there: %t, %v; want %t", there, err, c.left)
				}
				if h.records.HasChange(own.Key()) {
					t.Error("it is still on record")
				}
			})
		})
	}
}

// A link whose record can't be read goes with its last user all the same.
func TestSharedLinkUnreadable(t *testing.T) {
	onParent(t, func(h machine, _ string, _ uint64) {
		for _, o := range []*wire.SharedLink{{Name: "mh-0", Kind: wire.KindMacvlan, Parent: "p0"}, {Name: "dm-0", Kind: wire.KindDummy}} {
			if changed, err := h.Ensure(o); !changed || err != nil {
				t.Fatalf("%t, %v", changed, err)
			}
			file := filepath.Join(h.records.Run, "host", "link_"+o.Name+".json")
			if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			list, err := h.HostObjects()
			if err != nil || len(list) != 1 || list[0].Key() != o.Key() {
				t.Fatalf("on record: %v, %v", list, err)
			}
			if err := h.Remove(list[0]); err != nil || h.Check(o) == nil || h.records.HasChange(o.Key()) {
				t.Errorf("%s is left: %v", o, err)
			}
		}
	})
}

// Healing leaves a parent that is down, and a link of another owner's: both are theirs.
func TestHealOfParents(t *testing.T) {
	onParent(t, func(h machine, _ string, _ uint64) {
		own := &wire.SharedLink{Name: "mh-0", Kind: wire.KindMacvlan, Parent: "p0"}
		if _, err := h.Ensure(own); err != nil {
			t.Fatal(err)
		}
		hosttest.Shell(t, "ip link add dm-0 type bridge; ip link set p1 down; ip link set mh-0 down")
		h.CloseNetNS("")
		said := 0
		wire.Heal(h, []wire.Object{&wire.Parent{Name: "p1"}, &wire.Parent{Name: "nosuch"}, &wire.SharedLink{Name: "dm-0", Kind: wire.KindDummy}, own}, func(o wire.Object, was, err error) {
			if said++; o != own || err != nil {
				t.Errorf("%s was %v, and is %v", o, was, err)
			}
		})
		if said != 1 {
			t.Errorf("%d reports, want 1, of what dcni made", said)
		}
		if err := h.Check(&wire.Parent{Name: "p1"}); err == nil || err.Error() != "it is down, and no packet passes" {
			t.Errorf("check: %v", err)
		}
	})
}

// stayIn runs a process in a namespace as long as the test lasts.
func stayIn(t *testing.T, path string) {
	t.Helper()
	ns, err := netns.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	cmd := exec.Command("sleep", "600")
	if err := ns.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
}

// What the owner made again in place of dcni's link is used as it is.
func TestSharedLinkMadeAgain(t *testing.T) {
	onParent(t, func(h machine, _ string, _ uint64) {
		own := &wire.SharedLink{Name: "mh-0", Kind: wire.KindMacvlan, Parent: "p0"}
		if changed, err := h.Ensure(own); !changed || err != nil {
			t.Fatalf("%t, %v", changed, err)
		}
		hosttest.Shell(t, "ip addr add 10.8.0.1/32 dev mh-0") // as hostAccess does
		if err := h.Remove(own); err != nil || h.Check(own) == nil {
			t.Errorf("left: %v", err)
		}
		if changed, err := h.Ensure(own); !changed || err != nil {
			t.Fatalf("%t, %v", changed, err)
		}
		hosttest.Shell(t, "ip link del mh-0; ip link add link p0 mh-0 type vlan id 7 || ip link add mh-0 type bridge")
		h.CloseNetNS("")
		if changed, err := h.Ensure(own); changed || err != nil || h.records.HasChange(own.Key()) {
			t.Errorf("made again: %t, %v", changed, err)
		}
	})
}
