package overlay

import "dcni/pkg/wire"

// Sizes of headers in bytes.
const (
	sizeIPv4     = 20
	sizeIPv6     = 40
	sizeUDP      = 8
	sizeVXLAN    = 8
	sizeEthernet = 14 // of the frame inside
	sizeESP      = 8  // SPI and sequence number
	sizeIV       = 8  // of rfc4106(gcm(aes))
	sizeICV      = 16 // likewise, 128 bits
	sizeTrailer  = 2  // of ESP: length of the padding, next header
	alignESP     = 4  // of what ESP encrypts (RFC 4303, section 2.4)
)

// A Tunnel is what packets between two nodes go through.
type Tunnel struct {
	Underlay  int // MTU in bytes, of the link between the nodes
	IPv6      bool
	Encrypted bool // by ESP in transport mode
}

// MTU returns how many bytes a packet inside may have.
func (t Tunnel) MTU() int {
	room := t.Underlay - sizeIPv4
	if t.IPv6 {
		room = t.Underlay - sizeIPv6
	}
	if t.Encrypted {
		room -= sizeESP + sizeIV + sizeICV
		room -= room%alignESP + sizeTrailer
	}
	return room - sizeUDP - sizeVXLAN - sizeEthernet
}

// Tunnel returns what a network's packets to and from a node go through.
func (n Node) Tunnel(encrypted bool) Tunnel {
	return Tunnel{Underlay: n.MTU, IPv6: n.Address.Is6(), Encrypted: encrypted}
}

// CheckMTU refuses a network whose packets don't fit through the underlay of a node: its
// MTU is that of the nodes that there were when it was made.
func (n Network) CheckMTU(node Node) error {
	room := node.Tunnel(n.Encrypted).MTU()
	if n.MTU <= room {
		return nil
	}
	return wire.Errorf(wire.CodeConfig, "mtu %d: this node's underlay has %d bytes, and packets of a network at most %d", n.MTU, node.MTU, room)
}
