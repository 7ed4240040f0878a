package nft

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/agent"
	"dcni/pkg/host/hosttest"
	"dcni/pkg/wire"
)

func TestEndpointElements(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.LoUp(t)
		f := newFirewall(t)
		e := hosttest.Endpoint("c1", hosttest.Both, hosttest.Port("", 8080, "tcp", 80), hosttest.Port("127.0.0.1", 53, "udp", 5353),
			hosttest.Port("::1", 53, "sctp", 5353), hosttest.Port("0.0.0.0", 81, "tcp", 80), hosttest.Port("::", 82, "tcp", 80))
		for i, want := range []bool{true, false} {
			if changed, err := f.EnsureEndpoint(e); changed != want || err != nil {
				t.Errorf("ensure %d: changed %v, error %v", i, changed, err)
			}
		}
		if err := f.CheckEndpoint(e); err != nil {
			t.Error(err)
		}
		got := hosttest.NFT(t, "list", "table", "inet", "dcni")
		for _, fe := range e.Elements() {
			text := fe.String()
			inner := strings.TrimSuffix(text[strings.Index(text, "{ ")+2:], " }")
			if !strings.Contains(got, inner) {
				t.Errorf("no %s in\n%s", text, got)
			}
		}
		if o, err := f.Owners(); err != nil || fmt.Sprint(o) != "[web c1/eth0]" {
			t.Errorf("owners %v, error %v", o, err)
		}
		for range 2 {
			if err := f.RemoveEndpoint(e); err != nil {
				t.Error(err)
			}
		}
		if got := hosttest.NFT(t, "list", "table", "inet", "dcni"); got != firewall.Rules().String() {
			t.Errorf("after removal:\n%s", got)
		}
		if err := f.CheckEndpoint(e); err == nil || strings.Count(err.Error(), "is not published") != 6 {
			t.Errorf("check after removal: %v", err)
		}
	})
}

// TestRefusedInTheMiddle: the kernel refuses one element of many, which another program has in the
// way. None of the others is there then, and the error names it; without it all are.
func TestRefusedInTheMiddle(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.LoUp(t)
		f := newFirewall(t)
		e := hosttest.Endpoint("c1", hosttest.Both, hosttest.Port("0.0.0.0", 8079, "tcp", 80), hosttest.Port("0.0.0.0", 8080, "tcp", 80), hosttest.Port("0.0.0.0", 8081, "tcp", 80))
		element := []string{"element", "inet", "dcni", firewall.MapPorts4, "{ tcp . 8080 : 10.9.9.9 . 80 }"}
		hosttest.NFT(t, append([]string{"add"}, element...)...)
		before := hosttest.NFT(t, "list", "table", "inet", "dcni")
		_, err := f.EnsureEndpoint(e)
		if err == nil || !strings.Contains(err.Error(), "8080") {
			t.Errorf("error %v", err)
		}
		if got := hosttest.NFT(t, "list", "table", "inet", "dcni"); got != before {
			t.Errorf("the rules are\n%s\nand were\n%s", got, before)
		}
		if err := f.RemoveEndpoint(e); err != nil {
			t.Error(err)
		}
		hosttest.NFT(t, append([]string{"delete"}, element...)...)
		if changed, err := f.EnsureEndpoint(e); !changed || err != nil {
			t.Errorf("changed %v, error %v", changed, err)
		}
	})
}

