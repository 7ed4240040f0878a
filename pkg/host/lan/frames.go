package lan

import (
	"encoding/binary"
	"net/netip"
)

// mac is an Ethernet address.
type mac [6]byte

var broadcast = mac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Lengths in bytes, and where things are in a frame.
const (
	etherLen = 14
	arpLen   = 28
	ip6Len   = 40
	ndLen    = 24 // of a solicitation or advertisement, without options

	etherARP = 0x0806
	etherIP4 = 0x0800
	etherIP6 = 0x86dd

	arpRequest = 1
	arpReply   = 2

	icmp6        = 58
	solicitation = 135
	advert       = 136
	hopLimit     = 255 // of what no router has forwarded

	optionTarget = 2  // the target's MAC
	optionNonce  = 14 // RFC 3971; tells our solicitations from others' (RFC 7527)
	nonceLen     = 6
)

func ether(to, from mac, protocol uint16) []byte {
	b := append(to[:len(to):len(to)], from[:]...)
	return binary.BigEndian.AppendUint16(b, protocol)
}

// arp returns an ARP request of Ethernet and IPv4 to all.
func arp(from mac, sender, target netip.Addr) []byte {
	b := ether(broadcast, from, etherARP)
	b = binary.BigEndian.AppendUint16(b, 1) // Ethernet
	b = binary.BigEndian.AppendUint16(b, etherIP4)
	b = append(b, byte(len(from)), 4, 0, arpRequest)
	b = append(append(b, from[:]...), sender.AsSlice()...)
	return append(append(b, make([]byte, len(from))...), target.AsSlice()...)
}

// arpProbe asks for an address without saying that it is ours (RFC 5227, section 2.1.1).
func arpProbe(from mac, a netip.Addr) []byte { return arp(from, netip.IPv4Unspecified(), a) }

// arpAnnouncement says that an address is ours (RFC 5227, section 2.3).
func arpAnnouncement(from mac, a netip.Addr) []byte { return arp(from, a, a) }

// ndProbe asks for an address without having it (RFC 4862, section 5.4.2).
func ndProbe(from mac, a netip.Addr, nonce [nonceLen]byte) []byte {
	body := append([]byte{solicitation, 0, 0, 0, 0, 0, 0, 0}, a.AsSlice()...)
	body = append(append(body, optionNonce, 1), nonce[:]...)
	return nd(from, netip.IPv6Unspecified(), solicitedNode(a), body)
}

// ndAnnouncement says that an address is ours (RFC 4861, section 7.2.6). The flag tells
// neighbours to override what they know.
func ndAnnouncement(from mac, a netip.Addr) []byte {
	const override = 0x20
	body := append([]byte{advert, 0, 0, 0, override, 0, 0, 0}, a.AsSlice()...)
	body = append(append(body, optionTarget, 1), from[:]...)
	return nd(from, a, netip.IPv6LinkLocalAllNodes(), body)
}

// solicitedNode returns the group that those are in which have an address (RFC 4291,
// section 2.7.1).
func solicitedNode(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 0x01, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}

// groupMAC returns the Ethernet address of a group (RFC 2464, section 7).
func groupMAC(group netip.Addr) mac {
	b := group.As16()
	return mac{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// nd returns a message of neighbour discovery to a group.
func nd(from mac, src, dst netip.Addr, body []byte) []byte {
	b := ether(groupMAC(dst), from, etherIP6)
	b = append(b, 6<<4, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	b = append(b, icmp6, hopLimit)
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	b = append(b, body...)
	binary.BigEndian.PutUint16(b[etherLen+ip6Len+2:], checksum(b[etherLen:]))
	return b
}

// checksum returns the checksum of an ICMPv6 message in its packet (RFC 4443, section
// 2.3): 0 where the message has the right one.
func checksum(packet []byte) uint16 {
	sum := uint32(len(packet)-ip6Len) + icmp6
	for b := packet[8:]; len(b) > 0; b = b[2:] { // addresses, then the message
		if len(b) == 1 {
			sum += uint32(b[0]) << 8
			break
		}
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
