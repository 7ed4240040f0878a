package watch

import (
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dcni/pkg/host/hosttest"
	"dcni/pkg/host/proc"
	"dcni/pkg/host/rtnl"
	"dcni/pkg/netns"

	"golang.org/x/sys/unix"
)

// eventList collects what a watcher reports.
type eventList struct {
	mu   sync.Mutex
	list []Event
}

func (h *eventList) add(event Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, event)
}

// take returns what came since the last time, sorted and each once. It waits for
// a wanted one, at most 2 s, and then a moment for more: for what else says the same,
// which comes late on a busy machine, a longer one.
func (h *eventList) take(wanted bool) []Event {
	for deadline := time.Now().Add(2 * time.Second); wanted && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		h.mu.Lock()
		n := len(h.list)
		h.mu.Unlock()
		if n > 0 {
			break
		}
	}
	settle := 80 * time.Millisecond // the watcher gathers messages, and asks how things are only then
	if wanted {
		settle = 150 * time.Millisecond
	}
	time.Sleep(settle)
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.list
	h.list = nil
	slices.SortFunc(list, byText)
	return slices.Compact(list)
}

// wait waits for an event, and forgets those before it.
func (h *eventList) wait(t *testing.T, want Event) {
	t.Helper()
	var all []Event
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		list := h.take(true)
		if slices.Contains(list, want) {
			return
		}
		all = append(all, list...)
	}
	t.Errorf("no event %v: %v", want, all)
}

func byText(a, b Event) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) }

// looksAgain reports whether a sandbox that lost an address is still to be looked at
// once more.
func (w *Watcher) looksAgain() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.again) > 0
}

func (h Event) String() string {
	return []string{"anything", "rules", "foreign", "iptables", "forwarding", "link", "inside", "lo", "parent"}[h.What] + " " + h.Link
}

// but returns a function that collects all but what may be about parents.
func (h *eventList) but() func(Event) {
	return func(event Event) {
		if event.What != Parent && (event.What != Inside || event.Link != "") {
			h.add(event)
		}
	}
}

// TestInsideOf: what is about a link that is not the other end of a veth of ours may be
// about one on a link of the host's, in a sandbox that has both.
func TestInsideOf(t *testing.T) {
	const sandbox, eth0 = 3, 2
	w := linkWatch{links: map[int]*rtnl.Link{7: {Index: 7, Kind: "veth", NSID: sandbox, Peer: eth0, Name: "v1"}}}
	veth, other := Event{What: Inside, Link: "v1"}, Event{What: Inside, NSID: sandbox}
	for index, want := range map[int][]Event{
		eth0: {veth}, 5: {other}, rtnl.LoIndex: {veth, other}, anyIndex: {veth, other},
	} {
		if got := w.insideOf(sandbox, index); !slices.Equal(got, want) {
			t.Errorf("index %d: %v, want %v", index, got, want)
		}
	}
	if got := w.insideOf(4, eth0); !slices.Equal(got, []Event{{What: Inside, NSID: 4}}) {
		t.Errorf("a sandbox without a veth: %v", got)
	}
}