// TestFullSet has a table whose map of ports another program has limited to two elements: what does
// not fit is one error that says how to mend it, none of it is left, and what was there stays.
func TestFullSet(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.LoUp(t)
		file := t.TempDir() + "/rules.nft"
		head := "map " + firewall.MapPorts4 + " {\n"
		limited := strings.Replace(firewall.Rules().String(), head, head+"\t\tsize 2\n", 1)
		if err := os.WriteFile(file, []byte(limited), 0o600); err != nil {
			t.Fatal(err)
		}
		hosttest.NFT(t, "-f", file)
		f := newFirewall(t)
		first := hosttest.Endpoint("c1", hosttest.Both, hosttest.Port("0.0.0.0", 8079, "tcp", 80))
		if _, err := f.EnsureEndpoint(first); err != nil {
			t.Fatal(err)
		}
		before := hosttest.NFT(t, "list", "table", "inet", "dcni")
		second := hosttest.Endpoint("c2", hosttest.Both, hosttest.Port("0.0.0.0", 8080, "tcp", 80), hosttest.Port("0.0.0.0", 8081, "tcp", 80))
		_, err := f.EnsureEndpoint(second)
		hosttest.WantCode(t, err, wire.CodeUnavailable, "a set of table inet dcni is full: another program has limited its size; "+
			"to have dcni make it again: nft delete table inet dcni")
		if got := hosttest.NFT(t, "list", "table", "inet", "dcni"); got != before {
			t.Errorf("the rules are\n%s\nand were\n%s", got, before)
		}
		hosttest.NFT(t, "delete", "table", "inet", "dcni")
		if _, err := f.Install(func() (*firewall.Desired, error) {
			return &firewall.Desired{Endpoints: []*firewall.Endpoint{first}}, nil
		}); err != nil {
			t.Fatal(err)
		}
		if changed, err := f.EnsureEndpoint(second); !changed || err != nil {
			t.Errorf("after the command: changed %v, error %v", changed, err)
		}
		if err := f.CheckEndpoint(first); err != nil {
			t.Error(err)
		}
	})
}

func TestEndpointsClash(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.LoUp(t)
		f := newFirewall(t)
		taken := []firewall.Port{hosttest.Port("", 8080, "tcp", 80), hosttest.Port("127.0.0.1", 8081, "tcp", 80),
			hosttest.Port("::1", 8082, "tcp", 80), hosttest.Port("::", 8083, "tcp", 80), hosttest.Port("0.0.0.0", 8084, "tcp", 80)}
		if _, err := f.EnsureEndpoint(hosttest.Endpoint("c1", hosttest.Both, taken...)); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			port firewall.Port
			text string // empty: can be had
		}{
			{hosttest.Port("", 8080, "tcp", 80), "Bind for 0.0.0.0:8080 failed: port is already allocated"},
			{hosttest.Port("0.0.0.0", 8080, "tcp", 80), "Bind for 0.0.0.0:8080 failed: port is already allocated"},
			{hosttest.Port("::", 8080, "tcp", 80), "Bind for [::]:8080 failed: port is already allocated"},
			{hosttest.Port("127.0.0.1", 8080, "tcp", 80), "Bind for 127.0.0.1:8080 failed: port is already allocated"},
			{hosttest.Port("", 8081, "tcp", 80), "Bind for 0.0.0.0:8081 failed: port is already allocated"},
			{hosttest.Port("127.0.0.1", 8081, "tcp", 80), "Bind for 127.0.0.1:8081 failed: port is already allocated"},
			{hosttest.Port("", 8082, "tcp", 80), "Bind for [::]:8082 failed: port is already allocated"},
			{hosttest.Port("", 8083, "tcp", 80), "Bind for [::]:8083 failed: port is already allocated"},
			{hosttest.Port("::1", 8083, "tcp", 80), "Bind for [::1]:8083 failed: port is already allocated"},
			{hosttest.Port("", 8080, "udp", 80), ""},
			{hosttest.Port("127.0.0.2", 8081, "tcp", 80), ""},
			{hosttest.Port("::", 8081, "tcp", 80), ""},
			{hosttest.Port("::", 8084, "tcp", 80), ""},
			{hosttest.Port("0.0.0.0", 8083, "tcp", 80), ""},
		} {
			e := hosttest.Endpoint("c2", hosttest.Both, hosttest.Port("", 99, "tcp", 80), c.port)
			_, err := f.EnsureEndpoint(e)
			if c.text == "" && err != nil {
				t.Errorf("%v: %v", c.port, err)
			}
			if c.text != "" {
				hosttest.WantCode(t, err, wire.CodePortTaken, c.text)
				if f.CheckEndpoint(hosttest.Endpoint("c2", hosttest.Both, hosttest.Port("", 99, "tcp", 80))) == nil {
					t.Errorf("%v: the other port was published", c.port)
				}
			}
			if err := f.RemoveEndpoint(e); err != nil {
				t.Error(err)
			}
		}
		if err := f.CheckEndpoint(hosttest.Endpoint("c1", hosttest.Both, taken...)); err != nil {
			t.Errorf("what c1 published: %v", err)
		}
	})
}

