package nft

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"dcni/pkg/firewall"
	"dcni/pkg/host/conntrack"
	"dcni/pkg/host/hosttest"
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
		hosttest.BridgeNetfilter(t, "0")
		l := hosttest.NewNetworks(t, true)
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
		l.Must(conntrack.FlushPorts(nil))
		l.Must(conntrack.FlushPorts([]firewall.Port{hosttest.Port("", 8080, "udp", 80), hosttest.Port("127.0.0.1", 9090, "udp", 80), hosttest.Port("", 8082, "tcp", 80)}))
		if a, b, c := countFlows(t, 8080), countFlows(t, 9090), countFlows(t, 8082); a != 3 || b != 4 || c != 4 {
			t.Errorf("connections left: %d to 8080, %d to 9090, %d to 8082; want 3, 4, 4", a, b, c)
		}
		l.Must(conntrack.FlushAddresses([]netip.Addr{l.Nodes["a1"].V4, l.Nodes["a1"].V6}))
		if a, b, c := countFlows(t, 8080), countFlows(t, 9090), countFlows(t, 8082); a != 0 || b != 0 || c != 4 {
			t.Errorf("connections left: %d to 8080, %d to 9090, %d to 8082; want 0, 0, 4", a, b, c)
		}
		send()
		many := make([]firewall.Port, 50)
		for i := range many {
			many[i] = hosttest.Port("0.0.0.0", uint16(9050+i), "udp", 80)
		}
		l.Must(conntrack.FlushPorts(many))
		if n := countFlows(t, 9090); n != 3 {
			t.Errorf("%d connections to 9090; want 3: the IPv4 UDP one is flushed", n)
		}
	})
}

// TestUDPPeerFollows: a peer that keeps its socket reaches the port's present owner.
func TestUDPPeerFollows(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.BridgeNetfilter(t, "0")
		l := hosttest.NewNetworks(t, true)
		f := publishAll(l)
		ports := []firewall.Port{hosttest.Port("", 7000, "udp", 80)}
		l.Must(l.Nodes["out"].Do(func() error {
			c, err := net.Dial("udp4", "192.0.2.1:7000")
			if err != nil {
				return err
			}
			t.Cleanup(func() { c.Close() })
			for _, name := range []string{"a1", "b1"} {
				l.Must(l.Host.Do(func() error {
					publish(l, f, name, "", 7000)
					return conntrack.FlushPorts(ports)
				}))
				fmt.Fprint(c, "hello")
				_ = c.SetDeadline(time.Now().Add(hosttest.Patience))
				b := make([]byte, 64)
				n, err := c.Read(b)
				if _, who, _ := strings.Cut(string(b[:n]), " "); who != name || err != nil {
					t.Errorf("answer from %q, error %v; want it from %s", who, err, name)
				}
				l.Must(l.Host.Do(func() error {
					e := hosttest.Endpoint(name, []string{l.Nodes[name].V4.String()})
					e.Owner.Network = name[:1]
					return f.RemoveByOwner(e.Owner)
				}))
			}
			return nil
		}))
	})
}
