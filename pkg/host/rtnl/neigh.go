package rtnl

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/nlsock"
)

// sizeofNdMsg is the length of struct ndmsg (uapi/linux/neighbour.h).
const sizeofNdMsg = 12

// A Neigh is an entry of a neighbour table or, with the family AF_BRIDGE, of a forwarding
// database.
type Neigh struct {
	Family byte
	Flags  byte   // NTF_*: NTF_SELF for the device's own database, NTF_MASTER for its bridge's
	State  uint16 // NUD_*
	Index  int    // of the link
	Master int    // of an entry as it was listed: the link's bridge, where it is that one's; 0: none
	IP     netip.Addr
	MAC    net.HardwareAddr
}

func (m *Message) neigh(n Neigh) {
	m.B = append(m.B, n.Family, 0, 0, 0)
	m.B = binary.NativeEndian.AppendUint32(m.B, uint32(n.Index))
	m.B = binary.NativeEndian.AppendUint16(m.B, n.State)
	m.B = append(m.B, n.Flags, 0)
	if n.IP.IsValid() {
		m.Raw(unix.NDA_DST, n.IP.AsSlice())
	}
	if len(n.MAC) > 0 {
		m.Raw(unix.NDA_LLADDR, n.MAC)
	}
}

// PutNeigh enters an entry. How says what is done with one that is there:
// unix.NLM_F_REPLACE, or unix.NLM_F_APPEND for one more destination of its MAC.
func (r *Conn) PutNeigh(n Neigh, how uint16) error {
	return r.Change(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|how, func(m *Message) { m.neigh(n) })
}

// DelNeigh deletes the entry of an address, or of a MAC in a forwarding database.
func (r *Conn) DelNeigh(n Neigh) error {
	return r.Change(unix.RTM_DELNEIGH, 0, func(m *Message) { m.neigh(n) })
}

// GetNeigh asks for the entry of an address, or of a MAC in a forwarding database. The
// error is unix.ENOENT where there is none.
func (r *Conn) GetNeigh(n Neigh) (Neigh, error) {
	n.State = 0
	payloads, err := r.Request(unix.RTM_GETNEIGH, 0, func(m *Message) { m.neigh(n) })
	if err != nil {
		return Neigh{}, err
	}
	for _, p := range payloads {
		if found, ok := parseNeigh(p); ok {
			return found, nil
		}
	}
	return Neigh{}, unix.ENOENT
}

// Neighs lists the entries of a family on a link.
func (r *Conn) Neighs(family byte, index int) ([]Neigh, error) {
	payloads, err := r.Request(unix.RTM_GETNEIGH, unix.NLM_F_DUMP, func(m *Message) {
		m.neigh(Neigh{Family: family})
		m.Native(unix.NDA_IFINDEX, uint32(index))
	})
	var list []Neigh
	for _, p := range payloads {
		if n, ok := parseNeigh(p); ok && n.Index == index && n.Family == family {
			list = append(list, n)
		}
	}
	return list, err
}

// parseNeigh reads an entry out of a message, behind its netlink header. It keeps slices
// of b.
func parseNeigh(b []byte) (n Neigh, ok bool) {
	if len(b) < sizeofNdMsg {
		return n, false
	}
	n.Family, n.Index = b[0], int(int32(binary.NativeEndian.Uint32(b[4:])))
	n.State, n.Flags = binary.NativeEndian.Uint16(b[8:]), b[10]
	nlsock.Attributes(b[sizeofNdMsg:], func(typ uint16, data []byte) {
		switch {
		case typ == unix.NDA_DST:
			n.IP, _ = netip.AddrFromSlice(data)
		case typ == unix.NDA_LLADDR:
			n.MAC = data
		case typ == unix.NDA_MASTER && len(data) >= 4:
			n.Master = int(binary.NativeEndian.Uint32(data))
		}
	})
	return n, true
}