func TestListenersClash(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.LoUp(t)
		f := newFirewall(t)
		hosttest.ListenTCP(t, "tcp4", "127.0.0.1:1001")
		hosttest.ListenTCP(t, "tcp6", "[::]:1002") // IPv6 only
		hosttest.ListenTCP(t, "tcp", "[::]:1003")  // both
		hosttest.ListenTCP(t, "tcp4", "0.0.0.0:1004")
		u, err := net.ListenPacket("udp4", "0.0.0.0:1005")
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		for _, c := range []struct {
			port firewall.Port
			text string
		}{
			{hosttest.Port("", 1001, "tcp", 80), "0.0.0.0:1001/tcp"},
			{hosttest.Port("127.0.0.1", 1001, "tcp", 80), "127.0.0.1:1001/tcp"},
			{hosttest.Port("127.0.0.2", 1001, "tcp", 80), ""},
			{hosttest.Port("::", 1001, "tcp", 80), ""},
			{hosttest.Port("0.0.0.0", 1002, "tcp", 80), ""},
			{hosttest.Port("", 1002, "tcp", 80), "[::]:1002/tcp"},
			{hosttest.Port("::1", 1002, "tcp", 80), "[::1]:1002/tcp"},
			{hosttest.Port("0.0.0.0", 1003, "tcp", 80), "0.0.0.0:1003/tcp"},
			{hosttest.Port("127.0.0.1", 1003, "tcp", 80), "127.0.0.1:1003/tcp"},
			{hosttest.Port("::", 1004, "tcp", 80), ""},
			{hosttest.Port("", 1004, "udp", 80), ""},
			{hosttest.Port("", 1004, "sctp", 80), ""},
			{hosttest.Port("", 1005, "udp", 80), "0.0.0.0:1005/udp"},
		} {
			e := hosttest.Endpoint("c1", hosttest.Both, c.port)
			_, err := f.EnsureEndpoint(e)
			if c.text != "" {
				hosttest.WantCode(t, err, wire.CodePortTaken, "failed to bind host port "+c.text+": address already in use")
			} else if err != nil {
				t.Errorf("%v: %v", c.port, err)
			}
			if err := f.RemoveEndpoint(e); err != nil {
				t.Error(err)
			}
		}
	})
}

