package hosttest

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"dcni/pkg/host/hostports"
)

// NewNetworks makes a host with containers on four networks, and one outside:
//
//	br-a  10.1.0.0/24  a1 a2   icc, masquerade
//	br-b  10.2.0.0/24  b1      icc, masquerade
//	br-i  10.3.0.0/24  i1 i2   internal, icc
//	br-n  10.4.0.0/24  n1 n2   no icc (ports isolated, if asked), no masquerade
//	out0  192.0.2.1    out     192.0.2.2, routes everything to the host
//
// and the same in fd00:1::/64 to fd00:4::/64 and 2001:db8::/64.
func NewNetworks(t *testing.T, isolate bool) *Topology {
	l := NewTopology(t)
	for i, name := range []string{"br-a", "br-b", "br-i", "br-n"} {
		l.Bridge(name, i+1)
	}
	l.Container("a1", "br-a", 1, 2)
	l.Container("a2", "br-a", 1, 3)
	l.Container("b1", "br-b", 2, 2)
	l.Container("i1", "br-i", 3, 2)
	l.Container("i2", "br-i", 3, 3)
	for i, name := range []string{"n1", "n2"} {
		l.Must(netlink.LinkSetIsolated(l.Container(name, "br-n", 4, 2+i), isolate))
	}
	out := l.NewNode("out", "192.0.2.2", "2001:db8::2")
	veth := l.Veth("out0", out, 0, "24", "192.0.2.1", "2001:db8::1")
	l.Must(AddAddress(Handle(), veth, "192.0.2.1/24", "2001:db8::1/64"))
	Sysctl(t, "net/ipv4/conf/out0/route_localnet", "1")
	l.Host.V4, l.Host.V6 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	// An IPv6 address is the host's once its link has seen a carrier.
	for i := 0; ; i++ {
		if local, err := hostports.IsLocal(map[netip.Addr]bool{}, l.Host.V6); local || err != nil {
			break
		}
		if i == 200 {
			t.Fatalf("%s is not local", l.Host.V6)
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, n := range l.Nodes {
		if n != l.Host {
			l.Serve(n, 80)
		}
	}
	return l
}

// BridgeNetfilter sets br_netfilter for the thread's namespace. It tells whether
// the kernel has it.
func BridgeNetfilter(t *testing.T, on string) bool {
	if _, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables"); err != nil {
		return false
	}
	Sysctl(t, "net/bridge/bridge-nf-call-iptables", on)
	Sysctl(t, "net/bridge/bridge-nf-call-ip6tables", on)
	return true
}
