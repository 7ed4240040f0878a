package nlsock

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLongMessage sends what is longer than the socket's buffer.
func TestLongMessage(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	c, err := Dial(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := unix.SetsockoptInt(c.FD, unix.SOL_SOCKET, unix.SO_SNDBUF, 1); err != nil {
		t.Fatal(err)
	}
	const times = 1000
	var m Message
	for range times {
		at := m.Begin(unix.RTM_GETLINK, 0, c.Next())
		m.B = append(m.B, make([]byte, unix.SizeofIfInfomsg)...)
		m.Str(unix.IFLA_IFNAME, "lo")
		m.End(at)
	}
	if replies, err := c.RoundTrip(m.B); err != nil || len(replies) != times {
		t.Errorf("%d replies, %v", len(replies), err)
	}
}

// TestLostAnswers asks for more than the socket has room for. That is an error, never a part of the answer
// that passes for all of it, and the next exchange is as good as any.
func TestLostAnswers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	c, err := Dial(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := unix.SetsockoptInt(c.FD, unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil { // the least that there is: 2304 bytes
		t.Fatal(err)
	}
	ask := func(times int) ([]Reply, error) {
		var m Message
		for range times {
			at := m.Begin(unix.RTM_GETLINK, 0, c.Next())
			m.B = append(m.B, make([]byte, unix.SizeofIfInfomsg)...)
			m.Str(unix.IFLA_IFNAME, "lo")
			m.End(at)
		}
		return c.RoundTrip(m.B)
	}
	if replies, err := ask(100); !errors.Is(err, unix.ENOBUFS) || len(replies) >= 100 {
		t.Errorf("%d replies, %v", len(replies), err)
	}
	if err := unix.SetsockoptInt(c.FD, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, SocketBuffer); err != nil {
		t.Fatal(err)
	}
	if replies, err := ask(100); err != nil || len(replies) != 100 || replies[0].Seq != 101 {
		t.Errorf("the next exchange: %d replies, %v", len(replies), err)
	}
}

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
