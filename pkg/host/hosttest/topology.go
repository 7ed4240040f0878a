package hosttest

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

func linkUp(t testing.TB, name string) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	if err != nil {
		t.Fatalf("link %s up: %v", name, err)
	}
}

// A Node is a network namespace with a name: the host, a container, the outside.
type Node struct {
	name string
	ns   netns.NsHandle
	V4   netip.Addr
	V6   netip.Addr
}

// Addr returns the node's address of a family.
func (n *Node) Addr(v6 bool) netip.Addr {
	if v6 {
		return n.V6
	}
	return n.V4
}

// Do runs f on a thread in the node's namespace; sockets made there stay there.
func (n *Node) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is scrapped
		if err := netns.Set(n.ns); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// Topology builds nodes around a host, which is the calling thread's namespace.
type Topology struct {
	T     testing.TB
	Host  *Node
	Nodes map[string]*Node
}

// NewTopology returns a topology around the thread's namespace, which forwards.
func NewTopology(t testing.TB) *Topology {
	ns, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	l := &Topology{T: t, Host: &Node{name: "host", ns: ns}, Nodes: map[string]*Node{}}
	l.Nodes["host"] = l.Host
	LoUp(t)
	for _, name := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		Sysctl(t, name, "1")
	}
	Sysctl(t, "net/ipv6/conf/default/accept_dad", "0")
	return l
}

// Must ends the test on an error. It is used on the host's thread only.
func (l *Topology) Must(err error) {
	l.T.Helper()
	if err != nil {
		l.T.Fatal(err)
	}
}

// AddAddress gives a link addresses, without duplicate detection.
func AddAddress(h *netlink.Handle, link netlink.Link, prefixes ...string) error {
	for _, p := range prefixes {
		addr, err := netlink.ParseAddr(p)
		if err != nil {
			return err
		}
		if addr.IP.To4() == nil {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := h.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("address %s: %w", p, err)
		}
	}
	return nil
}

// Bridge makes a bridge with the first address of 10.N.0.0/24 and fd00:N::/64.
func (l *Topology) Bridge(name string, n int) {
	la := netlink.NewLinkAttrs()
	la.Name = name
	la.HardwareAddr = net.HardwareAddr{2, 0x42, 0, 0, 0, byte(n)}
	br := &netlink.Bridge{LinkAttrs: la}
	l.Must(netlink.LinkAdd(br))
	Sysctl(l.T, "net/ipv4/conf/"+name+"/route_localnet", "1")
	l.Must(AddAddress(Handle(), br, fmt.Sprintf("10.%d.0.1/24", n), fmt.Sprintf("fd00:%d::1/64", n)))
	l.Must(netlink.LinkSetUp(br))
}

// Handle is a netlink handle of the thread's namespace.
func Handle() *netlink.Handle { return &netlink.Handle{} }

// Container makes a namespace on a bridge: 10.N.0.HOST and fd00:N::HOST.
func (l *Topology) Container(name, bridge string, n, host int) *netlink.Veth {
	br, err := netlink.LinkByName(bridge)
	l.Must(err)
	c := l.NewNode(name, fmt.Sprintf("10.%d.0.%d", n, host), fmt.Sprintf("fd00:%d::%d", n, host))
	port := l.Veth("v"+name, c, br.Attrs().Index, "24", fmt.Sprintf("10.%d.0.1", n), fmt.Sprintf("fd00:%d::1", n))
	l.Must(netlink.LinkSetHairpin(port, true))
	return port
}

// NewNode makes a namespace with a name and addresses, not yet joined to the host.
func (l *Topology) NewNode(name, v4, v6 string) *Node {
	ns, err := netns.New()
	l.Must(err)
	l.Must(netns.Set(l.Host.ns))
	l.T.Cleanup(func() { ns.Close() })
	c := &Node{name: name, ns: ns, V4: netip.MustParseAddr(v4), V6: netip.MustParseAddr(v6)}
	l.Nodes[name] = c
	return c
}