// What is relayed to containers with IPv4 only is one's own, too.
func TestRelayedPortsClash(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.LoUp(t)
		f := newFirewall(t)
		hosttest.ListenTCP(t, "tcp6", "[::]:1001")
		four, six := []string{"10.1.0.2"}, []string{"fd00:1::2"}
		for _, c := range []struct {
			addresses     []string
			first, second firewall.Port
			taken         string
		}{
			{four, hosttest.Port("::", 1002, "tcp", 80), hosttest.Port("::", 1002, "tcp", 80), "[::]:1002"},
			{four, hosttest.Port("::1", 1002, "tcp", 80), hosttest.Port("::", 1002, "tcp", 80), "[::]:1002"},
			{four, hosttest.Port("::", 1002, "tcp", 80), hosttest.Port("::1", 1002, "tcp", 80), "[::1]:1002"},
			{four, hosttest.Port("::1", 1002, "tcp", 80), hosttest.Port("::1", 1002, "tcp", 80), "[::1]:1002"},
			{four, hosttest.Port("::", 1002, "tcp", 80), hosttest.Port("::", 1002, "udp", 80), ""},
			{four, hosttest.Port("::", 1002, "tcp", 80), hosttest.Port("0.0.0.0", 1002, "tcp", 80), ""},
			// A port of both families is claimed by its IPv4 element alone.
			{four, hosttest.Port("", 1002, "tcp", 80), hosttest.Port("", 1002, "tcp", 80), "0.0.0.0:1002"},
			{four, hosttest.Port("", 1002, "tcp", 80), hosttest.Port("::", 1002, "tcp", 80), ""},
			{four, hosttest.Port("::", 1002, "tcp", 80), hosttest.Port("", 1002, "tcp", 80), "[::]:1002"},
			// The rules come before the relay: all but what they leave is the other's.
			{six, hosttest.Port("::", 1002, "tcp", 80), hosttest.Port("::", 1002, "tcp", 80), ""},
			// Another program's port: IPv4 is of use without it.
			{four, hosttest.Port("", 1001, "tcp", 80), hosttest.Port("", 1003, "tcp", 80), ""},
		} {
			first, second := hosttest.Endpoint("c1", four, c.first), hosttest.Endpoint("c2", c.addresses, c.second)
			if _, err := f.EnsureEndpoint(first); err != nil {
				t.Fatal(err)
			}
			_, err := f.EnsureEndpoint(second)
			if c.taken != "" {
				hosttest.WantCode(t, err, wire.CodePortTaken, "Bind for "+c.taken+" failed: port is already allocated")
			} else if err := errors.Join(err, f.CheckEndpoint(first), f.CheckEndpoint(second)); err != nil {
				t.Errorf("%v, %v: %v", c.first, c.second, err)
			}
			if err := errors.Join(f.RemoveEndpoint(first), f.RemoveEndpoint(second)); err != nil {
				t.Error(err)
			}
			if got := hosttest.NFT(t, "list", "table", "inet", "dcni"); got != firewall.Rules().String() {
				t.Fatalf("%v, %v leave\n%s", c.first, c.second, got)
			}
		}
		_, err := f.EnsureEndpoint(hosttest.Endpoint("c1", four, hosttest.Port("::", 1001, "tcp", 80)))
		hosttest.WantCode(t, err, wire.CodePortTaken, "failed to bind host port [::]:1001/tcp: address already in use")
	})
}

// What dnetd's relay listens on is no other program's.
func TestRelayIsNoListener(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.LoUp(t)
		f := newFirewall(t)
		relay := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			return errors.Join(c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, agent.Mark)
			}), err)
		}}
		for _, address := range []string{"[::1]:1001", "[::]:1002"} {
			l, err := relay.Listen(t.Context(), "tcp6", address)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			u, err := relay.ListenPacket(t.Context(), "udp6", address)
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()
		}
		hosttest.ListenTCP(t, "tcp4", "127.0.0.1:1001")
		for _, c := range []struct {
			port firewall.Port
			text string
		}{
			{hosttest.Port("", 1001, "udp", 80), ""},
			{hosttest.Port("::", 1001, "tcp", 80), ""},
			{hosttest.Port("", 1001, "tcp", 80), "0.0.0.0:1001/tcp"},
			{hosttest.Port("", 1002, "tcp", 80), ""},
			{hosttest.Port("::1", 1002, "udp", 80), ""},
		} {
			e := hosttest.Endpoint("c1", hosttest.Both, c.port)
			_, err := f.EnsureEndpoint(e)
			if c.text != "" {
				hosttest.WantCode(t, err, wire.CodePortTaken, "failed to bind host port "+c.text+": address already in use")
			} else if err != nil {
				t.Errorf("%v: %v", c.port, err)
			}
			if err := f.RemoveEndpoint(e); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestHostAddressMustBeLocal(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.LoUp(t)
		f := newFirewall(t)
		for _, ip := range []string{"192.0.2.1", "2001:db8::1"} {
			_, err := f.EnsureEndpoint(hosttest.Endpoint("c1", hosttest.Both, hosttest.Port(ip, 8080, "tcp", 80)))
			hosttest.WantCode(t, err, wire.CodeConfig, ip)
		}
	})
}

