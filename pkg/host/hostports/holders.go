package hostports

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"dcni/pkg/firewall"
	"dcni/pkg/host/proc"
	"dcni/pkg/wire"
)

// Reserved reports whether a listener only keeps its port for the container.
// Podman's conmon holds a socket for each published port of its container, and
// its command line names that. nerdctl, where that is our parent, has started
// one before it calls the plugins. Neither ever reads from the socket. A caller may also hold
// the port itself, as Apptainer does.
//
// What no process here is seen to hold is not reserved.
func Reserved(l Listener, container string) bool {
	if heldByCaller(l) {
		return true
	}
	for p := range proc.All() {
		if reserves(p, container) && p.HoldsSocket(l.inode) {
			return true
		}
	}
	return false
}

// heldByCaller reports whether the program that called this plugin has the listener open, be it
// in a process further up. What dnetd holds is not for the container that it heals.
func heldByCaller(l Listener) bool {
	caller := proc.Process(os.Getppid())
	program := caller.Executable()
	if program == "" || filepath.Base(program) == "dnetd" {
		return false
	}
	for p := caller; p > 1 && p.Executable() == program; p = p.Parent() {
		if p.HoldsSocket(l.inode) {
			return true
		}
	}
	return false
}

// reserves reports whether a process may hold ports for a container.
func reserves(p proc.Process, container string) bool {
	if int(p) == os.Getpid() {
		return false
	}
	if slices.Contains(p.Args(), container) {
		return true
	}
	// No other parent will do: a shell that tries a plugin by hand has its own
	// servers for children.
	caller := proc.Process(os.Getppid())
	return filepath.Base(caller.Executable()) == "nerdctl" && p.Parent() == caller
}

// HolderOf returns the process that has a UDP port of this host, as "12 (named)"; "" where
// none is seen to, as the kernel itself is not.
func HolderOf(udp uint16) string {
	list, err := Listeners("udp")
	if err != nil {
		return ""
	}
	for _, l := range list {
		if l.Port != udp || l.inode == 0 {
			continue
		}
		for p := range proc.All() {
			if p.HoldsSocket(l.inode) {
				return p.String()
			}
		}
	}
	return ""
}

// RuntimeThatBinds returns the program that called this plugin, if it is one that binds
// published ports itself once its plugins have returned; else "". Podman does so, and
// starts no container whose port another program has.
func RuntimeThatBinds() string {
	const podman = "podman"
	if filepath.Base(proc.Process(os.Getppid()).Executable()) == podman {
		return podman
	}
	return ""
}

// Taken returns Docker's error for a port that a listener has. It names dnetd if that is
// dnetd's: its metrics at an address that a user chose.
func Taken(l Listener, p firewall.Port, v6 bool) error {
	by := ""
	for holder := range proc.All() {
		if filepath.Base(holder.Executable()) == "dnetd" && holder.HoldsSocket(l.inode) {
			by = fmt.Sprintf(" by dnetd, process %d: see its --metrics", int(holder))
			break
		}
	}
	return wire.Errorf(wire.CodePortTaken, "failed to bind host port %s/%s: address already in use%s", p.HostAddr(v6), p.Protocol, by)
}

// Connected returns Docker's error for a port that a connection of the host has at its own
// end: what the peer sends would be the container's.
func Connected(c Listener, p firewall.Port, v6 bool) error {
	return wire.Errorf(wire.CodePortTaken,
		"failed to bind host port %s/%s: address already in use by a connection to %s; net.ipv4.ip_local_reserved_ports keeps ports from connections",
		p.HostAddr(v6), p.Protocol, c.Peer)
}

// Holder returns a process that has the listener open, 0 where none is seen to.
func (l Listener) Holder() proc.Process {
	if l.inode == 0 {
		return 0
	}
	for p := range proc.All() {
		if p.HoldsSocket(l.inode) {
			return p
		}
	}
	return 0
}
