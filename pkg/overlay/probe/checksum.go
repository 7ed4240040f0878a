package probe

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"

	"dcni/pkg/overlay"
)

// A question of [Checksum] is what a container's packet is: a frame that a VXLAN device of
// the VNI sends, with a UDP packet in it that lacks its checksum. The kernel computes
// that or leaves it to the NIC, and some NICs do it wrongly inside VXLAN. The
// receiver answers only if it is right, by VXLAN as it answers all else.
//
// The receiver has to look at such packets as they come in. A question of VXLAN of another
// kind, 3, has it do so for some seconds; it is answered once it does.

// What the frame's IP header has: an address that no host has, and a port for what is to be
// thrown away.
var dummy = netip.AddrFrom4([4]byte{192, 0, 0, 8}) // RFC 7600

const (
	portDiscard   = 9 // RFC 863
	typeIPv4      = 0x0800
	innerUDP      = sizeEthernet + sizeIPv4 // where in the frame UDP begins
	offsetUDP     = 6                       // where in UDP its checksum is
	hops          = 1
	versionAndIHL = 0x45
)

// Frame returns the frame of a question, and where in it the sum is to begin and go to, as
// struct virtio_net_hdr has it: the second counts from the first.
func Frame(m Message, l Link) (frame []byte, start, offset uint16) {
	b := make([]byte, innerUDP+sizeUDP+sizeBody)
	binary.BigEndian.PutUint16(b[12:], typeIPv4)
	ip, udp := b[sizeEthernet:innerUDP], b[innerUDP:]
	ip[0], ip[8], ip[9] = versionAndIHL, hops, protocolUDP
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(udp)))
	copy(ip[12:], dummy.AsSlice())
	copy(ip[16:], dummy.AsSlice())
	binary.BigEndian.PutUint16(ip[10:], ^add(ip))
	binary.BigEndian.PutUint16(udp, portDiscard)
	binary.BigEndian.PutUint16(udp[2:], portDiscard)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	Checksum.body(udp[sizeUDP:], m, l)
	binary.BigEndian.PutUint16(udp[offsetUDP:], add(pseudo(dummy, dummy, len(udp)))) // what the sum begins with
	return b, innerUDP, offsetUDP
}

// DecodeFrame reads such a question as it is behind the outer IP header, and tells whether
// its sum is right.
func DecodeFrame(b []byte) (m Message, right bool, err error) {
	if m, err = Checksum.Decode(b); err != nil {
		return m, false, err
	}
	if port := binary.BigEndian.Uint16(b[2:]); port != overlay.Port {
		return m, false, fmt.Errorf("a probe of checksums: port %d, must be %d", port, overlay.Port)
	}
	inner := b[sizeUDP+sizeVXLAN:]
	ip, udp := inner[sizeEthernet:innerUDP], inner[innerUDP:]
	if want, _, _ := Frame(m, Link{}); !bytes.Equal(ip, want[sizeEthernet:innerUDP]) || len(udp) != sizeUDP+sizeBody {
		return m, false, fmt.Errorf("a probe of checksums: IP header % x, must be % x", ip, want[sizeEthernet:innerUDP])
	}
	const whole = 0xffff
	return m, add(pseudo(dummy, dummy, len(udp)), udp) == whole, nil
}

// add returns the sum of 16-bit words with the carries added (RFC 1071), not complemented.
// All parts but the last are of even length.
func add(parts ...[]byte) uint16 {
	sum := uint32(0)
	for _, part := range parts {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(part[i]) << 8
			if i+1 < len(part) {
				sum += uint32(part[i+1])
			}
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// pseudo is what UDP's sum begins with (RFC 768; RFC 8200, section 8.1).
func pseudo(from, to netip.Addr, length int) []byte {
	b := append(from.AsSlice(), to.AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(length))
	return binary.BigEndian.AppendUint32(b, protocolUDP)
}