// TestStrangersAreLeftAlone: DEL for one never takes what another has by now.
func TestStrangersAreLeftAlone(t *testing.T) {
	hosttest.InNewNS(t, func() {
		f := newFirewall(t)
		p, q := hosttest.Port("", 8080, "tcp", 80), hosttest.Port("", 8081, "tcp", 80)
		one, two := hosttest.Endpoint("c1", hosttest.Both, p, q), hosttest.Endpoint("c2", hosttest.Both, p)
		if _, err := f.EnsureEndpoint(two); err != nil {
			t.Fatal(err)
		}
		if err := f.RemoveEndpoint(one); err != nil {
			t.Error(err)
		}
		if err := f.RemoveByOwner(one.Owner); err != nil {
			t.Error(err)
		}
		if err := f.CheckEndpoint(two); err != nil {
			t.Error(err)
		}
		if err := f.CheckEndpoint(one); err == nil || !strings.Contains(err.Error(), `belongs to "web c2/eth0"`) {
			t.Errorf("check of c1: %v", err)
		}
		unknown := hosttest.Endpoint("c2", hosttest.Both, hosttest.Port("", 0, "tcp", 80))
		if err := f.RemoveEndpoint(unknown); err != nil {
			t.Error(err)
		}
		if o, err := f.Owners(); err != nil || len(o) != 0 {
			t.Errorf("owners %v, error %v", o, err)
		}
	})
}

// TestEndpointMoves: a container that got another address takes its ports along.
func TestEndpointMoves(t *testing.T) {
	hosttest.InNewNS(t, func() {
		f := newFirewall(t)
		e := hosttest.Endpoint("c1", []string{"10.1.0.2"}, hosttest.Port("", 8080, "tcp", 80))
		if _, err := f.EnsureEndpoint(e); err != nil {
			t.Fatal(err)
		}
		e.Addresses[0] = netip.MustParseAddr("10.1.0.9")
		if err := f.CheckEndpoint(e); err == nil {
			t.Error("check says nothing of another address")
		}
		if changed, err := f.EnsureEndpoint(e); !changed || err != nil {
			t.Errorf("changed %v, error %v", changed, err)
		}
		if err := f.CheckEndpoint(e); err != nil {
			t.Error(err)
		}
	})
}

func TestPortsAreChosen(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.LoUp(t)
		hosttest.Sysctl(t, "net/ipv4/ip_local_port_range", "40000 40009")
		hosttest.Sysctl(t, "net/ipv4/ip_local_reserved_ports", "40003,40005-40006")
		f := newFirewall(t)
		hosttest.ListenTCP(t, "tcp4", "127.0.0.1:40001")
		group := hosttest.Endpoint("c1", hosttest.Both, hosttest.Port("127.0.0.1", 0, "tcp", 80), hosttest.Port("::1", 0, "tcp", 80),
			hosttest.Port("", 0, "udp", 80), hosttest.Port("", 40007, "tcp", 80))
		if _, err := f.EnsureEndpoint(group); err != nil {
			t.Fatal(err)
		}
		if group.Ports[0].HostPort != group.Ports[1].HostPort || group.Ports[2].HostPort == 0 {
			t.Errorf("ports chosen: %v", group.Ports)
		}
		seen := map[uint16]bool{group.Ports[0].HostPort: true, 40001: true, 40003: true, 40005: true, 40006: true, 40007: true}
		for i := range 5 {
			e := hosttest.Endpoint(fmt.Sprint("d", i), hosttest.Both, hosttest.Port("", 0, "tcp", 80))
			_, err := f.EnsureEndpoint(e)
			if i == 4 {
				hosttest.WantCode(t, err, wire.CodePortTaken, "all ports are allocated")
				continue
			}
			if p := e.Ports[0].HostPort; err != nil || p < 40000 || p > 40009 || seen[p] {
				t.Errorf("port %d, error %v", p, err)
			}
			seen[e.Ports[0].HostPort] = true
		}
	})
}

