package host

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"dcni/pkg/host/hosttest"
	"dcni/pkg/host/rtnl"

	"golang.org/x/sys/unix"
)

const detourNumber = "1684237929" // detourTable, as ip(8) has it

// detourHere returns a family's detour in the thread's namespace, and what ip(8)
// is called with for that.
func detourHere(t *testing.T, six bool) (detour, string) {
	rt, err := rtnl.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rt.Close)
	if six {
		return detour{rt, six}, "ip -6 "
	}
	return detour{rt, six}, "ip -4 "
}

// detourLists returns what ip(8) lists of rules behind the usual ones, and of the
// table.
func detourLists(t *testing.T, ip string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", ip+"rule | grep -v '^0:' | grep -v '^3276'; "+ip+"route show table "+detourNumber+" 2>/dev/null").CombinedOutput()
	if err != nil && len(out) > 0 {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.ReplaceAll(strings.ReplaceAll(string(out), "\t", " "), " \n", "\n")
}

func TestDetourListsAsSaid(t *testing.T) {
	rules := ""
	for _, protocol := range []string{"udp", "tcp"} {
		rules += detourNumber + ": from all fwmark 0/0x40000000 iif lo ipproto " + protocol + " dport 53 lookup " + detourNumber + "\n"
	}
	for six, route := range map[bool]string{
		false: "default dev lo scope link src 127.0.0.1\n",
		true:  "default dev lo metric 1024 pref medium\n",
	} {
		hosttest.InNewNS(t, func() {
			hosttest.Shell(t, "ip link set lo up")
			d, ip := detourHere(t, six)
			for range 2 {
				if err := d.lay(); err != nil {
					t.Fatal(err)
				}
				if got := detourLists(t, ip); got != rules+route {
					t.Errorf("ip lists\n%s\nwant\n%s", got, rules+route)
				}
			}
			if err := d.check(); err != nil {
				t.Error(err)
			}
			for range 2 {
				if err := d.remove(); err != nil {
					t.Fatal(err)
				}
				if got := detourLists(t, ip); got != "" {
					t.Errorf("removed, and ip lists\n%s", got)
				}
			}
		})
	}
}

// TestDetourNotices wants what others do to be seen, and to be put right, and
// what is theirs to stay.
func TestDetourNotices(t *testing.T) {
	for _, six := range []bool{false, true} {
		hosttest.InNewNS(t, func() {
			hosttest.Shell(t, "ip link set lo up")
			d, ip := detourHere(t, six)
			theirs := "60000: from all ipproto udp dport 53 lookup 53\ndefault dev lo"
			hosttest.Shell(t, ip+"rule add pref 60000 ipproto udp dport 53 lookup 53; "+ip+"route add default dev lo table 53")
			for _, harm := range []string{
				ip + "rule del pref " + detourNumber, ip + "rule del ipproto tcp dport 53 table " + detourNumber,
				ip + "route flush table " + detourNumber, "ip link set lo down; ip link set lo up",
				ip + "rule del pref " + detourNumber + " ipproto udp; " + ip + "rule add pref " + detourNumber + " uidrange 0-0 ipproto udp dport 53 table " + detourNumber,
				"ip link add name d0 type bridge; ip link set d0 up; " + ip + "route flush table " + detourNumber + "; " + ip + "route add default dev d0 metric 1024 table " + detourNumber,
			} {
				if err := d.lay(); err != nil {
					t.Fatalf("before %q: %v", harm, err)
				}
				if err := d.check(); err != nil {
					t.Errorf("before %q: %v", harm, err)
				}
				hosttest.Shell(t, harm)
				if err := d.check(); err == nil {
					t.Errorf("after %q nothing is missing:\n%s", harm, detourLists(t, ip))
				}
				hosttest.Shell(t, ip+"route replace default dev lo table 53") // where that has gone down
			}
			if err := d.lay(); err != nil || d.check() != nil {
				t.Errorf("at last: %v, %v", err, d.check())
			}
			hosttest.Shell(t, ip+"rule del pref "+detourNumber+" uidrange 0-0; ip link del d0")
			if err := d.remove(); err != nil {
				t.Fatal(err)
			}
			out, _ := exec.Command("sh", "-c", ip+"rule | grep 60000; "+ip+"route show table 53").CombinedOutput()
			if got := strings.ReplaceAll(string(out), "\t", " "); !strings.HasPrefix(got, theirs) || detourLists(t, ip) != strings.SplitAfter(theirs, "\n")[0] {
				t.Errorf("of others' is left\n%s%s", got, detourLists(t, ip))
			}
		})
	}
}

// TestDetourWithoutIPv6: where lo has no IPv6, nothing can be led there, and
// nothing is missing.
func TestDetourWithoutIPv6(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.Shell(t, "ip link set lo up; sysctl -qw net.ipv6.conf.lo.disable_ipv6=1")
		d, ip := detourHere(t, true)
		if err := d.lay(); err != nil {
			t.Fatal(err)
		}
		if err := d.check(); err != nil {
			t.Error(err)
		}
		hosttest.Shell(t, "sysctl -qw net.ipv6.conf.lo.disable_ipv6=0")
		if err := d.check(); err == nil {
			t.Error("nothing is missing when lo has IPv6 again")
		}
		if err := d.lay(); err != nil || d.check() != nil {
			t.Errorf("then: %v, %v", err, d.check())
		}
		if err := d.remove(); err != nil || detourLists(t, ip) != "" {
			t.Errorf("removed: %v, and ip lists %s", err, detourLists(t, ip))
		}
	})
}

// TestDetourLeads wants sockets to get an address for a query, where there is no
// route, and for nothing else.
func TestDetourLeads(t *testing.T) {
	connect := func(kind, protocol, mark int, to unix.Sockaddr) error {
		family := unix.AF_INET
		if _, six := to.(*unix.SockaddrInet6); six {
			family = unix.AF_INET6
		}
		fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, mark); err != nil {
			return err
		}
		return unix.Connect(fd, to)
	}
	hosttest.InNewNS(t, func() {
		hosttest.Shell(t, "ip link set lo up")
		for _, six := range []bool{false, true} {
			d, _ := detourHere(t, six)
			if err := d.lay(); err != nil {
				t.Fatal(err)
			}
			to := func(port int) unix.Sockaddr {
				if six {
					return &unix.SockaddrInet6{Port: port, Addr: [16]byte{0x20, 1, 0xd, 0xb8, 15: 0x53}}
				}
				return &unix.SockaddrInet4{Port: port, Addr: [4]byte{192, 0, 2, 2}}
			}
			for _, c := range []struct {
				kind, protocol, port, mark int
				want                       error
			}{
				{unix.SOCK_DGRAM, 0, 53, 0, nil},
				{unix.SOCK_STREAM, 0, 53, 0, unix.EINPROGRESS},
				{unix.SOCK_DGRAM, 0, 80, 0, unix.ENETUNREACH},
				{unix.SOCK_STREAM, 0, 80, 0, unix.ENETUNREACH},
				{unix.SOCK_DGRAM, 0, 53, detourTable, unix.ENETUNREACH},
				{unix.SOCK_STREAM, unix.IPPROTO_TCP, 53, detourTable, unix.ENETUNREACH},
			} {
				if err := connect(c.kind, c.protocol, c.mark, to(c.port)); fmt.Sprint(err) != fmt.Sprint(c.want) {
					t.Errorf("IPv6 %v, kind %d, port %d, mark %#x: %v, want %v", six, c.kind, c.port, c.mark, err, c.want)
				}
			}
		}
	})
}
