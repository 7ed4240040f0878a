package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"dcni/integration/testhost"
)

// prepareFloor makes what the floor's attachments share.
func prepareFloor() error {
	if out, err := exec.Command("ip", "link", "add", "br-floor", "up", "type", "bridge").CombinedOutput(); err != nil {
		return fmt.Errorf("ip link add br-floor: %w: %s", err, out)
	}
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(`table inet floor {
		set ports { type inet_service; }
		set addresses { type ipv4_addr; }
	}`)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, out)
	}
	return nil
}

// timeFloor times the floor's ADD and DEL of container i: "plain", with "names", or a
// "macvlan" or "ipvlan".
func timeFloor(i int, kind string) (add, del time.Duration, err error) {
	if add, err = runFloor("add-"+kind, i); err == nil {
		del, err = runFloor("del-"+kind, i)
	}
	return add, del, err
}

// runFloor runs a verb of the floor and returns how long it took.
func runFloor(verb string, i int) (time.Duration, error) {
	cmd := exec.Command("/proc/self/exe", "floor", verb, strconv.Itoa(i))
	cmd.Stderr = os.Stderr
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("floor %s: %w", verb, err)
	}
	return time.Since(start), nil
}

// floor is the bare netlink program: `floor add-KIND|del-KIND NUMBER`.
func floor(verb, number string) error {
	i, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	address := net.IPv4(10, 97, byte(i>>8), byte(i))
	verb, kind, _ := strings.Cut(verb, "-")
	if isLAN(kind) {
		return lanFloor(verb, kind, i)
	}
	names := kind == "names"
	if verb == "del" {
		link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: hostEnd(i)}}
		err := errors.Join(netlink.LinkDel(link), elements(i, address, (*nftables.Conn).SetDeleteElements))
		if names {
			err = errors.Join(err, inSandbox(i, func() error { return nameTable((*nftables.Conn).DelTable) }))
		}
		return err
	}
	err = errors.Join(plug(i, address), elements(i, address, (*nftables.Conn).SetAddElements))
	if names {
		err = errors.Join(err, inSandbox(i, nameServer))
	}
	return err
}

func hostEnd(i int) string { return "floor" + strconv.Itoa(i) }

// plug makes the pair in one message, and what is in the sandbox.
func plug(i int, address net.IP) error {
	file, err := os.Open(testhost.NetNSPath(sandbox(i)))
	if err != nil {
		return err
	}
	bridge, err := netlink.LinkByName("br-floor")
	if err != nil {
		return err
	}
	pair := netlink.NewLinkAttrs()
	pair.Name, pair.MasterIndex, pair.Flags = hostEnd(i), bridge.Attrs().Index, net.FlagUp
	fd := int(file.Fd())
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: pair, PeerName: "eth0", PeerNamespace: netlink.NsFd(fd)}); err != nil {
		return err
	}
	inside, err := netlink.NewHandleAt(netns.NsHandle(fd), netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	return configure(inside, &net.IPNet{IP: address, Mask: net.CIDRMask(16, 32)}, net.IPv4(10, 97, 255, 254))
}

// configure sets up what is in a sandbox.
func configure(inside *netlink.Handle, address *net.IPNet, gateway net.IP) error {
	eth0, err := inside.LinkByName("eth0")
	if err != nil {
		return err
	}
	lo, err := inside.LinkByName("lo")
	if err != nil {
		return err
	}
	return errors.Join(
		inside.AddrAdd(eth0, &netlink.Addr{IPNet: address}),
		inside.LinkSetUp(eth0),
		inside.LinkSetUp(lo),
		inside.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: gateway}))
}

// elements adds or deletes one element in each set, in one batch.
func elements(i int, address net.IP, change func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := &nftables.Table{Name: "floor", Family: nftables.TableFamilyINet}
	ports := &nftables.Set{Table: table, Name: "ports", KeyType: nftables.TypeInetService}
	addresses := &nftables.Set{Table: table, Name: "addresses", KeyType: nftables.TypeIPAddr}
	port := 10000 + i
	return errors.Join(
		change(conn, ports, []nftables.SetElement{{Key: []byte{byte(port >> 8), byte(port)}}}),
		change(conn, addresses, []nftables.SetElement{{Key: address.To4()}}),
		conn.Flush())
}