// TestManyPortsAreChosen: all of a range but what others have, of both protocols, and not
// one more.
func TestManyPortsAreChosen(t *testing.T) {
	const first, last = 40000, 40599
	hosttest.InNewNS(t, func() {
		hosttest.LoUp(t)
		hosttest.Sysctl(t, "net/ipv4/ip_local_port_range", fmt.Sprint(first, last))
		f := newFirewall(t)
		hosttest.ListenTCP(t, "tcp4", "127.0.0.1:40001")
		for i, p := range []firewall.Port{hosttest.Port("", 40100, "tcp", 80), hosttest.Port("127.0.0.1", 40200, "tcp", 80)} {
			if _, err := f.EnsureEndpoint(hosttest.Endpoint(fmt.Sprint("d", i), hosttest.Both, p)); err != nil {
				t.Fatal(err)
			}
		}
		asking := func(tcp int) *firewall.Endpoint {
			e := hosttest.Endpoint("c1", hosttest.Both, hosttest.Port("", 40300, "tcp", 80))
			for i := range uint16(tcp) {
				e.Ports = append(e.Ports, hosttest.Port("", 0, "tcp", 1000+i), hosttest.Port("", 0, "udp", 1000+i))
			}
			return e
		}
		const free = last + 1 - first - 4
		_, err := f.EnsureEndpoint(asking(free + 1))
		hosttest.WantCode(t, err, wire.CodePortTaken, "all ports are allocated")
		_, err = f.EnsureEndpoint(asking(last + 2 - first))
		hosttest.WantCode(t, err, wire.CodePortTaken, "all ports are allocated: portMappings with hostPort 0: must be at most 600, which are in net.ipv4.ip_local_port_range; they are 601")
		e := asking(free)
		if _, err := f.EnsureEndpoint(e); err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{"40001/tcp": true, "40100/tcp": true, "40200/tcp": true}
		for _, p := range e.Ports {
			if at := fmt.Sprint(p.HostPort, "/", p.Protocol); seen[at] || p.HostPort < first || p.HostPort > last {
				t.Errorf("%s chosen", at)
			} else {
				seen[at] = true
			}
		}
		if err := f.CheckEndpoint(e); err != nil {
			t.Error(err)
		}
	})
}

// TestChosenPortsGoWithAnError wants ports that were chosen for an endpoint not to
// stay in it when it can't be published: the next try chooses again.
func TestChosenPortsGoWithAnError(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.LoUp(t)
		f := newFirewall(t)
		hosttest.ListenTCP(t, "tcp4", "127.0.0.1:8080")
		e := hosttest.Endpoint("c1", hosttest.Both, hosttest.Port("", 0, "tcp", 80), hosttest.Port("", 8080, "tcp", 80))
		_, err := f.EnsureEndpoint(e)
		hosttest.WantCode(t, err, wire.CodePortTaken, "address already in use")
		if e.Ports[0].HostPort != 0 || e.Ports[1].HostPort != 8080 {
			t.Errorf("ports %v", e.Ports)
		}
	})
}

func TestThousandPorts(t *testing.T) {
	hosttest.InNewNS(t, func() {
		f := newFirewall(t)
		e := hosttest.Endpoint("c1", hosttest.Both)
		for i := range uint16(1000) {
			e.Ports = append(e.Ports, hosttest.Port("", 10000+i, "tcp", 80))
		}
		if changed, err := f.EnsureEndpoint(e); !changed || err != nil {
			t.Fatalf("changed %v, error %v", changed, err)
		}
		if err := f.CheckEndpoint(e); err != nil {
			t.Error(err)
		}
		e.Addresses[0] = netip.MustParseAddr("10.1.0.9")
		if err := f.CheckEndpoint(e); err == nil || len(err.Error()) > 4000 || !strings.Contains(err.Error(), "1000 of 2000 bindings differ") {
			t.Errorf("check of another address: %.5000v", err)
		}
		e.Addresses[0] = netip.MustParseAddr(hosttest.Both[0])
		clash := hosttest.Endpoint("c2", hosttest.Both, hosttest.Port("", 10999, "tcp", 80))
		_, err := f.EnsureEndpoint(clash)
		hosttest.WantCode(t, err, wire.CodePortTaken, "10999")
		if err := f.RemoveEndpoint(e); err != nil {
			t.Error(err)
		}
		if o, _ := f.Owners(); len(o) != 0 {
			t.Errorf("owners %v", o)
		}
	})
}

