package nft

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"dcni/pkg/firewall"
	"dcni/pkg/host/hosttest"
	"dcni/pkg/wire"
)

// publishAll installs the rules for the lab.
func publishAll(l *hosttest.Topology) *Firewall {
	f := newFirewall(l.T)
	for i, n := range []*firewall.Network{
		{Name: "a", Bridge: "br-a", ICC: true, Masquerade: true},
		{Name: "b", Bridge: "br-b", ICC: true, Masquerade: true},
		{Name: "i", Bridge: "br-i", ICC: true, Internal: true, Masquerade: true},
		{Name: "n", Bridge: "br-n"},
	} {
		n.Subnets = []netip.Prefix{
			netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/24", i+1)),
			netip.MustParsePrefix(fmt.Sprintf("fd00:%d::/64", i+1)),
		}
		_, err := f.EnsureNetwork(n)
		l.Must(err)
	}
	publish(l, f, "a1", "", 8080)
	publish(l, f, "a1", "127.0.0.1", 8081)
	publish(l, f, "a2", "192.0.2.1", 8082)
	publish(l, f, "a2", "2001:db8::1", 8082)
	publish(l, f, "n1", "", 8090)
	publish(l, f, "i1", "", 8099)
	return f
}

// publish publishes a container's port 80, TCP and UDP.
func publish(l *hosttest.Topology, f *Firewall, name, hostIP string, hostPort uint16) {
	n := l.Nodes[name]
	_, err := f.EnsureEndpoint(&firewall.Endpoint{
		Owner:     wire.Attachment{Network: name[:1], Container: name, IfName: "eth0"},
		Bridge:    "br-" + name[:1],
		Addresses: []netip.Addr{n.V4, n.V6},
		Ports:     []firewall.Port{hosttest.Port(hostIP, hostPort, "tcp", 80), hosttest.Port(hostIP, hostPort, "udp", 80)},
	})
	l.Must(err)
}

// A trip goes from a node to another, or to the host's published port. seen is
// as whom it is seen there: a node, a bridge, or "" if it must not get there.
type trip struct {
	why      string
	from, to string
	port     uint16
	seen     string
	only     string // "4": IPv4 only
}

var trips = []trip{
	{"same network", "a1", "a2", 80, "a1", ""},
	{"other network", "a1", "b1", 80, "", ""},
	{"other network, back", "b1", "a1", 80, "", ""},
	{"way out, masqueraded", "a1", "out", 80, "host", ""},
	{"way out, not masqueraded", "n1", "out", 80, "n1", ""},
	{"host to container", "host", "a1", 80, "br-a", ""},
	{"direct routing", "out", "a1", 80, "", ""},
	{"direct routing to another port", "out", "a2", 80, "", ""},

	{"internal, same network", "i1", "i2", 80, "i1", ""},
	{"internal, way out", "i1", "out", 80, "", ""},
	{"internal, way in", "out", "i1", 80, "", ""},
	{"internal, way in through a port", "out", "host", 8099, "", ""},
	{"internal to other network", "i1", "a1", 80, "", ""},
	{"other network to internal", "a1", "i1", 80, "", ""},
	{"internal, out through a port", "i1", "host", 8080, "", ""},
	{"other network to internal through a port", "a1", "host", 8099, "", ""},

	{"published, from outside", "out", "host", 8080, "out", ""},
	{"published on one address, from outside", "out", "host", 8082, "out", ""},
	{"published without icc, from outside", "out", "host", 8090, "out", ""},
	{"published, from the host", "host", "host", 8080, "host", ""},
	{"published, from the host's loopback", "host", "lo", 8080, "br-a", "4"},
	{"published on loopback", "host", "lo", 8081, "br-a", "4"},
	{"published on loopback, other address", "host", "host", 8081, "", "4"},
	{"published on one address, other address", "host", "br-b", 8082, "", ""},
	{"published, from a neighbour", "a2", "host", 8080, "br-a", ""},
	{"published, from itself", "a1", "host", 8080, "br-a", ""},
	{"published, through the gateway", "a2", "br-a", 8080, "br-a", ""},
	{"published, from another network", "b1", "host", 8080, "br-a", ""},
	{"published, from a network without masquerade", "n2", "host", 8080, "n2", ""},

	{"no icc", "n2", "n1", 80, "", ""},
	{"no icc, published, from a neighbour", "n2", "host", 8090, "br-n", ""},
	{"no icc, published, from itself", "n1", "host", 8090, "br-n", ""},

	{"loopback from outside", "out", "lo", 8081, "", "4"},
	{"loopback from a container", "a2", "lo", 8081, "", "4"},
	{"loopback service from outside", "out", "lo", 9999, "", "4"},
	{"loopback service from a container", "a1", "lo", 9999, "", "4"},
	{"not published", "out", "host", 8000, "", ""},
}

