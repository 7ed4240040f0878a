package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/hosttest"
	"dcni/pkg/host/nlsock"
)

// countFlows counts the UDP connections of the thread's namespace to a port.
func countFlows(t *testing.T, port uint16) (n int) {
	t.Helper()
	for _, family := range []netlink.InetFamily{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
		for errors.Is(err, netlink.ErrDumpInterrupted) {
			flows, err = netlink.ConntrackTableList(netlink.ConntrackTable, family)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range flows {
			if f.Forward.DstPort == port {
				n++
			}
		}
	}
	return n
}

func TestConntrackIsFlushed(t *testing.T) {
	hosttest.InNewNS(t, func() {
		bridgeNetfilter(t, "0")
		l := buildLab(t, true)
		f := publishAll(l)
		publish(l, f, "a1", "", 9090)
		send := func() {
			travel(l, t, "conntrack", []trip{
				{"published", "out", "host", 8080, "out", ""},
				{"published", "out", "host", 9090, "out", ""},
				{"published", "out", "host", 8082, "out", ""},
			})
			// Through the host to another's port of the same number: none of ours.
			_ = l.Nodes["a1"].Do(func() error {
				c, err := net.Dial("udp4", "192.0.2.2:8080")
				if err == nil {
					fmt.Fprint(c, "hello")
					c.Close()
				}
				return err
			})
			time.Sleep(20 * time.Millisecond)
		}
		send()
		if n := countFlows(t, 8080); n != 5 {
			t.Fatalf("%d connections to port 8080; want 2 UDP, 2 TCP, 1 to another host", n)
		}
		l.Must(flushPorts(nil))
		l.Must(flushPorts([]firewall.Port{hosttest.Port("", 8080, "udp", 80), hosttest.Port("127.0.0.1", 9090, "udp", 80), hosttest.Port("", 8082, "tcp", 80)}))
		if a, b, c := countFlows(t, 8080), countFlows(t, 9090), countFlows(t, 8082); a != 3 || b != 4 || c != 4 {
			t.Errorf("connections left: %d to 8080, %d to 9090, %d to 8082; want 3, 4, 4", a, b, c)
		}
		l.Must(flushAddress(l.Nodes["a1"].V4))
		l.Must(flushAddress(l.Nodes["a1"].V6))
		if a, b, c := countFlows(t, 8080), countFlows(t, 9090), countFlows(t, 8082); a != 0 || b != 0 || c != 4 {
			t.Errorf("connections left: %d to 8080, %d to 9090, %d to 8082; want 0, 0, 4", a, b, c)
		}
		send()
		many := make([]firewall.Port, 50)
		for i := range many {
			many[i] = hosttest.Port("0.0.0.0", uint16(9050+i), "udp", 80)
		}
		l.Must(flushPorts(many))
		if n := countFlows(t, 9090); n != 3 {
			t.Errorf("%d connections to 9090; want 3: the IPv4 UDP one is flushed", n)
		}
	})
}

// TestFlushAmongMany: with many connections the kernel filters; the same go.
func TestFlushAmongMany(t *testing.T) {
	one := map[uint16][]firewall.Port{8080: {hosttest.Port("", 8080, "udp", 80)}}
	v4, v6 := netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00:1::2")
	for _, c := range []struct {
		few, many []ctFilter
		want      int
	}{
		{addressFilters(v4, 1), addressFilters(v4, fewConnections), 2},
		{addressFilters(v6, 1), addressFilters(v6, fewConnections), 1},
		{portFilters(one, 1), portFilters(one, fewConnections), 2},
		{portFilters(nil, 1), portFilters(nil, fewConnections), 0},
	} {
		if len(c.few) > 1 || len(c.many) != c.want {
			t.Errorf("%d filters among few, %d among many; want at most 1 and %d", len(c.few), len(c.many), c.want)
		}
	}
}

// TestKernelFilters: what the kernel is asked to list is what is listed.
func TestKernelFilters(t *testing.T) {
	hosttest.InNewNS(t, func() {
		bridgeNetfilter(t, "0")
		l := buildLab(t, true)
		publishAll(l)
		travel(l, t, "filters", []trip{
			{"published", "out", "host", 8080, "out", ""},
			{"published", "out", "host", 8090, "out", ""},
			{"way out", "a1", "out", 80, "host", ""},
		})
		conn, err := nlsock.Dial(unix.NETLINK_NETFILTER)
		l.Must(err)
		defer conn.Close()
		a1 := l.Nodes["a1"]
		for _, c := range []struct {
			filter ctFilter
			want   int
		}{
			{ctFilter{family: unix.AF_INET, src: a1.V4}, 2},
			{ctFilter{family: unix.AF_INET, src: a1.V4, reply: true}, 2},
			{ctFilter{family: unix.AF_INET, proto: unix.IPPROTO_UDP}, 3},
			{ctFilter{family: unix.AF_INET6, proto: unix.IPPROTO_UDP}, 3},
			{ctFilter{family: unix.AF_INET, proto: unix.IPPROTO_UDP, port: 8090}, 1},
			{ctFilter{family: unix.AF_INET6, proto: unix.IPPROTO_UDP, port: 8090}, 1},
		} {
			flows, err := listFlows(conn, c.filter)
			if err != nil || len(flows) != c.want {
				t.Errorf("%+v: %d connections, error %v; want %d", c.filter, len(flows), err, c.want)
			}
		}
	})
}

func TestFlushWithoutConnections(t *testing.T) {
	hosttest.InNewNS(t, func() {
		if err := flushAddress(netip.MustParseAddr("10.1.0.2")); err != nil {
			t.Error(err)
		}
		if err := flushPorts([]firewall.Port{hosttest.Port("", 8080, "udp", 80)}); err != nil {
			t.Error(err)
		}
	})
}