// TestWatchParents: each link may be a parent, and tells so; and sandboxes tell that no
// veth leads to, once they have a number.
func TestWatchParents(t *testing.T) {
	hosttest.InNewNS(t, func() {
		if out, err := exec.Command("sh", "-c", "ip link add p0 type veth peer name p1 && ip link add link p1 m0 type macvlan && ip link del m0").CombinedOutput(); err != nil {
			t.Skipf("no macvlan: %s", out)
		}
		sandbox := exec.Command("unshare", "-n", "sleep", "60")
		if err := sandbox.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = sandbox.Process.Kill(); _ = sandbox.Wait() }()
		path := fmt.Sprintf("/proc/%d/ns/net", sandbox.Process.Pid)
		in := "nsenter --net=" + path + " "
		waitForNamespace(t, sandbox.Process.Pid)

		var got eventList
		w, err := New(func(string) bool { return false }, got.add)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- w.Run() }()
		defer func() { w.Close(); <-ended }()
		numbers, err := OpenNSIDs()
		if err != nil {
			t.Fatal(err)
		}
		defer numbers.Close()
		if id, err := numbers.Of(path); err == nil {
			t.Errorf("the sandbox has number %d", id)
		}
		ns, err := netns.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		for range 2 {
			if err := numbers.rt.Number(ns.Fd()); err != nil {
				t.Fatal(err)
			}
		}
		id, err := numbers.Of(path)
		if err != nil {
			t.Fatal(err)
		}
		attach := fmt.Sprintf("ip link add link p1 name m1 type macvlan mode bridge; ip link set m1 netns %d; ", sandbox.Process.Pid) +
			in + "ip link set m1 name eth0; " + in + "ip link set eth0 up; " + in + "ip addr add 10.9.0.2/24 dev eth0"
		for _, c := range []struct{ do, want string }{
			{"ip link set p0 up", "parent p0"},
			{"ip link set p1 up", "parent p1"},
			{attach, "parent m1"},
			{in + "ip addr del 10.9.0.2/24 dev eth0", "inside "},
			{in + "ip link set eth0 down", "inside "},
			{"ip link set p0 mtu 1400", "parent p0"},
			{"ip link set p0 down", "parent p0"},
			{"ip link set p0 name p7", "parent p0, parent p7"},
			{"ip link set p7 addrgenmode none", ""},
			{in + "ip link del eth0", "inside "},
			{"ip link del p1", "parent p1, parent p7"},
		} {
			hosttest.Shell(t, c.do)
			var words []string
			for _, event := range got.take(c.want != "") {
				words = append(words, event.String())
				if event.What == Inside && event.NSID != id {
					t.Errorf("%s: of namespace %d, want %d", c.do, event.NSID, id)
				}
			}
			if have := strings.Join(words, ", "); have != c.want {
				t.Errorf("%s:\n events %q\n want %q", strings.ReplaceAll(c.do, in, "in sandbox "), have, c.want)
			}
		}
	})
}

