package rtnl

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/nlsock"
)

// Attributes of a namespace's number (uapi/linux/net_namespace.h), which x/sys lacks.
const (
	netnsaNSID = 1 // NETNSA_NSID
	netnsaFD   = 3 // NETNSA_FD
)

// rtgenmsg appends a struct rtgenmsg, padded.
func (m *Message) rtgenmsg() { m.B = append(m.B, unix.AF_UNSPEC, 0, 0, 0) }

// NSID returns the number that a namespace has here, -1 if it has none. The descriptor
// is the namespace's.
func (r *Conn) NSID(fd int) (int, error) {
	payloads, err := r.Request(unix.RTM_GETNSID, 0, func(m *Message) {
		m.rtgenmsg()
		m.Native(netnsaFD, uint32(fd))
	})
	id := Here
	for _, p := range payloads {
		if len(p) < 4 {
			continue
		}
		nlsock.Attributes(p[4:], func(typ uint16, data []byte) {
			if typ == netnsaNSID && len(data) >= 4 {
				id = int(int32(binary.NativeEndian.Uint32(data)))
			}
		})
	}
	return id, err
}

// Number gives a namespace a number here, unless it has one: events from there can then
// be heard.
func (r *Conn) Number(fd int) error {
	err := r.Change(unix.RTM_NEWNSID, 0, func(m *Message) {
		m.rtgenmsg()
		m.Native(netnsaFD, uint32(fd))
		m.Native(netnsaNSID, ^uint32(0)) // any
	})
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}
