package testhost

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// firstNode is what the first node's addresses end with; the others' follow.
const firstNode = 11

// NewNodes makes hosts beside each other, with names, and h the wire between them: eth0
// of each is on the bridge "underlay" of h, where "outside" is too, and h itself has no
// address any more. A node has network, mount and UTS namespaces of its own, addresses
// from 192.0.2.11 and 2001:db8::11 on, its name as host name, and the names of all in
// /etc/hosts. mtu is that of all eth0, in bytes. plugins are as with NewHost.
func (h *Host) NewNodes(plugins string, mtu int, names ...string) ([]*Host, error) {
	var nodes []*Host
	hosts := "127.0.0.1\tlocalhost\n::1\tlocalhost\n"
	for i, name := range names {
		n, err := newNode(plugins, name)
		if err != nil {
			return nodes, fmt.Errorf("node %s: %w", name, err)
		}
		n.IPv4, n.IPv6 = netip.AddrFrom4([4]byte{192, 0, 2, byte(firstNode + i)}), netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", firstNode+i))
		nodes = append(nodes, n)
		hosts += fmt.Sprintf("%s\t%s\n%s\t%s\n", n.IPv4, name, n.IPv6, name)
	}
	if err := h.becomeWire(mtu); err != nil {
		return nodes, err
	}
	for i, n := range nodes {
		if err := h.plugIn(names[i], n, mtu); err != nil {
			return nodes, fmt.Errorf("node %s: %w", names[i], err)
		}
		n.Enter()
		err := errors.Join(replace("/etc/hosts", hosts), replace("/etc/hostname", names[i]+"\n"))
		h.Enter()
		if err != nil {
			return nodes, fmt.Errorf("node %s: %w", names[i], err)
		}
	}
	return nodes, nil
}

// newNode makes the namespaces of a host on a thread of their own: they stay, by their
// descriptors, when the thread is gone.
func newNode(plugins, name string) (*Host, error) {
	var h *Host
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is scrapped
		err := unix.Unshare(unix.CLONE_NEWUTS)
		if err == nil {
			err = unix.Sethostname([]byte(name))
		}
		if err == nil {
			h, err = newNamespaces(plugins)
		}
		done <- err
	}()
	return h, <-done
}

// becomeWire makes h, with its eth0, a switch: what is bridged passes no rules.
func (h *Host) becomeWire(mtu int) error {
	h.IPv4, h.IPv6 = netip.Addr{}, netip.Addr{}
	if err := ip(fmt.Sprintf(`
		link add underlay mtu %d type bridge mcast_snooping 0 nf_call_iptables 0 nf_call_ip6tables 0
		addr flush dev eth0
		link set eth0 mtu %d master underlay`, mtu, mtu)); err != nil {
		return err
	}
	for _, link := range []string{"underlay", "eth0"} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+link+"/disable_ipv6", []byte("1"), 0o644); err != nil {
			return err
		}
	}
	for _, family := range []string{"iptables", "ip6tables"} { // there only with br_netfilter
		path := "/proc/sys/net/bridge/bridge-nf-call-" + family
		if err := os.WriteFile(path, []byte("0"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return errors.Join(ip("link set underlay up"), h.In("outside", func() error { return ip(fmt.Sprintf("link set eth0 mtu %d", mtu)) }))
}

// plugIn joins a node to the wire, where the port has the node's name, as has its
// network namespace.
func (h *Host) plugIn(name string, n *Host, mtu int) error {
	path := NetNSPath(name)
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		return err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/thread-self/fd/%d", n.netns), path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", path, err)
	}
	if err := ip(fmt.Sprintf(`
		link add %[1]s mtu %[2]d type veth peer name eth0 mtu %[2]d netns %[1]s
		link set %[1]s master underlay up`, name, mtu)); err != nil {
		return err
	}
	return h.In(name, func() error {
		if err := errors.Join(ip("link set lo up"), configure(n.IPv4.String(), n.IPv6.String())); err != nil {
			return err
		}
		return errors.Join(ip("route add default via "+OutsideIPv4+"\nroute add default via "+OutsideIPv6), awaitCarrier())
	})
}

// Enter takes the thread of another host into this one, by whose methods it goes on. A
// thread that can't enter must not run on: the next test step would be somewhere else.
func (h *Host) Enter() {
	if err := h.enter(); err != nil {
		panic(fmt.Sprintf("testhost: %v", err))
	}
}

// enter takes the thread, which shares its root directory with no other, into the host.
func (h *Host) enter() error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	for _, ns := range []struct{ fd, kind int }{{h.mntns, unix.CLONE_NEWNS}, {h.netns, unix.CLONE_NEWNET}, {h.utsns, unix.CLONE_NEWUTS}} {
		if err := unix.Setns(ns.fd, ns.kind); err != nil {
			return fmt.Errorf("enter the host: %w", err)
		}
	}
	return unix.Chdir(dir) // a mount namespace is entered at its root
}

// Processes returns the IDs of the processes in the host's mount namespace whose command
// line, words joined by blanks and the first without its folder, matches. It may be
// called from any host.
func (h *Host) Processes(pattern *regexp.Regexp) (pids []int) {
	entries, _ := os.ReadDir("/proc") // sorted as text
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || !h.has(pid) {
			continue
		}
		text, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		words := strings.Split(strings.TrimRight(string(text), "\x00"), "\x00")
		words[0] = filepath.Base(words[0])
		if pattern.MatchString(strings.Join(words, " ")) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// has reports whether a process is in the host's mount namespace. One that is dead is in none.
func (h *Host) has(pid int) bool {
	var own, its unix.Stat_t
	return unix.Fstat(h.mntns, &own) == nil && unix.Stat(fmt.Sprintf("/proc/%d/ns/mnt", pid), &its) == nil &&
		its.Ino == own.Ino && its.Dev == own.Dev
}

// Kill ends such processes by SIGKILL, waits until they are gone, and returns how many
// there were.
func (h *Host) Kill(pattern *regexp.Regexp) (int, error) {
	pids := h.Processes(pattern)
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return 0, fmt.Errorf("kill %d: %w", pid, err)
		}
	}
	for end := time.Now().Add(5 * time.Second); slices.ContainsFunc(pids, h.has) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	return len(pids), nil
}
