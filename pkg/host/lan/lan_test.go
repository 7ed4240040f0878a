package lan

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/hosttest"
	"dcni/pkg/wire"
)

// aLAN is a link with another host at its other end, which has 10.9.0.5 and fd00:9::5,
// and a link on it that is asked through.
type aLAN struct {
	t     *testing.T
	other *hosttest.Node
	link  *net.Interface
}

func newLAN(t *testing.T, f func(l aLAN)) {
	hosttest.InNewNS(t, func() {
		top := hosttest.NewTopology(t)
		other := top.NewNode("other", v4.String(), v6.String())
		top.Veth("lan0", other, 0, "24", "10.9.0.1", "fd00:9::1")
		hosttest.Shell(t, "ip link add eth0 link lan0 type macvlan mode bridge && ip link set eth0 up")
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		l := aLAN{t, other, link}
		for l.at("ip -6 route show table local ff00::/8 dev eth0") == "" { // it takes no multicast until it has noticed its carrier
			time.Sleep(time.Millisecond)
		}
		f(l)
	})
}

// at runs a command at the other host.
func (l aLAN) at(command string) string {
	l.t.Helper()
	var out []byte
	err := l.other.Do(func() (err error) {
		out, err = exec.Command("sh", "-ec", command).CombinedOutput()
		return err
	})
	if err != nil {
		l.t.Fatalf("%s: %v: %s", command, err, out)
	}
	return string(out)
}

// detect asks for addresses; beside does something at the other host before the answer
// is waited for.
func (l aLAN) detect(beside func(), addresses ...netip.Addr) []wire.Conflict {
	l.t.Helper()
	d, err := Begin(l.link.Index, l.link.HardwareAddr, addresses, false)
	if err != nil {
		l.t.Fatal(err)
	}
	defer d.Close()
	beside()
	taken, err := d.Wait()
	if err != nil {
		l.t.Fatal(err)
	}
	return taken
}

// say sends frames from the other host.
func (l aLAN) say(frames ...[]byte) {
	err := l.other.Do(func() error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := listen(link.Index, 0, program{{Code: unix.BPF_RET | unix.BPF_K}})
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, frame := range frames {
			err = errors.Join(err, send(fd, frame))
		}
		return err
	})
	if err != nil {
		l.t.Error(err)
	}
}

func quiet() {}

// A real host answers for what it has, and for nothing else.
func TestDetect(t *testing.T) {
	free4, free6 := netip.MustParseAddr("10.9.0.6"), netip.MustParseAddr("fd00:9::6")
	newLAN(t, func(l aLAN) {
		_, after, _ := strings.Cut(l.at("ip -o link show eth0"), "link/ether ")
		theirMAC, _, _ := strings.Cut(after, " ")
		for _, c := range []struct {
			ask  []netip.Addr
			want netip.Addr
		}{
			{[]netip.Addr{v4}, v4},
			{[]netip.Addr{v6}, v6},
			{[]netip.Addr{free4, v6}, v6},
			{[]netip.Addr{v4, free6}, v4},
			{[]netip.Addr{free4, free6}, none},
			{nil, none},
		} {
			taken := l.detect(quiet, c.ask...)
			if len(taken) == 0 != !c.want.IsValid() || len(taken) > 0 && (taken[0] != wire.Conflict{Address: c.want, MAC: theirMAC}) {
				t.Errorf("asked for %v: %v; want %v at %s", c.ask, taken, c.want, theirMAC)
			}
		}
		// Another host looks for an address at the same time, or has it, though it does not
		// answer.
		for _, c := range []struct {
			frame []byte
			want  netip.Addr
		}{
			{arpProbe(theirs, free4), free4},
			{ndProbe(theirs, free6, [nonceLen]byte{9}), free6},
			{arp(theirs, free4, v4), free4},
			{ndAnnouncement(theirs, free6), free6},
		} {
			if taken := l.detect(func() { l.say(c.frame) }, free4, free6); len(taken) != 1 || taken[0].Address != c.want {
				t.Errorf("another host says %x: %v", c.frame, taken)
			}
		}
		// A switch sends our own back, and a neighbour resolves the address.
		own := mac(l.link.HardwareAddr)
		echo := [][]byte{arpProbe(own, free4), ndProbe(own, free6, [nonceLen]byte{9}), arp(theirs, v4, free4)}
		if taken := l.detect(func() { l.say(echo...) }, free4, free6); len(taken) > 0 {
			t.Errorf("an echo is taken for a host: %v", taken)
		}
	})
}

