package probe_test

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/overlay/probe"
)

// sent is a frame as it comes out of VXLAN devices, behind the outer IP header, with its sum
// as the kernel finishes it.
func sent(m probe.Message, l probe.Link) []byte {
	frame, start, offset := probe.Frame(m, l)
	sum := uint32(0)
	for i := int(start); i < len(frame); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(frame[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(frame[start+offset:], ^uint16(sum))
	outer := []byte{0xc0, 0, 0x12, 0xb5, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0x0f, 0xff, 0}
	return append(outer, frame...)
}

func TestFrame(t *testing.T) {
	l := probe.Link{Cluster: "c", From: "a", To: "b"}
	packet := sent(probe.Message{Number: 7}, l)
	m, right, err := probe.DecodeFrame(packet)
	if err != nil || !right || m.Number != 7 || m.Answer || !m.Of(probe.Checksum, l) || m.Of(probe.VXLAN, l) {
		t.Errorf("%+v, %v, %v", m, right, err)
	}
	if _, err := probe.VXLAN.Decode(packet); err == nil {
		t.Error("it is also a probe of VXLAN")
	}
	for what, change := range map[string]func(b []byte){
		"the sum":      func(b []byte) { b[56] ^= 1 },
		"the body":     func(b []byte) { b[70] ^= 1 },
		"the UDP port": func(b []byte) { b[53] ^= 1 },
		"no sum at all": func(b []byte) {
			unfinished, start, offset := probe.Frame(probe.Message{Number: 7}, l)
			copy(b[16+start+offset:], unfinished[start+offset:][:2])
		},
	} {
		changed := append([]byte{}, packet...)
		change(changed)
		if _, right, err := probe.DecodeFrame(changed); right || err != nil {
			t.Errorf("%s: right %v, %v", what, right, err)
		}
	}
	for what, change := range map[string]func(b []byte) []byte{
		"must have at least": func(b []byte) []byte { return b[:len(b)-1] },
		"port 4790":          func(b []byte) []byte { b[3]++; return b },
		"IP header":          func(b []byte) []byte { b[16+14+12]++; return b },
		"at byte 12":         func(b []byte) []byte { b[14]++; return b },
	} {
		if _, _, err := probe.DecodeFrame(change(append([]byte{}, packet...))); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A question to look at checksums is one of VXLAN, and no other's sum is its.
func TestLook(t *testing.T) {
	l := probe.Link{Cluster: "c", From: "a", To: "b"}
	m, err := probe.VXLAN.Decode(probe.VXLAN.Encode(probe.Message{Look: true, Number: 9}, l, probe.Route{From: netip.MustParseAddr("192.0.2.1"), To: netip.MustParseAddr("192.0.2.2"), Port: 50000}, 0))
	if err != nil || !m.Look || m.Answer || !m.Of(probe.VXLAN, l) {
		t.Errorf("%+v, %v", m, err)
	}
	m.Look = false
	if m.Of(probe.VXLAN, l) {
		t.Error("it passes for a common one")
	}
}
