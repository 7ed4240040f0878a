package reach

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"dcni/integration/testhost"
)

// Addresses of the world, IPv4 and IPv6. Each container's network has the first /24 and /64 of
// its kind, the gateway is .1 and ::1, the first container .2 and ::2, and so on.
var (
	hostAddress   = [2]string{testhost.HostIPv4, testhost.HostIPv6}
	neighbour     = [2]string{testhost.OutsideIPv4, testhost.OutsideIPv6}
	remote        = [2]string{"203.0.113.2", "2001:db8:2::2"}
	far           = [2]string{"198.51.100.2", "2001:db8:1::2"}
	first         = [2]string{"10.88.0.2", "fd00:88::2"}
	second        = [2]string{"10.88.0.3", "fd00:88::3"}
	third         = [2]string{"10.88.0.4", "fd00:88::4"}
	machine       = [2]string{"10.88.0.9", "fd00:88::9"}
	gateway       = [2]string{"10.88.0.1", "fd00:88::1"}
	otherFirst    = [2]string{"10.89.0.2", "fd00:89::2"}
	otherGateway  = [2]string{"10.89.0.1", "fd00:89::1"}
	loopback      = [2]string{"127.0.0.1", "::1"}
	chosenAddress = [2]string{"192.0.2.9", "2001:db8::9"}
)

// Subnets of the network in question and of the other one.
var (
	subnets      = [2]string{"10.88.0.0/24", "fd00:88::/64"}
	otherSubnets = [2]string{"10.89.0.0/24", "fd00:89::/64"}
)

// otherBridge is the other network's.
const otherBridge = "br-d"

// Bridge is the network's.
func (n *Network) Bridge() string {
	if n.Adopted() {
		return ownBridge
	}
	return "br-n"
}

// ownBridge is one that is there before the network.
const ownBridge = "br-own"

// Adopted reports whether the network is on a bridge that was there.
func (n *Network) Adopted() bool { return strings.Contains(n.Keys, `"bridge": "`+ownBridge+`"`) }

// namespaces of the askers.
var namespaces = map[string]string{
	"host": "host", "self": "c1", "same": "c2", "detour": "c3", "machine": "vm", "other": "d1", "neighbour": "outside", "remote": "remote", "eth1": "far",
}

// A World is a throwaway host with machines around it. Its methods are called by the goroutine
// that made the host.
type World struct {
	*testhost.Host
	servers []io.Closer
}

// NewWorld puts machines around a fresh host: the neighbour becomes a router with a machine
// behind it, and another machine is at a second card. All know the way to containers.
func NewWorld(h *testhost.Host) (*World, error) {
	w := &World{Host: h}
	for _, ns := range []string{"remote", "far"} {
		if err := h.NewNetNS(ns); err != nil {
			return nil, err
		}
	}
	for _, ns := range []string{"host", "outside", "remote", "far"} {
		if err := w.settings(ns); err != nil {
			return nil, err
		}
	}
	return w, errors.Join(
		w.ip("host", `
			link add eth1 type veth peer name eth0 netns far
			addr add 198.51.100.1/24 dev eth1
			addr add 2001:db8:1::1/64 dev eth1 nodad
			link set eth1 up`),
		w.write("outside", "ipv4/ip_forward", "1"), w.write("outside", "ipv6/conf/all/forwarding", "1"),
		w.ip("outside", `
			link add eth1 type veth peer name eth0 netns remote
			addr add 203.0.113.1/24 dev eth1
			addr add 2001:db8:2::1/64 dev eth1 nodad
			link set eth1 up
			route add 10.0.0.0/8 via 192.0.2.1
			route add fd00::/16 via 2001:db8::1
			rule add pref 10 iif eth0 to 10.0.0.0/8 blackhole`),
		w.ip6("outside", "rule add pref 10 iif eth0 to fd00::/16 blackhole"), // or what no bridge takes would go round and round
		w.configure("remote", remote, "203.0.113.1", "2001:db8:2::1"),
		w.configure("far", far, "198.51.100.1", "2001:db8:1::1"),
		w.byHost("outside", neighbour, hostAddress),
		w.byHost("far", far, [2]string{"198.51.100.1", "2001:db8:1::1"}),
	)
}

// configure gives a namespace addresses and a router.
func (w *World) configure(ns string, own [2]string, router4, router6 string) error {
	return w.ip(ns, fmt.Sprintf(`
		link set lo up
		addr add %s/24 dev eth0
		addr add %s/64 dev eth0 nodad
		link set eth0 up
		route add default via %s
		route add default via %s`, own[0], own[1], router4, router6))
}

