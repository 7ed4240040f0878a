package main

import "dcni/pkg/names"

// families are the addresses that a sandbox may ask: 127.0.0.11, ::1.
const families = names.IPv6 + 1

// A socketStore holds a second copy of sockets, which outlives the process.
// Descriptors that it is given stay the caller's.
type socketStore interface {
	// put stores the UDP socket and the TCP listener of a family of a sandbox.
	put(cookie uint64, f names.Family, udp, tcp int)
	// drop removes a sandbox's sockets.
	drop(cookie uint64)
	// claim returns the sockets that an earlier process stored, the first time that
	// it is called. They are the caller's.
	claim(cookie uint64, f names.Family) (udp, tcp int, ok bool)
}

// noStore stores nothing: after a restart, sockets are opened from the records.
type noStore struct{}

func (noStore) put(uint64, names.Family, int, int) {}
func (noStore) drop(uint64)                        {}
func (noStore) claim(uint64, names.Family) (udp, tcp int, ok bool) {
	return -1, -1, false
}