// TestRaceForPort: without the lock on ports the kernel still gives a port to
// one only.
func TestRaceForPort(t *testing.T) {
	hosttest.InNewNS(t, func() {
		f := newFirewall(t)
		list := bindings(hosttest.Endpoint("c1", hosttest.Both, hosttest.Port("", 8080, "tcp", 80)))
		hosttest.NFT(t, "add", "element", "inet", "dcni", "ports4", "{ tcp . 8080 : 10.1.0.3 . 80 }")
		err := f.commit(func(b *Batch) error {
			b.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE|unix.NLM_F_EXCL, []element{list[1].element, list[0].element})
			return nil
		})
		if !errors.Is(err, unix.EEXIST) {
			t.Errorf("error %v; want EEXIST", err)
		}
		hosttest.WantCode(t, f.findConflict(list), wire.CodePortTaken, "Bind for 0.0.0.0:8080")
		if got := hosttest.NFT(t, "list", "map", "inet", "dcni", "ports6"); strings.Contains(got, "8080") {
			t.Errorf("half of it was published:\n%s", got)
		}
	})
}

// TestManyAtOnce: several processes publish the same port without the lock; one
// gets it, whole, and the others are told.
func TestManyAtOnce(t *testing.T) {
	hosttest.InNewNS(t, func() {
		newFirewall(t)
		host := hosttest.NewTopology(t).Host
		const contenders = 8
		errs := make(chan error, contenders)
		for i := range contenders {
			go func() {
				errs <- host.Do(func() error {
					f := New()
					defer f.Close()
					_, err := f.EnsureEndpoint(hosttest.Endpoint(fmt.Sprint("c", i), hosttest.Both, hosttest.Port("", 8080, "tcp", 80)))
					return err
				})
			}()
		}
		won := 0
		for range contenders {
			if err := <-errs; err == nil {
				won++
			} else {
				hosttest.WantCode(t, err, wire.CodePortTaken, "Bind for ")
			}
		}
		f := newFirewall(t)
		if o, err := f.Owners(); won != 1 || len(o) != 1 || err != nil {
			t.Errorf("%d got the port, owners %v, error %v", won, o, err)
		}
	})
}

func TestKernelWithoutNFTables(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EPROTONOSUPPORT, unix.EOPNOTSUPP} {
		if err := Unsupported(errno); !strings.HasPrefix(err.Error(), "kernel has no nf_tables: ") || !errors.Is(err, errno) {
			t.Error(err)
		}
	}
	if err := Unsupported(unix.EPERM); !errors.Is(err, unix.EPERM) {
		t.Error(err)
	}
}

// A guard that is lost is put back, and goes with its port.
func TestGuardsComeBack(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.LoUp(t)
		f := newFirewall(t)
		e := hosttest.Endpoint("c1", hosttest.Both, hosttest.Port("", 8080, "tcp", 80))
		if _, err := f.EnsureEndpoint(e); err != nil {
			t.Fatal(err)
		}
		if err := f.CheckEndpoint(e); err != nil {
			t.Error(err)
		}
		hosttest.NFT(t, "flush", "set", "inet", "dcni", firewall.SetGuarded6)
		if err := f.CheckEndpoint(e); err == nil || !strings.Contains(err.Error(), "1 published ports are not guarded") {
			t.Errorf("check: %v", err)
		}
		if changed, err := f.EnsureEndpoint(e); !changed || err != nil {
			t.Errorf("changed %v, %v", changed, err)
		}
		if err := f.CheckEndpoint(e); err != nil {
			t.Error(err)
		}
		hosttest.NFT(t, "flush", "set", "inet", "dcni", firewall.SetGuarded4)
		if err := f.RemoveEndpoint(e); err != nil {
			t.Error(err)
		}
		if sets := hosttest.NFT(t, "list", "sets"); strings.Contains(sets, "web c1") {
			t.Error(sets)
		}
	})
}

