package nlsock

import (
	"testing"

	"golang.org/x/sys/unix"
)

func FuzzReplies(f *testing.F) {
	var m Message
	at := m.Begin(unix.NLMSG_ERROR, 0, 7)
	m.B = append(m.B, 0xfe, 0xff, 0xff, 0xff) // -ENOENT, little-endian
	m.End(at)
	f.Add(m.B)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, datagram []byte) {
		replies, _ := ParseReplies(datagram)
		total := 0
		for _, r := range replies {
			total += unix.SizeofNlMsghdr + len(r.Data)
			Attributes(r.Data, func(typ uint16, data []byte) {
				if typ&^attrTypeMask != 0 || len(data) > len(r.Data) {
					t.Errorf("attribute %d of %d bytes in %d", typ, len(data), len(r.Data))
				}
			})
		}
		if total > len(datagram) {
			t.Errorf("%d bytes of messages in %d", total, len(datagram))
		}
	})
}