// Veth joins a node to the host and gives it its addresses and default routes.
// lo has no IPv4 address there, so that packets to 127.0.0.0/8 can leave the node;
// it is up, for IPv6 takes no packet to its own addresses without.
func (l *Topology) Veth(name string, n *Node, master int, bits, gw4, gw6 string) *netlink.Veth {
	la := netlink.NewLinkAttrs()
	la.Name, la.MasterIndex = name, master
	v := &netlink.Veth{LinkAttrs: la, PeerName: "eth0", PeerNamespace: netlink.NsFd(n.ns)}
	l.Must(netlink.LinkAdd(v))
	l.Must(netlink.LinkSetUp(v))
	l.Must(n.Do(func() error {
		Sysctl(l.T, "net/ipv6/conf/eth0/accept_dad", "0")
		Sysctl(l.T, "net/ipv4/conf/eth0/route_localnet", "1")
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		if err != nil {
			return err
		}
		if err := netlink.AddrDel(lo, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(127, 0, 0, 1), Mask: net.CIDRMask(8, 32)}}); err != nil {
			return fmt.Errorf("lo: %w", err)
		}
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		if err := AddAddress(Handle(), eth0, n.V4.String()+"/"+bits, n.V6.String()+"/64"); err != nil {
			return err
		}
		if err := netlink.LinkSetUp(eth0); err != nil {
			return err
		}
		for _, gw := range []string{gw4, gw6} {
			if err := netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: net.ParseIP(gw)}); err != nil {
				return fmt.Errorf("route via %s: %w", gw, err)
			}
		}
		return nil
	}))
	return v
}

// Serve answers on TCP and UDP with the peer's address and the node's name. Each family has sockets
// of its own: package net tries ::1 once a process to see whether a socket can
// serve both, maybe in a namespace that has none.
func (l *Topology) Serve(n *Node, port int) {
	l.Must(n.Do(func() error {
		for _, family := range []string{"4", "6"} {
			ln, err := net.Listen("tcp"+family, fmt.Sprintf(":%d", port))
			if err != nil {
				return err
			}
			pc, err := net.ListenPacket("udp"+family, fmt.Sprintf(":%d", port))
			if err != nil {
				return err
			}
			l.T.Cleanup(func() { ln.Close(); pc.Close() })
			go AnswerTCP(ln, n.name)
			go answerUDP(pc, n.name)
		}
		return nil
	}))
}

// AnswerTCP answers each connection.
func AnswerTCP(ln net.Listener, name string) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		fmt.Fprint(c, PeerOf(c.RemoteAddr()), " ", name)
		c.Close()
	}
}

func answerUDP(pc net.PacketConn, name string) {
	b := make([]byte, 64)
	for {
		_, peer, err := pc.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = pc.WriteTo([]byte(PeerOf(peer)+" "+name), peer)
	}
}

// PeerOf returns an address without port and zone.
func PeerOf(a net.Addr) string {
	ap, _ := netip.ParseAddrPort(a.String())
	return ap.Addr().Unmap().WithZone("").String()
}

// Patience is how long a packet may take; what is dropped takes that long.
const Patience = 400 * time.Millisecond

// Reach connects from a node and returns as whom the server saw it, "" if it
// could not be reached. proto is tcp or udp.
func (l *Topology) Reach(n *Node, proto string, to netip.AddrPort) (seen string) {
	var c net.Conn
	if proto += "4"; to.Addr().Is6() {
		proto = strings.TrimSuffix(proto, "4") + "6"
	}
	err := n.Do(func() (err error) {
		c, err = net.DialTimeout(proto, to.String(), Patience)
		return err
	})
	if err != nil {
		return ""
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(Patience))
	if strings.HasPrefix(proto, "udp") {
		fmt.Fprint(c, "hello")
	}
	b := make([]byte, 64)
	k, err := c.Read(b)
	if err != nil {
		return ""
	}
	seen, _, _ = strings.Cut(string(b[:k]), " ")
	return seen
}