// TestPortOfConnection: what the peer of a connection of the host's sends must not become a
// container's. Ports that were published before are put back all the same.
func TestPortOfConnection(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.LoUp(t)
		hosttest.ListenTCP(t, "tcp4", "127.0.0.1:80")
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}}
		conn, err := d.Dial("tcp4", "127.0.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		d.LocalAddr = &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}
		query, err := d.Dial("udp4", "127.0.0.1:53")
		if err != nil {
			t.Fatal(err)
		}
		defer query.Close()
		f := newFirewall(t)
		many := []firewall.Port{hosttest.Port("", 40000, "tcp", 80)}
		for i := range uint16(2 * fewPorts) {
			many = append(many, hosttest.Port("", 50000+i, "tcp", 80))
		}
		for _, c := range []struct {
			ports []firewall.Port
			want  string // "": none
		}{
			{[]firewall.Port{hosttest.Port("", 40000, "tcp", 80)}, "failed to bind host port 0.0.0.0:40000/tcp: address already in use by a connection to 127.0.0.1:80; net.ipv4.ip_local_reserved_ports"},
			{[]firewall.Port{hosttest.Port("", 40000, "udp", 80)}, "failed to bind host port 0.0.0.0:40000/udp: address already in use by a connection to 127.0.0.1:53"},
			{many, "0.0.0.0:40000/tcp: address already in use by a connection"},
			{[]firewall.Port{hosttest.Port("127.0.0.2", 40000, "tcp", 80)}, ""},
			{[]firewall.Port{hosttest.Port("::", 40000, "tcp", 80)}, ""},
			{[]firewall.Port{hosttest.Port("", 40000, "sctp", 80)}, ""},
			{many[1:], ""},
		} {
			e := hosttest.Endpoint("c1", hosttest.Both, c.ports...)
			_, err := f.EnsureEndpoint(e)
			if c.want != "" {
				hosttest.WantCode(t, err, wire.CodePortTaken, c.want)
			} else if err != nil {
				t.Errorf("%v: %v", c.ports[0], err)
			}
			if err := f.RemoveEndpoint(e); err != nil {
				t.Error(err)
			}
		}
		back := hosttest.Endpoint("c1", hosttest.Both, hosttest.Port("", 40000, "tcp", 80))
		if f.CheckEndpoint(back) == nil {
			t.Fatal("it is there")
		}
		if _, err := f.EnsureEndpoint(back); err != nil {
			t.Error(err)
		}
	})
}

// TestPortOfConnectionIsNotChosen: dnetd could not hold a port that a connection of the
// host has at its own end.
func TestPortOfConnectionIsNotChosen(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.LoUp(t)
		hosttest.Sysctl(t, "net/ipv4/ip_local_port_range", "40000 40001")
		hosttest.ListenTCP(t, "tcp4", "127.0.0.1:80")
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}}
		conn, err := d.Dial("tcp4", "127.0.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		f := newFirewall(t)
		for range 8 { // the first look is at a random one
			e := hosttest.Endpoint("c1", hosttest.Both, hosttest.Port("", 0, "tcp", 80))
			if _, err := f.EnsureEndpoint(e); err != nil || e.Ports[0].HostPort != 40001 {
				t.Errorf("port %d, %v", e.Ports[0].HostPort, err)
			}
			if err := f.RemoveEndpoint(e); err != nil {
				t.Error(err)
			}
		}
	})
}