// TestWatch takes things away and compares the events: those that matter, and
// none for what comes, or is another's.
func TestWatch(t *testing.T) {
	hosttest.InNewNS(t, func() {
		sandbox := exec.Command("unshare", "-n", "sleep", "60")
		if err := sandbox.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = sandbox.Process.Kill(); _ = sandbox.Wait() }()
		in := fmt.Sprintf("nsenter --net=/proc/%d/ns/net ", sandbox.Process.Pid)
		waitForNamespace(t, sandbox.Process.Pid)
		hosttest.Shell(t, "ip link set lo up; sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1; nft add table inet other")

		var got eventList
		var nftIsOurs atomic.Bool
		w, err := New(func(program string) bool { return program == "nft" && nftIsOurs.Load() }, got.but())
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- w.Run() }()
		defer func() { w.Close(); <-ended }()

		const v, pair = "veth035irk9ux1p", "ip link add veth035irk9ux1p mtu 1500 master br0 type veth peer name eth0 netns "
		pid := fmt.Sprint(sandbox.Process.Pid)
		attach := pair + pid + "; ip link set " + v + " type bridge_slave hairpin on; ip link set " + v + " up;" +
			in + "ip link set eth0 up;" + in + "ip addr add 10.9.0.2/24 dev eth0;" + in + "ip route add default via 10.9.0.1"
		for _, c := range []struct{ do, want string }{
			{"ip link add br0 address 02:00:00:00:00:02 mtu 1400 type bridge", "foreign "},                                 // it may be another program's
			{"ip link set br0 mtu 1500 addrgenmode none; ip addr add 10.9.0.1/24 dev br0; ip link set br0 up", "link br0"}, // how it is to be set, the plugin knows
			{in + "sysctl -qw net.ipv4.conf.default.arp_notify=1 net.ipv6.conf.default.ndisc_notify=1 net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.accept_ra=0 net.ipv6.conf.default.autoconf=0 net.ipv6.conf.default.accept_redirects=0 net.ipv4.conf.default.accept_redirects=0", ""},
			{attach, ""},
			{in + "ip link set lo up", ""},
			{"ip link set " + v + " down", "link " + v},
			{"ip link set " + v + " up", ""},
			{"ip link set " + v + " nomaster", "link " + v},
			{"ip link set " + v + " master br0; ip link set " + v + " type bridge_slave hairpin on", ""},
			{"bridge link set dev " + v + " hairpin off", "link " + v},
			{"bridge link set dev " + v + " hairpin on", ""},
			{"bridge link set dev " + v + " isolated on", "link " + v},
			{"ip link set " + v + " mtu 1400", "link " + v},
			{"ip addr del 10.9.0.1/24 dev br0", "link br0"},
			{"ip addr add 10.9.0.1/24 dev br0", ""},
			{"ip route del 10.9.0.0/24", "link br0"},
			{"ip link set br0 down", "link br0"},
			{"ip link set br0 up", ""},
			{"sysctl -qw net.ipv4.conf.br0.route_localnet=1", "link br0"},
			{"ip link set br0 mtu 1300", "link br0"},
			{"ip link set br0 mtu 1500", "link br0"},
			{"sysctl -qw net.ipv6.conf.br0.accept_ra=0", "link br0"},
			{in + "sysctl -qw net.ipv4.conf.eth0.arp_notify=0", "inside " + v},
			{in + "sysctl -qw net.ipv4.conf.lo.arp_notify=0", ""},
			{in + "sysctl -qw net.ipv6.conf.eth0.accept_ra=1", "inside " + v},
			{in + "ip -6 route add default via fe80::99 dev eth0 proto ra metric 1024", "inside " + v},
			{in + "ip -6 route add 2001:db8::/64 via fe80::99 dev eth0", ""},
			{in + "ip route replace default via 10.9.0.1 metric 7; " + in + "ip route replace default via 10.9.0.7 metric 7", "inside " + v},
			{in + "ip route del default via 10.9.0.7", "inside " + v},
			{in + "ip route del default", "inside " + v},
			{in + "ip addr del 10.9.0.2/24 dev eth0", "inside " + v},
			{in + "ip link set eth0 down", "inside " + v},
			{in + "ip link set eth0 up", ""},
			{"tc qdisc add dev " + v + " root tbf rate 1mbit burst 10k limit 10k", "link " + v},
			{"tc qdisc del dev " + v + " root", "link " + v},
			{"tc qdisc add dev " + v + " root pfifo; tc qdisc del dev " + v + " root", ""},
			{in + "tc qdisc add dev eth0 root tbf rate 1mbit burst 10k limit 10k", "inside " + v},
			{in + "tc qdisc del dev eth0 root", "inside " + v},
			{in + "ip link set lo down", "inside " + v + ", lo "}, // those that joined the sandbox have no link here
			{in + "ip link add x1 type veth peer name x2; " + in + "ip link set x1 up; " + in + "ip addr add 10.8.0.1/24 dev x1; " + in + "ip link del x1", ""},
			{in + "nft 'add table ip dcni; add chain ip dcni a; add rule ip dcni a accept'", "inside " + v},
			{in + "nft delete table ip dcni", "inside " + v},
			{in + "ip rule add pref 1684237929 ipproto udp dport 53 lookup 1684237929; " + in + "ip -6 rule add pref 1684237929 lookup 1684237929", ""},
			{in + "ip rule del pref 1684237929", "inside " + v},
			{in + "ip -6 rule flush", "inside " + v},
			{in + "ip rule add pref 53 lookup 53; " + in + "ip rule del pref 53", ""},
			{in + "nft 'add table ip other; delete table ip other'", ""},
			{"nft 'add table inet dcni; add chain inet dcni dcni-user'", "rules "},
			{"nft add table inet dcni '{ flags dormant; }'", "rules "},
			{"nft 'add table inet dcni { flags dormant; }; add table inet other'", ""}, // it is already
			{"nft 'add set inet dcni s { type ipv4_addr; }; add element inet dcni s { 1.1.1.1 }'", ""},
			{"nft add rule inet dcni dcni-user accept; nft flush chain inet dcni dcni-user", ""},
			{"nft delete element inet dcni s '{ 1.1.1.1 }'", "rules "},
			{"nft 'add chain inet dcni forward; add rule inet dcni forward accept'", "rules "},
			{"nft 'add chain inet dcni f { type filter hook forward priority 0; }'", "rules "},
			{"nft 'add chain inet dcni f { policy drop; }'", "rules "},
			{"nft add chain inet other c; nft add rule inet other c accept", "foreign "},
			{"nft delete chain inet other c", "foreign "},
			{"nft 'add table ip nat; add chain ip nat KUBE-SERVICES; add rule ip nat KUBE-SERVICES accept'; sleep 0.5", ""},
			{"nft 'add chain ip nat DCNI; add rule ip nat DCNI accept'; sleep 0.5", "iptables "},
			{"nft delete table ip nat; sleep 0.5", "iptables "},
			{in + "nft 'add table ip other; add chain ip other c; delete table ip other'; sleep 0.5", ""},
			{"nft delete table inet other; nft add table ip dcni; nft delete table ip dcni", ""},
			{"nft flush ruleset", "rules "},
			{"sysctl -qw net.ipv4.ip_forward=0", "forwarding "},
			{"sysctl -qw net.ipv4.ip_forward=1", ""},
			{"sysctl -qw net.ipv6.conf.all.forwarding=0", "forwarding "},
			{"sleep 0.5", ""},
			{"ip link add d0 type bridge; ip link set d0 up; ip link add d1 master d0 type veth peer name d2; ip link del d1; sleep 0.5", "foreign , link d0"}, // new, and that is all
			{"ip link add vx0 mtu 1400 master br0 type vxlan id 7 local 127.0.0.1 dstport 4789 nolearning; ip link set vx0 type bridge_slave learning off; ip link set vx0 up", ""},
			{"ip link add vx1 type vxlan id 8 local 127.0.0.1 dstport 4789; ip link set vx1 up; ip link del vx1", ""}, // no bridge's
			{"bridge link set dev vx0 learning on", "link vx0"},
			{"bridge link set dev vx0 learning off", ""},
			{"ip link set vx0 nomaster", "link vx0"},
			{"ip link set vx0 master br0; ip link set vx0 type bridge_slave learning off", ""},
			{"ip link set vx0 down", "link vx0"},
			{"ip link set vx0 up", ""},
			{"ip link del vx0", "link vx0"},
			{"nft 'add table inet dcni-underlay; add chain inet dcni-underlay input; add rule inet dcni-underlay input accept'", "rules "},
			{"nft delete table inet dcni-underlay", "rules "},
			{"ip link del " + v, "link " + v},
			{"ip link del br0", "link br0"},
		} {
			hosttest.Shell(t, c.do)
			var words []string
			list := got.take(c.want != "")
			if w.looksAgain() {
				for w.looksAgain() { // and says the same once more
					time.Sleep(20 * time.Millisecond)
				}
				list = append(list, got.take(false)...)
				slices.SortFunc(list, byText)
				list = slices.Compact(list)
			}
			for _, h := range list {
				words = append(words, h.String())
			}
			// A veth that changes by itself as its bridge goes is no mistake.
			if have := strings.Join(words, ", "); have != c.want && !strings.HasPrefix(c.do, "ip link del br0") {
				t.Errorf("%s:\n events %q\n want %q", strings.ReplaceAll(c.do, in, "in sandbox "), have, c.want)
			}
		}

		nftIsOurs.Store(true)
		hosttest.Shell(t, "nft 'add table inet dcni; delete table inet dcni'")
		if list := got.take(false); len(list) > 0 {
			t.Errorf("events of a program of ours: %v", list)
		}
	})
}

