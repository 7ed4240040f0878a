package nstable

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"dcni/pkg/host/hosttest"
	"dcni/pkg/host/rtnl"

	"golang.org/x/sys/unix"
)

const routeNumber = "1684237929" // routeTable, as ip(8) has it

// routeHere returns a family's policy route in the thread's namespace, and what ip(8)
// is called with for that.
func routeHere(t *testing.T, six bool) (PolicyRoute, string) {
	rt, err := rtnl.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rt.Close)
	if six {
		return PolicyRoute{rt, six}, "ip -6 "
	}
	return PolicyRoute{rt, six}, "ip -4 "
}

// routeLists returns what ip(8) lists of rules behind the usual ones, and of the
// table.
func routeLists(t *testing.T, ip string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", ip+"rule | grep -v '^0:' | grep -v '^3276'; "+ip+"route show table "+routeNumber+" 2>/dev/null").CombinedOutput()
	if err != nil && len(out) > 0 {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.ReplaceAll(strings.ReplaceAll(string(out), "\t", " "), " \n", "\n")
}

func TestPolicyRouteListsAsSaid(t *testing.T) {
	rules := ""
	for _, protocol := range []string{"udp", "tcp"} {
		rules += routeNumber + ": from all fwmark 0/0x40000000 iif lo ipproto " + protocol + " dport 53 lookup " + routeNumber + "\n"
	}
	for six, route := range map[bool]string{
		false: "default dev lo scope link src 127.0.0.1\n",
		true:  "default dev lo metric 1024 pref medium\n",
	} {
		hosttest.InNewNS(t, func() {
			hosttest.Shell(t, "ip link set lo up")
			d, ip := routeHere(t, six)
			for range 2 {
				if err := d.install(); err != nil {
					t.Fatal(err)
				}
				if got := routeLists(t, ip); got != rules+route {
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
				if got := routeLists(t, ip); got != "" {
					t.Errorf("removed, and ip lists\n%s", got)
				}
			}
		})
	}
}

// TestPolicyRouteNotices wants what others do to be seen, and to be put right, and
// what is theirs to stay.
func TestPolicyRouteNotices(t *testing.T) {
	for _, six := range []bool{false, true} {
		hosttest.InNewNS(t, func() {
			hosttest.Shell(t, "ip link set lo up")
			d, ip := routeHere(t, six)
			theirs := "60000: from all ipproto udp dport 53 lookup 53\ndefault dev lo"
			hosttest.Shell(t, ip+"rule add pref 60000 ipproto udp dport 53 lookup 53; "+ip+"route add default dev lo table 53")
			for _, harm := range []string{
				ip + "rule del pref " + routeNumber, ip + "rule del ipproto tcp dport 53 table " + routeNumber,
				ip + "route flush table " + routeNumber, "ip link set lo down; ip link set lo up",
				ip + "rule del pref " + routeNumber + " ipproto udp; " + ip + "rule add pref " + routeNumber + " uidrange 0-0 ipproto udp dport 53 table " + routeNumber,
				"ip link add name d0 type bridge; ip link set d0 up; " + ip + "route flush table " + routeNumber + "; " + ip + "route add default dev d0 metric 1024 table " + routeNumber,
			} {
				if err := d.install(); err != nil {
					t.Fatalf("before %q: %v", harm, err)
				}
				if err := d.check(); err != nil {
					t.Errorf("before %q: %v", harm, err)
				}
				hosttest.Shell(t, harm)
				if err := d.check(); err == nil {
					t.Errorf("after %q nothing is missing:\n%s", harm, routeLists(t, ip))
				}
				hosttest.Shell(t, ip+"route replace default dev lo table 53") // where that has gone down
			}
			if err := d.install(); err != nil || d.check() != nil {
				t.Errorf("at last: %v, %v", err, d.check())
			}
			hosttest.Shell(t, ip+"rule del pref "+routeNumber+" uidrange 0-0; ip link del d0")
			if err := d.remove(); err != nil {
				t.Fatal(err)
			}
			out, _ := exec.Command("sh", "-c", ip+"rule | grep 60000; "+ip+"route show table 53").CombinedOutput()
			if got := strings.ReplaceAll(string(out), "\t", " "); !strings.HasPrefix(got, theirs) || routeLists(t, ip) != strings.SplitAfter(theirs, "\n")[0] {
				t.Errorf("of others' is left\n%s%s", got, routeLists(t, ip))
			}
		})
	}
}

// TestPolicyRouteWithoutIPv6: where lo has no IPv6, nothing can be led there, and
// nothing is missing.
func TestPolicyRouteWithoutIPv6(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.Shell(t, "ip link set lo up; sysctl -qw net.ipv6.conf.lo.disable_ipv6=1")
		d, ip := routeHere(t, true)
		if err := d.install(); err != nil {
			t.Fatal(err)
		}
		if err := d.check(); err != nil {
			t.Error(err)
		}
		hosttest.Shell(t, "sysctl -qw net.ipv6.conf.lo.disable_ipv6=0")
		if err := d.check(); err == nil {
			t.Error("nothing is missing when lo has IPv6 again")
		}
		if err := d.install(); err != nil || d.check() != nil {
			t.Errorf("then: %v, %v", err, d.check())
		}
		if err := d.remove(); err != nil || routeLists(t, ip) != "" {
			t.Errorf("removed: %v, and ip lists %s", err, routeLists(t, ip))
		}
	})
}

// TestPolicyRouteLeads wants sockets to get an address for a query, where there is no
// route, and for nothing else.
func TestPolicyRouteLeads(t *testing.T) {
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
			d, _ := routeHere(t, six)
			if err := d.install(); err != nil {
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
				{unix.SOCK_DGRAM, 0, 53, routeTable, unix.ENETUNREACH},
				{unix.SOCK_STREAM, unix.IPPROTO_TCP, 53, routeTable, unix.ENETUNREACH},
			} {
				if err := connect(c.kind, c.protocol, c.mark, to(c.port)); fmt.Sprint(err) != fmt.Sprint(c.want) {
					t.Errorf("IPv6 %v, kind %d, port %d, mark %#x: %v, want %v", six, c.kind, c.port, c.mark, err, c.want)
				}
			}
		}
	})
}
