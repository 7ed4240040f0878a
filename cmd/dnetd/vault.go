package main

import "dcni/pkg/names"

// families are the addresses that a sandbox may ask: 127.0.0.11, ::1.
const families = names.IPv6 + 1

// A vault holds a second copy of sockets, so that they outlive the process.
// Descriptors that it is given stay the caller's.
type vault interface {
	// put stores the UDP socket and the TCP listener of a family of a sandbox.
	put(cookie uint64, f names.Family, udp, tcp int)
	// drop lets go of a sandbox's.
	drop(cookie uint64)
	// take returns what an earlier process has put there, once, if anything.
	take(cookie uint64, f names.Family) (udp, tcp int, ok bool)
}

// noVault holds nothing: sockets are opened again from the records.
type noVault struct{}

func (noVault) put(uint64, names.Family, int, int) {}
func (noVault) drop(uint64)                        {}
func (noVault) take(uint64, names.Family) (udp, tcp int, ok bool) {
	return -1, -1, false
}