// waitForNamespace waits until a process is in a namespace of its own.
func waitForNamespace(t *testing.T, pid int) {
	t.Helper()
	own, err := netns.At("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if id := proc.Process(pid).Namespace("net"); id != own && id != (netns.ID{}) {
			return
		}
		runtime.Gosched()
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("no namespace")
}

// TestWatchLoss: a watcher that can't keep up is told that anything may have happened, whichever socket had no room, and hears
// what comes later.
func TestWatchLoss(t *testing.T) {
	for name, flood := range map[string]struct {
		socket func(*Watcher) *eventSocket
		script string
	}{
		"links": {func(w *Watcher) *eventSocket { return w.route }, "for i in $(seq 50); do echo link set lo up; echo link set lo down; done | ip -batch -"},
		"rules": {func(w *Watcher) *eventSocket { return w.rules }, `nft 'table ip other { chain a { }; }
			table inet dcni { chain forward { }; }'
			for i in $(seq 200); do echo add rule ip other a counter comment x$i; done | nft -f -
			nft delete table inet dcni`},
	} {
		t.Run(name, func(t *testing.T) { testWatchLoss(t, flood.socket, flood.script) })
	}
}

func testWatchLoss(t *testing.T, socket func(*Watcher) *eventSocket, script string) {
	hosttest.InNewNS(t, func() {
		var got eventList
		w, err := New(func(string) bool { return false }, got.add)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if err := unix.SetsockoptInt(socket(w).fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<10); err != nil {
			t.Fatal(err)
		}
		hosttest.Shell(t, script)
		go func() { _ = w.Run() }()
		got.wait(t, Event{What: Anything})
		if err := unix.SetsockoptInt(socket(w).fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<20); err != nil {
			t.Fatal(err)
		}
		hosttest.Shell(t, "nft add table inet dcni; nft delete table inet dcni")
		got.wait(t, Event{What: Rules})
	})
}
