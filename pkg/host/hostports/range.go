package hostports

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// IsLocal reports whether the host takes packets to ip for its own, and keeps
// the answer in known. An address without a route is not the host's; the error says that
// the kernel could not be asked.
func IsLocal(known map[netip.Addr]bool, ip netip.Addr) (bool, error) {
	local, ok := known[ip]
	if !ok {
		routes, err := netlink.RouteGet(ip.AsSlice())
		for _, short := range []error{unix.ENOMEM, unix.ENOBUFS, unix.EMFILE, unix.ENFILE} {
			if errors.Is(err, short) {
				return false, fmt.Errorf("look up the route to %s: %w", ip, err)
			}
		}
		local = err == nil && slices.ContainsFunc(routes, func(r netlink.Route) bool { return r.Type == unix.RTN_LOCAL })
		known[ip] = local
	}
	return local, nil
}

// Ephemeral returns the ports the host may choose from, in order.
func Ephemeral() ([]uint16, error) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return nil, err
	}
	var low, high int
	if _, err := fmt.Sscan(string(text), &low, &high); err != nil {
		return nil, fmt.Errorf("ip_local_port_range %q: %w", text, err)
	}
	reserved, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_reserved_ports")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return portsBetween(low, high, string(reserved)), nil
}

// portsBetween returns low to high but for those in a list like "8080,9000-9010".
func portsBetween(low, high int, reserved string) []uint16 {
	out := make(map[int]bool)
	for _, word := range strings.Split(strings.TrimSpace(reserved), ",") {
		first, last, isRange := strings.Cut(word, "-")
		from, err := strconv.Atoi(first)
		to := from
		if isRange && err == nil {
			to, err = strconv.Atoi(last)
		}
		for p := from; err == nil && p <= to && p <= 65535; p++ {
			out[p] = true
		}
	}
	var ports []uint16
	for p := max(low, 1); p <= min(high, 65535); p++ {
		if !out[p] {
			ports = append(ports, uint16(p))
		}
	}
	return ports
}
