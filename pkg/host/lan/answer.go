package lan

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"dcni/pkg/wire"
)

// A question is what is asked of a LAN: whether a machine has one of the addresses, or
// is about to take it.
type question struct {
	own       mac // of the link that is asked through
	nonce     [nonceLen]byte
	addresses []netip.Addr
}

// answer reads a frame that came in, which may be anything. It returns the conflict that
// it tells of. What is of the link's own MAC tells of none: a switch may send back what it
// was sent.
func (q question) answer(frame []byte) (wire.Conflict, bool) {
	if len(frame) < etherLen {
		return wire.Conflict{}, false
	}
	var taken netip.Addr
	var by mac
	switch body := frame[etherLen:]; binary.BigEndian.Uint16(frame[12:]) {
	case etherARP:
		taken, by = arpClaim(body)
	case etherIP6:
		taken, by = q.ndClaim(body, mac(frame[6:12]))
	}
	if !taken.IsValid() || by == q.own || !slices.Contains(q.addresses, taken) {
		return wire.Conflict{}, false
	}
	return wire.Conflict{Address: taken, MAC: net.HardwareAddr(by[:]).String()}, true
}

// arpClaim returns the address that an ARP message claims, and for which MAC: its
// sender's, or in a probe the one that is probed for (RFC 5227, section 2.1.1).
func arpClaim(b []byte) (netip.Addr, mac) {
	if len(b) < arpLen || [6]byte(b) != [6]byte{0, 1, etherIP4 >> 8, etherIP4 & 0xff, 6, 4} {
		return netip.Addr{}, mac{}
	}
	sender, target := netip.AddrFrom4([4]byte(b[14:])), netip.AddrFrom4([4]byte(b[24:]))
	switch op := binary.BigEndian.Uint16(b[6:]); {
	case op != arpRequest && op != arpReply:
		return netip.Addr{}, mac{}
	case !sender.IsUnspecified():
		return sender, mac(b[8:])
	case op == arpRequest:
		return target, mac(b[8:])
	}
	return netip.Addr{}, mac{}
}

// ndClaim returns the address that a message of neighbour discovery claims, and for which
// MAC: that of an advertisement, or of a solicitation of duplicate detection (RFC 4862,
// section 5.4.3 and 5.4.4). A message must be as RFC 4861, section 7.1, wants it.
func (q question) ndClaim(b []byte, from mac) (netip.Addr, mac) {
	none := netip.Addr{}
	if len(b) < ip6Len+ndLen || b[0]>>4 != 6 || b[6] != icmp6 || b[7] != hopLimit {
		return none, from
	}
	length := ip6Len + int(binary.BigEndian.Uint16(b[4:]))
	if length < ip6Len+ndLen || length > len(b) || checksum(b[:length]) != 0 {
		return none, from
	}
	src, dst := netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	message := b[ip6Len:length]
	options, ok := optionsOf(message[ndLen:])
	target := netip.AddrFrom16([16]byte(message[8:]))
	switch kind := message[0]; {
	case !ok || message[1] != 0 || target.IsMulticast():
		return none, from
	case kind == advert:
		const solicited = 0x40
		if dst.IsMulticast() && message[4]&solicited != 0 {
			return none, from
		}
		if given := options[optionTarget]; len(given) >= len(from) {
			from = mac(given)
		}
		return target, from
	case kind == solicitation && src.IsUnspecified() && string(options[optionNonce]) != string(q.nonce[:]):
		return target, from
	}
	return none, from
}

// optionsOf returns the options of a message by their types, the first of each, and
// whether they are well formed.
func optionsOf(b []byte) (map[byte][]byte, bool) {
	const unit = 8
	options := map[byte][]byte{}
	for len(b) > 0 {
		if len(b) < unit || b[1] == 0 || int(b[1])*unit > len(b) {
			return nil, false
		}
		length := int(b[1]) * unit
		if _, known := options[b[0]]; !known {
			options[b[0]] = b[2:length]
		}
		b = b[length:]
	}
	return options, true
}