// What is said on a VLAN is of another LAN; priority tags are of no other.
func TestDetectUntagged(t *testing.T) {
	free4, free6 := netip.MustParseAddr("10.9.0.6"), netip.MustParseAddr("fd00:9::6")
	tagged := func(frame []byte, vlan byte) []byte {
		return slices.Concat(frame[:12], []byte{0x81, 0, 0, vlan}, frame[12:])
	}
	newLAN(t, func(l aLAN) {
		for vlan, want := range map[byte]int{7: 0, 0: 2} {
			taken := 0
			for _, frame := range [][]byte{arp(theirs, free4, v4), ndAnnouncement(theirs, free6)} {
				taken += len(l.detect(func() { l.say(tagged(frame, vlan)) }, free4, free6))
			}
			if taken != want {
				t.Errorf("VLAN %d: %d conflicts, want %d", vlan, taken, want)
			}
		}
	})
}

// A parent that is down, or goes down, loses frames, and is no error.
func TestDetectDown(t *testing.T) {
	newLAN(t, func(l aLAN) {
		parent, err := net.InterfaceByName("lan0")
		if err != nil {
			t.Fatal(err)
		}
		on := l
		on.link = parent
		free := []netip.Addr{netip.MustParseAddr("10.9.0.6"), netip.MustParseAddr("fd00:9::6")}
		if taken := on.detect(func() { hosttest.Shell(t, "ip link set lan0 down; ip link set lan0 up") }, free...); len(taken) > 0 {
			t.Errorf("it flaps: %v", taken)
		}
		hosttest.Shell(t, "ip link set lan0 down")
		if taken := on.detect(quiet, free...); len(taken) > 0 {
			t.Errorf("it is down: %v", taken)
		}
	})
}

// A host that never stops to send what passes the filter does not hold a detection.
func TestFlood(t *testing.T) {
	free := netip.MustParseAddr("fd00:9::6")
	newLAN(t, func(l aLAN) {
		frame := ndProbe(mac(l.link.HardwareAddr), free, [nonceLen]byte{9})
		done := make(chan struct{})
		var flood sync.WaitGroup
		flood.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					l.say(frame, frame, frame, frame)
				}
			}
		})
		if taken := l.detect(quiet, free); len(taken) > 0 {
			t.Errorf("taken: %v", taken)
		}
		close(done)
		flood.Wait()
	})
}

// A neighbour that knows another MAC of an address takes the one that is announced.
func TestAnnounce(t *testing.T) {
	newLAN(t, func(l aLAN) {
		mine := []netip.Addr{netip.MustParseAddr("10.9.0.7"), netip.MustParseAddr("fd00:9::7")}
		for _, a := range mine {
			l.at(fmt.Sprintf("ip neigh replace %s dev eth0 lladdr 02:00:00:00:00:77 nud reachable", a))
		}
		if err := Announce(l.link.Index, l.link.HardwareAddr, mine); err != nil {
			t.Fatal(err)
		}
		for _, a := range mine {
			for want, i := l.link.HardwareAddr.String(), 0; !strings.Contains(l.at("ip neigh show "+a.String()), want); i++ {
				if i > 500 {
					t.Fatalf("%s: %s, want %s", a, l.at("ip neigh show "+a.String()), want)
				}
				time.Sleep(time.Millisecond)
			}
		}
	})
}

func TestNoEthernet(t *testing.T) {
	if _, err := Begin(1, nil, []netip.Addr{v4}, false); err == nil {
		t.Error("a link without MAC is asked through")
	}
	if err := Announce(1, nil, []netip.Addr{v4}); err == nil {
		t.Error("a link without MAC announces")
	}
}