func where(l *hosttest.Topology, name string, v6 bool) netip.Addr {
	if n := l.Nodes[name]; n != nil {
		return n.Addr(v6)
	}
	i := map[string]int{"br-a": 1, "br-b": 2, "br-i": 3, "br-n": 4}[name]
	switch {
	case i == 0:
		return netip.MustParseAddr("127.0.0.1")
	case v6:
		return netip.MustParseAddr(fmt.Sprintf("fd00:%d::1", i))
	}
	return netip.MustParseAddr(fmt.Sprintf("10.%d.0.1", i))
}

// travel makes all trips at once, in both families, over TCP and UDP.
func travel(l *hosttest.Topology, t *testing.T, what string, trips []trip) {
	var wg sync.WaitGroup
	for _, tr := range trips {
		for _, v6 := range []bool{false, true} {
			if v6 && tr.only == "4" {
				continue
			}
			to := netip.AddrPortFrom(where(l, tr.to, v6), tr.port)
			want := ""
			if tr.seen != "" {
				want = where(l, tr.seen, v6).String()
			}
			for _, proto := range []string{"tcp", "udp"} {
				wg.Go(func() {
					got := l.Reach(l.Nodes[tr.from], proto, to)
					for range 20 { // a busy machine may take longer
						if got == "" && want != "" {
							got = l.Reach(l.Nodes[tr.from], proto, to)
						}
					}
					if got != want {
						t.Errorf("%s: %s: %s to %s %s: seen as %q, want %q", what, tr.why, tr.from, proto, to, got, want)
					}
				})
			}
		}
	}
	wg.Wait()
}

func TestPackets(t *testing.T) {
	for _, on := range []string{"0", "1"} {
		t.Run("br_netfilter="+on, func(t *testing.T) {
			hosttest.InNewNS(t, func() {
				if !hosttest.BridgeNetfilter(t, on) && on == "1" {
					t.Skip("the kernel has no br_netfilter, or it is not loaded")
				}
				// With br_netfilter a published port of a neighbour is reached from
				// bridge port to bridge port, which isolation forbids; but then the
				// forward chain sees what neighbours send each other.
				l := hosttest.NewNetworks(t, on == "0")
				publishAll(l)
				ln, err := net.Listen("tcp4", "127.0.0.1:9999")
				l.Must(err)
				defer ln.Close()
				go hosttest.AnswerTCP(ln, "host")
				travel(l, t, "rules installed", trips)
			})
		})
	}
}

// TestPacketsWithoutRules shows that the lab lets through what the rules are to
// stop: a test of the test.
func TestPacketsWithoutRules(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.BridgeNetfilter(t, "0")
		l := hosttest.NewNetworks(t, true)
		publishAll(l)
		ln, err := net.Listen("tcp4", "127.0.0.1:9999")
		l.Must(err)
		defer ln.Close()
		go hosttest.AnswerTCP(ln, "host")
		hosttest.NFT(t, "flush", "chain", "inet", "dcni", "raw")
		hosttest.NFT(t, "flush", "chain", "inet", "dcni", "forward")
		for _, tr := range []struct {
			from, to string
			port     uint16
		}{{"a1", "lo", 9999}, {"out", "lo", 9999}, {"out", "lo", 8081}, {"out", "a1", 80}, {"i1", "out", 80}, {"a1", "b1", 80}} {
			if l.Reach(l.Nodes[tr.from], "tcp", netip.AddrPortFrom(where(l, tr.to, false), tr.port)) == "" {
				t.Errorf("%s does not reach %s:%d even without rules", tr.from, tr.to, tr.port)
			}
		}
	})
}

