// Package testhost makes throwaway hosts: a network and a mount namespace that look
// like a freshly booted machine with one network card, and vanish with the
// thread that is in them.
//
// A host has
//
//   - eth0 with 192.0.2.1/24 and 2001:db8::1/64, a veth whose other end is
//     eth0 of the network namespace "outside" with 192.0.2.2 and 2001:db8::2,
//     and default routes through it; "outside" knows no way back to any
//     container network, so an answer proves masquerading;
//   - an empty /run and /dev/shm, and copies of /etc, /opt and /var/lib that can be written
//     to; /etc/cni, /var/lib/cni and /var/lib/dcni are empty;
//   - /opt/cni/bin and /usr/lib/cni with the plugins under test and Debian's;
//   - named network namespaces in /run/netns, as ip-netns(8) expects them.
//
// Namespaces belong to threads. A host is one locked thread, and everything
// that happens on it, also in the processes it starts, happens in the host.
// Nothing on the machine itself changes.
//
// A host may become the wire between several nodes, see NewNodes. Each of these is a
// host as above, and the same thread visits them in turn.
package testhost

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Host is a throwaway host. Its methods must be called by the goroutine that
// called NewHost, or by one that Thread took there.
type Host struct {
	IPv4, IPv6 netip.Addr // of eth0; none once it is the wire between nodes

	netns int // descriptor of the host's own network namespace
	mntns int // of its mount namespace
	utsns int // and of its UTS namespace, which is the process's own but for nodes
}

// Addresses of a host and of its neighbour outside.
const (
	HostIPv4    = "192.0.2.1"
	HostIPv6    = "2001:db8::1"
	OutsideIPv4 = "192.0.2.2"
	OutsideIPv6 = "2001:db8::2"
)

// NewHost locks the calling goroutine to its thread for good and makes that
// thread a fresh host. plugins is a directory of plugins to put before
// Debian's, or "". The thread, and with it the host, ends with the goroutine.
func NewHost(plugins string) (*Host, error) {
	runtime.LockOSThread() // never unlocked: the thread can't go back
	h, err := newNamespaces(plugins)
	if err != nil {
		return nil, err
	}
	h.IPv4, h.IPv6 = netip.MustParseAddr(HostIPv4), netip.MustParseAddr(HostIPv6)
	return h, h.connect()
}

// newNamespaces gives the calling thread a network and a mount namespace.
func newNamespaces(plugins string) (*Host, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("unshare: %w", err)
	}
	if err := mountAll(plugins); err != nil {
		return nil, err
	}
	h := &Host{}
	for kind, fd := range map[string]*int{"net": &h.netns, "mnt": &h.mntns, "uts": &h.utsns} {
		var err error
		if *fd, err = openOwn(kind); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// openOwn opens a namespace of the calling thread.
func openOwn(kind string) (int, error) {
	fd, err := unix.Open("/proc/thread-self/ns/"+kind, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open own %s namespace: %w", kind, err)
	}
	return fd, nil
}

// Close lets go of the host's namespaces.
func (h *Host) Close() error {
	return errors.Join(unix.Close(h.netns), unix.Close(h.mntns), unix.Close(h.utsns))
}

// Thread takes the calling goroutine into the host, for good: its thread ends
// with it. It may be called by any goroutine but the host's own, and is what
// starts processes at the same time.
func (h *Host) Thread() error {
	runtime.LockOSThread()
	// Threads of a process share their root directory, and a thread that does
	// can't change its mount namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	return h.enter()
}

// connect brings lo up and connects the host with the namespace outside.
func (h *Host) connect() error {
	if err := h.NewNetNS("outside"); err != nil {
		return err
	}
	if err := ip(`
		link set lo up
		link add eth0 type veth peer name eth0 netns outside`); err != nil {
		return err
	}
	if err := configure(HostIPv4, HostIPv6); err != nil {
		return err
	}
	err := h.In("outside", func() error {
		return errors.Join(ip("link set lo up"), configure(OutsideIPv4, OutsideIPv6))
	})
	if err != nil {
		return err
	}
	if err := ip("route add default via " + OutsideIPv4 + "\nroute add default via " + OutsideIPv6); err != nil {
		return err
	}
	return errors.Join(awaitCarrier(), h.In("outside", awaitCarrier))
}

// awaitCarrier waits until eth0 passes packets. The kernel tells an interface
// of its carrier in its own time, and drops what is sent before.
func awaitCarrier() error {
	for range 500 {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		if link.Flags&net.FlagRunning != 0 {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("eth0 has no carrier after 5 s")
}

// configure gives eth0 its addresses. Duplicate address detection is off for
// eth0 alone: it would delay the first IPv6 packet by 2 s in each test, and
// switched off for all links it would hide a plugin that waits for it.
func configure(v4, v6 string) error {
	const dad = "/proc/sys/net/ipv6/conf/eth0/accept_dad"
	if err := os.WriteFile(dad, []byte("0"), 0o644); err != nil {
		return err
	}
	return ip("addr add " + v4 + "/24 dev eth0\naddr add " + v6 + "/64 dev eth0 nodad\nlink set eth0 up")
}

// ip runs ip(8) commands, one a line.
func ip(batch string) error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(batch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip -batch: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// NetNSPath returns the path of a named network namespace; a path stays as it
// is.
func NetNSPath(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join("/run/netns", name)
}

// NewNetNS makes a named network namespace, as `ip netns add` does: with
// nothing but a lo that is down.
func (h *Host) NewNetNS(name string) error {
	path := NetNSPath(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	_ = f.Close() // nothing was written
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	return h.back(err)
}

// DelNetNS removes a named network namespace. Its links are gone when the
// kernel has got round to it, which is a little later.
func (h *Host) DelNetNS(name string) error {
	path := NetNSPath(name)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return os.Remove(path)
}

// In calls f in the network namespace of that name; "host" is the host's own.
func (h *Host) In(name string, f func() error) error {
	if name == "host" {
		return f()
	}
	path := NetNSPath(name)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", name, err)
	}
	defer unix.Close(fd) // read only
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter %s: %w", path, err)
	}
	return h.back(f())
}

// back returns the thread to the host's network namespace. A thread that can't
// return must not run on: the next test step would be somewhere else.
func (h *Host) back(err error) error {
	if e := unix.Setns(h.netns, unix.CLONE_NEWNET); e != nil {
		panic(fmt.Sprintf("testhost: return to the host's network namespace: %v", e))
	}
	return err
}