// settings of a namespace, before it has links: addresses count at once, errors are told as
// often as they happen, and echo requests need no rights.
func (w *World) settings(ns string) error {
	return errors.Join(
		w.write(ns, "ipv6/conf/default/accept_dad", "0"),
		w.write(ns, "ipv4/icmp_ratelimit", "0"), w.write(ns, "ipv6/icmp/ratelimit", "0"),
		w.write(ns, "ipv4/ping_group_range", "0 2147483647"),
	)
}

// write changes a setting below /proc/sys/net.
func (w *World) write(ns, name, value string) error {
	return w.In(ns, func() error { return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0) })
}

// ip runs commands of ip(8) in a namespace.
func (w *World) ip(ns, batch string) error { return w.run(ns, batch, "ip", "-batch", "-") }

// ip6 does so for what is of a family and does not tell by its words.
func (w *World) ip6(ns, batch string) error { return w.run(ns, batch, "ip", "-6", "-batch", "-") }

// run runs a program in a namespace.
func (w *World) run(ns, stdin, name string, args ...string) error {
	return w.In(ns, func() error {
		cmd := exec.Command(name, args...)
		cmd.Stdin = strings.NewReader(stdin)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
		}
		return nil
	})
}

// byHost leads 127.0.0.0/8 and ::1 to the host, as a machine can that has rights over its own
// network. own and router are its addresses and the host's; an empty one leaves the family out.
func (w *World) byHost(ns string, own, router [2]string) error {
	var err error
	if own[0] != "" {
		err = errors.Join(
			w.write(ns, "ipv4/conf/all/route_localnet", "1"), w.write(ns, "ipv4/conf/eth0/route_localnet", "1"),
			w.ip(ns, fmt.Sprintf(`
				rule add pref 1 lookup 200
				rule add pref 2 lookup local
				rule del pref 0
				route add 127.0.0.0/8 via %s dev eth0 src %s table 200`, router[0], own[0])))
	}
	if own[1] != "" {
		err = errors.Join(err, w.ip6(ns, fmt.Sprintf(`
			rule add pref 1 lookup 200
			rule add pref 2 lookup local
			rule del pref 0
			route add ::1 via %s dev eth0 src %s table 200`, router[1], own[1])))
	}
	return err
}

// detour has a container of a network route all by the gateway, also what its neighbours are to get.
func (w *World) detour(n *Network) error {
	var err error
	for i, neighbour := range n.of(first) {
		if neighbour != "" {
			err = errors.Join(err, w.ip("c3", fmt.Sprintf("route add %s via %s\nroute add default via %s metric 1", neighbour, gateway[i], gateway[i])))
		}
	}
	return err
}

// onBridge puts a machine that is no container on the bridge of another owner's.
func (w *World) onBridge() error {
	return errors.Join(
		w.NewNetNS("vm"), w.settings("vm"),
		w.ip("host", "link add vm0 type veth peer name eth0 netns vm\nlink set vm0 master "+ownBridge+" up"),
		w.configure("vm", machine, gateway[0], gateway[1]), w.byHost("vm", machine, gateway))
}

// of returns addresses of the families that a network has.
func (n *Network) of(a [2]string) [2]string {
	switch n.Family {
	case "4":
		return [2]string{a[0]}
	case "6":
		return [2]string{"", a[1]}
	}
	return a
}

// linkLocal waits for the link-local address of a link, and returns it with the link's index
// as its zone. The kernel makes it when the link has a carrier.
func (w *World) linkLocal(ns, link string) (addr netip.Addr, err error) {
	err = w.In(ns, func() error {
		for range 1500 {
			text, err := os.ReadFile("/proc/thread-self/net/if_inet6")
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(text)) { // address, index, prefix length, scope, flags, link
				f := strings.Fields(line)
				const tentative = 0x40
				if flags, _ := strconv.ParseUint(f[4], 16, 32); f[5] != link || f[3] != "20" || flags&tentative != 0 {
					continue
				}
				index, err := strconv.ParseUint(f[1], 16, 32)
				addr = parseHex(f[0]).WithZone(strconv.FormatUint(index, 10))
				return err
			}
			time.Sleep(10 * time.Millisecond)
		}
		return fmt.Errorf("%s: %s has no link-local address", ns, link)
	})
	return addr, err
}

// parseHex reads an address as /proc/net/if_inet6 has it.
func parseHex(text string) netip.Addr {
	var groups []string
	for part := range slices.Chunk([]byte(text), 4) {
		groups = append(groups, string(part))
	}
	return netip.MustParseAddr(strings.Join(groups, ":"))
}