// TestLinkLocalIsNotPublished: a link-local source can't be answered from
// another link, so such packets stay with the host.
func TestLinkLocalIsNotPublished(t *testing.T) {
	hosttest.InNewNS(t, func() {
		l := hosttest.NewNetworks(t, true)
		publishAll(l)
		l.Serve(l.Host, 8080)
		link, err := netlink.LinkByName("out0")
		l.Must(err)
		l.Must(hosttest.AddAddress(hosttest.Handle(), link, "fe80::1/64"))
		index := 0
		l.Must(l.Nodes["out"].Do(func() error {
			eth0, err := netlink.LinkByName("eth0")
			if err == nil {
				index = eth0.Attrs().Index
			}
			return err
		}))
		// By number: package net keeps names' numbers, across namespaces.
		to := netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprint("fe80::1%", index)), 8080)
		seen := ""
		for i := 0; i < 100 && seen == ""; i++ { // out's own address takes a moment
			time.Sleep(20 * time.Millisecond)
			seen = l.Reach(l.Nodes["out"], "tcp", to)
		}
		if !strings.HasPrefix(seen, "fe80::") {
			t.Errorf("seen as %q; want the host to answer", seen)
		}
	})
}

// TestLoopbackIPv6IsLeftAlone: ::1 can't leave lo, so a relay may listen there.
func TestLoopbackIPv6IsLeftAlone(t *testing.T) {
	hosttest.InNewNS(t, func() {
		l := hosttest.NewNetworks(t, true)
		publishAll(l)
		l.Serve(l.Host, 8080)
		if seen := l.Reach(l.Host, "tcp", netip.MustParseAddrPort("[::1]:8080")); seen != "::1" {
			t.Errorf("seen as %q; want ::1", seen)
		}
	})
}

// TestNobodyIsLoopback: a container can't pretend to be 127.0.0.2 to the host,
// which route_localnet on the bridge would let it (127.0.0.1 the kernel refuses).
func TestNobodyIsLoopback(t *testing.T) {
	hosttest.InNewNS(t, func() {
		l := hosttest.NewNetworks(t, true)
		publishAll(l)
		pc, err := net.ListenPacket("udp4", ":9998")
		l.Must(err)
		defer pc.Close()
		for _, name := range []string{"all", "br-a"} {
			hosttest.Sysctl(t, "net/ipv4/conf/"+name+"/rp_filter", "0")
		}
		heard := func() bool {
			l.Must(l.Nodes["a1"].Do(func() error {
				d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)}}
				c, err := d.Dial("udp4", "10.1.0.1:9998")
				if err != nil {
					return err
				}
				defer c.Close()
				_, err = fmt.Fprint(c, "hello")
				return err
			}))
			_ = pc.SetReadDeadline(time.Now().Add(hosttest.Patience))
			_, peer, err := pc.ReadFrom(make([]byte, 64))
			return err == nil && hosttest.PeerOf(peer) == "127.0.0.2"
		}
		l.Must(l.Nodes["a1"].Do(func() error {
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return err
			}
			return hosttest.AddAddress(hosttest.Handle(), lo, "127.0.0.1/8")
		}))
		if heard() {
			t.Error("the host hears a container as 127.0.0.2")
		}
		hosttest.NFT(t, "flush", "chain", "inet", "dcni", "raw")
		if !heard() {
			t.Log("not heard without the rule either: this kernel stops it elsewhere")
		}
	})
}

// TestUserChainComesFirst: what users drop is dropped, established or not.
func TestUserChainComesFirst(t *testing.T) {
	hosttest.InNewNS(t, func() {
		l := hosttest.NewNetworks(t, true)
		publishAll(l)
		hosttest.NFT(t, "add", "rule", "inet", "dcni", "dcni-user", "ip", "saddr", "192.0.2.2", "drop")
		travel(l, t, "user's drop", []trip{{"published, from outside", "out", "host", 8080, "", "4"}})
	})
}
