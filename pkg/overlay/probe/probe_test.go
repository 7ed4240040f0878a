package probe

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

var (
	link = Link{Cluster: "c0ffee", From: "n1", To: "n2"}
	v4   = Route{From: netip.MustParseAddr("192.0.2.11"), To: netip.MustParseAddr("192.0.2.12"), Port: 50000}
	v6   = Route{From: netip.MustParseAddr("2001:db8::11"), To: netip.MustParseAddr("2001:db8::12"), Port: 50000}
)

func TestEncode(t *testing.T) {
	const body = "44434e49 %% 000000 0000000000000203"
	for _, c := range []struct {
		name  string
		path  Path
		m     Message
		route Route
		size  int
		want  string // without the sum
		bytes int
	}{
		{"VXLAN", VXLAN, Message{Number: 0x203}, v4, 0, "c350 12b5 003e %sum% 08000000 000fff00 000000000000 000000000000 88b5" + strings.Replace(body, "%%", "01", 1), 62},
		{"VXLAN of a size", VXLAN, Message{Number: 0x203}, v4, 1500, "c350 12b5 05c8 %sum% 08000000 000fff00 000000000000 000000000000 88b5" + strings.Replace(body, "%%", "01", 1), 1480},
		{"over IPv6", VXLAN, Message{Number: 0x203}, v6, 1500, "c350 12b5 05b4 %sum% 08000000 000fff00 000000000000 000000000000 88b5" + strings.Replace(body, "%%", "01", 1), 1460},
		{"an answer", VXLAN, Message{Number: 0x203, Answer: true}, v4, 0, "c350 12b5 003e %sum% 08000000 000fff00 000000000000 000000000000 88b5" + strings.Replace(body, "%%", "02", 1), 62},
		{"ESP", ESP, Message{Number: 0x203}, v4, 0, "000000ff 00000203" + strings.Replace(body, "%%", "01", 1), 40},
	} {
		b := c.path.Encode(c.m, link, c.route, c.size)
		want := strings.ReplaceAll(c.want, " ", "")
		if c.path == VXLAN {
			want = strings.Replace(want, "%sum%", hex.EncodeToString(b[6:8]), 1)
			b := append([]byte{}, b...)
			if rest := checksum(c.route, b); rest != 0xffff { // of a packet with its checksum
				t.Errorf("%s: its checksum is wrong by %#x", c.name, rest)
			}
		}
		if have := hex.EncodeToString(b); len(b) != c.bytes || !strings.HasPrefix(have, want) {
			t.Errorf("%s: %d bytes, %s\nwant %d, %s", c.name, len(b), have, c.bytes, want)
		}
		m, err := c.path.Decode(b)
		if err != nil || m.Answer != c.m.Answer || m.Number != c.m.Number || !m.Of(c.path, link) {
			t.Errorf("%s: %+v, %v", c.name, m, err)
		}
	}
}

// TestAnswer is never longer than the shortest question, and is not taken for one.
func TestAnswer(t *testing.T) {
	for _, p := range []Path{VXLAN, ESP} {
		question, answer := p.Encode(Message{Number: 1}, link, v4, 0), p.Encode(Message{Number: 1, Answer: true}, link, v4, 0)
		if len(answer) > len(question) {
			t.Errorf("%s: an answer of %d bytes to a question of %d", p, len(answer), len(question))
		}
		if _, err := p.Decode(question[:len(answer)-1]); err == nil {
			t.Errorf("%s: a question shorter than the answer is one", p)
		}
	}
}

func TestOf(t *testing.T) {
	m, err := VXLAN.Decode(VXLAN.Encode(Message{Number: 5}, link, v4, 0))
	if err != nil || !m.Of(VXLAN, link) {
		t.Fatal(err)
	}
	for name, l := range map[string]Link{
		"another cluster": {"c0ffef", "n1", "n2"}, "another sender": {"c0ffee", "n3", "n2"},
		"for another": {"c0ffee", "n1", "n3"}, "the other way round": {"c0ffee", "n2", "n1"},
	} {
		if m.Of(VXLAN, l) {
			t.Errorf("%s: taken", name)
		}
	}
	answer, number := m, m
	answer.Answer, number.Number = true, 6
	if answer.Of(VXLAN, link) || number.Of(VXLAN, link) || m.Of(ESP, link) {
		t.Error("a question is taken for its answer, for another one, or for one by another path")
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range []struct {
		path Path
		at   int // byte that is changed; -1: the last is missing
		want string
	}{
		{VXLAN, -1, "a probe of VXLAN: 61 bytes, must have at least 62"},
		{ESP, -1, "a probe of ESP: 39 bytes, must have at least 40"},
		{VXLAN, 3, "a probe of VXLAN: port 4788, must be 4789"},
		{VXLAN, 13, "a probe of VXLAN: 0xeff00 at byte 12, must be 0xfff00"},
		{VXLAN, 33, "a probe of VXLAN: 0x44434e48 at byte 30, must be 0x44434e49"},
		{ESP, 3, "a probe of ESP: 0xfe at byte 0, must be 0xff"},
		{ESP, 12, "a probe of ESP: kind 0x00000000, must be 0x1 to 0x3"},
		{ESP, 15, "a probe of ESP: kind 0x01000001, must be 0x1 to 0x3"},
	} {
		b := c.path.Encode(Message{}, link, v4, 0)
		if c.at < 0 {
			b = b[:len(b)-1]
		} else {
			b[c.at] ^= 1
		}
		if _, err := c.path.Decode(b); err == nil || err.Error() != c.want {
			t.Errorf("%s, byte %d: %v, want %s", c.path, c.at, err, c.want)
		}
	}
}

// FuzzDecode reads what anybody sends. What is one of this cluster's is as it was encoded.
func FuzzDecode(f *testing.F) {
	for _, p := range []Path{VXLAN, ESP} {
		f.Add(int(p), p.Encode(Message{Number: 1}, link, v4, 0))
		f.Add(int(p), p.Encode(Message{Number: 1, Answer: true}, link, v4, 100))
	}
	f.Fuzz(func(t *testing.T, path int, b []byte) {
		p := Path(path & 1)
		m, err := p.Decode(b)
		if err != nil || !m.Of(p, link) {
			return
		}
		again, err := p.Decode(p.Encode(m, link, v4, len(b)+sizeIPv4))
		if err != nil || again != m {
			t.Errorf("%+v, then %+v, %v", m, again, err)
		}
	})
}
