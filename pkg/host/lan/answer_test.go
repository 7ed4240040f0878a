package lan

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
)

var (
	ours   = mac{2, 0x42, 0, 0, 0, 1}
	theirs = mac{2, 0, 0, 0, 0, 0x99}
	v4     = netip.MustParseAddr("10.9.0.5")
	v6     = netip.MustParseAddr("fd00:9::5")
	none   = netip.Addr{}
	asked  = question{own: ours, nonce: [nonceLen]byte{1, 2, 3, 4, 5, 6}, addresses: []netip.Addr{v4, v6}}
)

// changed returns a frame with one byte changed.
func changed(frame []byte, at int, value byte) []byte {
	frame = bytes.Clone(frame)
	frame[at] = value
	return frame
}

// summed returns a frame of neighbour discovery with its checksum made right.
func summed(frame []byte) []byte {
	at := frame[etherLen+ip6Len+2:]
	binary.BigEndian.PutUint16(at, 0)
	binary.BigEndian.PutUint16(at, checksum(frame[etherLen:]))
	return frame
}

// reply is the answer to a probe.
func reply(from mac, a netip.Addr) []byte {
	frame := arp(from, a, netip.IPv4Unspecified())
	copy(frame, ours[:])
	return changed(frame, etherLen+7, arpReply)
}

var frames = []struct {
	name  string
	frame []byte
	taken netip.Addr // that it tells of
}{
	{"ARP: answer", reply(theirs, v4), v4},
	{"ARP: announcement", arpAnnouncement(theirs, v4), v4},
	{"ARP: it asks for another with the address", arp(theirs, v4, netip.MustParseAddr("10.9.0.1")), v4},
	{"ARP: it probes for the address", arpProbe(theirs, v4), v4},
	{"ARP: padded", append(reply(theirs, v4), make([]byte, 18)...), v4},
	{"ARP: a neighbour resolves the address", arp(theirs, netip.MustParseAddr("10.9.0.1"), v4), none},
	{"ARP: another address", reply(theirs, netip.MustParseAddr("10.9.0.6")), none},
	{"ARP: another is probed for", arpProbe(theirs, netip.MustParseAddr("10.9.0.6")), none},
	{"ARP: own probe comes back", arpProbe(ours, v4), none},
	{"ARP: own announcement comes back", arpAnnouncement(ours, v4), none},
	{"ARP: a bridge has changed the sender, not the message", append(ether(broadcast, theirs, etherARP), arpProbe(ours, v4)[etherLen:]...), none},
	{"ARP: cut", reply(theirs, v4)[:etherLen+arpLen-1], none},
	{"ARP: of another medium", changed(reply(theirs, v4), etherLen+1, 6), none},
	{"ARP: no request, no reply", changed(reply(theirs, v4), etherLen+7, 3), none},
	{"ARP: reply from none", changed(arpProbe(theirs, v4), etherLen+7, arpReply), none},

	{"ND: advertisement", ndAnnouncement(theirs, v6), v6},
	{"ND: it looks for duplicates", ndProbe(theirs, v6, [nonceLen]byte{9}), v6},
	{"ND: padded", append(ndProbe(theirs, v6, [nonceLen]byte{9}), 0, 0, 0), v6},
	{"ND: another address", ndAnnouncement(theirs, netip.MustParseAddr("fd00:9::6")), none},
	{"ND: own probe comes back", ndProbe(ours, v6, asked.nonce), none},
	{"ND: own probe comes back from elsewhere", ndProbe(theirs, v6, asked.nonce), none},
	{"ND: own announcement comes back", ndAnnouncement(ours, v6), none},
	{"ND: a neighbour resolves the address", summed(nd(theirs, netip.MustParseAddr("fd00:9::1"), solicitedNode(v6), ndProbe(theirs, v6, [nonceLen]byte{9})[etherLen+ip6Len:])), none},
	{"ND: forwarded", changed(ndAnnouncement(theirs, v6), etherLen+7, 254), none},
	{"ND: wrong checksum", changed(ndAnnouncement(theirs, v6), etherLen+ip6Len+2, 0), none},
	{"ND: solicited, to all", summed(changed(ndAnnouncement(theirs, v6), etherLen+ip6Len+4, 0x60)), none},
	{"ND: code", summed(changed(ndAnnouncement(theirs, v6), etherLen+ip6Len+1, 1)), none},
	{"ND: router solicitation", summed(changed(ndProbe(theirs, v6, [nonceLen]byte{9}), etherLen+ip6Len, 133)), none},
	{"ND: option of no length", summed(changed(ndAnnouncement(theirs, v6), etherLen+ip6Len+ndLen+1, 0)), none},
	{"ND: option too long", summed(changed(ndAnnouncement(theirs, v6), etherLen+ip6Len+ndLen+1, 2)), none},
	{"ND: longer than the frame", changed(ndAnnouncement(theirs, v6), etherLen+5, 33), none},
	{"ND: cut", ndAnnouncement(theirs, v6)[:etherLen+ip6Len+ndLen-1], none},

	{"IPv4", append(ether(broadcast, theirs, etherIP4), make([]byte, 60)...), none},
	{"nothing", nil, none},
	{"short", []byte{1, 2, 3}, none},
}

func TestAnswer(t *testing.T) {
	for _, c := range frames {
		got, is := asked.answer(slices.Clip(c.frame))
		if got.Address != c.taken || is != c.taken.IsValid() || is && got.MAC != "02:00:00:00:00:99" {
			t.Errorf("%s: %v %v, want %v", c.name, got, is, c.taken)
		}
	}
}

// FuzzAnswer: whatever comes in, what it tells of was asked for, and is not our own.
func FuzzAnswer(f *testing.F) {
	for _, c := range frames {
		f.Add(c.frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		got, is := asked.answer(frame)
		if is && (got.Address != v4 && got.Address != v6 || got.MAC == "02:42:00:00:00:01") || !is && got.Address.IsValid() {
			t.Errorf("%v %v", got, is)
		}
	})
}
