package host

import (
	"testing"

	"golang.org/x/sys/unix"
)

func FuzzReplies(f *testing.F) {
	var m message
	at := m.begin(unix.NLMSG_ERROR, 0, 7)
	m.b = append(m.b, 0xfe, 0xff, 0xff, 0xff) // -ENOENT, little-endian
	m.end(at)
	f.Add(m.b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, datagram []byte) {
		replies, _ := parseReplies(datagram)
		total := 0
		for _, r := range replies {
			total += unix.SizeofNlMsghdr + len(r.data)
			attributes(r.data, func(typ uint16, data []byte) {
				if typ&^attrTypeMask != 0 || len(data) > len(r.data) {
					t.Errorf("attribute %d of %d bytes in %d", typ, len(data), len(r.data))
				}
			})
		}
		if total > len(datagram) {
			t.Errorf("%d bytes of messages in %d", total, len(datagram))
		}
	})
}
