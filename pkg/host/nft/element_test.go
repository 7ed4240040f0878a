package nft

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/nlsock"
)

func TestComment(t *testing.T) {
	const other, mine = userdata.Type(7), userdata.TypeComment
	field := func(typ userdata.Type, value string) string {
		return string([]byte{byte(typ), byte(len(value))}) + value
	}
	long := strings.Repeat("x", 255)
	for _, c := range []struct{ data, want string }{
		{"", ""},
		{field(mine, "web c1/eth0\x00"), "web c1/eth0"},
		{field(other, "a") + field(mine, "b"), "b"},
		{field(mine, long[:253]), long[:253]},
		{field(mine, long[:254]), long[:254]},
		{field(mine, long), long},
		{field(other, long[:254]) + field(mine, "b"), "b"},
		{field(other, long) + field(mine, "b"), "b"},
		{field(mine, long)[:256], ""},
		{"\x00", ""},
	} {
		if got := Comment([]byte(c.data), mine); got != c.want {
			t.Errorf("%q: comment %q, want %q", c.data, got, c.want)
		}
	}
}

// elementMessage is what the kernel lists, without the netlink header.
func elementMessage(list ...element) []byte {
	var m nlsock.Message
	m.NFHeader(unix.NFPROTO_INET, 0)
	appendElements(&m, list)
	return m.B
}

func FuzzElements(f *testing.F) {
	port := element{set: firewall.MapPorts4, key: []byte{6, 0, 0, 0, 0, 80, 0, 0}, data: []byte{10, 0, 0, 2, 0, 80, 0, 0}, comment: "web c1/eth0"}
	f.Add(elementMessage(port))
	f.Add(elementMessage(element{set: firewall.SetMasquerade4, key: []byte{10, 0, 0, 0}, end: true}, port))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, e := range decodeElements(payload) {
			again := decodeElements(elementMessage(e))
			if len(e.comment) < 254 && (len(again) != 1 || again[0].id() != e.id() || !bytes.Equal(again[0].data, e.data)) {
				t.Errorf("%+v came back as %+v", e, again)
			}
		}
	})
}

func FuzzRules(f *testing.F) {
	var m nlsock.Message
	m.NFHeader(unix.NFPROTO_INET, 0)
	m.Str(unix.NFTA_RULE_CHAIN, firewall.VersionChain)
	m.Raw(unix.NFTA_RULE_USERDATA, userdata.AppendString(nil, userdata.TypeComment, firewall.Version))
	f.Add(m.B)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		count, version := countRules([][]byte{payload})
		if len(count) > 1 || version != "" && version != RuleComment(payload) {
			t.Errorf("%d chains of one rule, version %q, comment %q", len(count), version, RuleComment(payload))
		}
		o := tableState{uses: map[string]uint32{}, drops: map[string]bool{}, priorities: map[string]int32{}}
		o.readTable(payload)
		o.readChain(payload)
	})
}
