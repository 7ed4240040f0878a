package wire_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/wire"
	"dcni/pkg/wire/wiretest"
)

func espState() *wire.XfrmState {
	return &wire.XfrmState{
		Src: netip.MustParseAddr("192.0.2.11"), Dst: netip.MustParseAddr("192.0.2.12"), SPI: 0xabcd, Port: 4787,
		Secret: wire.Secret{0xde, 0xad, 0xbe, 0xef},
	}
}

// States and policies print as `ip xfrm` would print them.
func TestXfrmText(t *testing.T) {
	for _, c := range []struct {
		o         wire.Object
		key, text string
	}{
		{
			espState(), "xfrm state dst 192.0.2.12 proto esp spi 0x0000abcd",
			"xfrm state src 192.0.2.11 dst 192.0.2.12 proto esp spi 0x0000abcd reqid 1684237929 mode transport replay-window 1024 flag esn " +
				"aead rfc4106(gcm(aes)) <hidden> 128 sel src 192.0.2.11/32 dst 192.0.2.12/32 proto udp dport 4787",
		},
		{
			&wire.XfrmPolicy{Dir: wire.DirOut, Dst: netip.MustParsePrefix("192.0.2.12/32"), Port: 4787, SPI: 0xabcd},
			"xfrm policy dir out dst 192.0.2.12/32 proto udp dport 4787 priority 1000",
			"xfrm policy src 0.0.0.0/0 dst 192.0.2.12/32 proto udp dport 4787 dir out priority 1000 " +
				"tmpl proto esp spi 0x0000abcd reqid 1684237929 mode transport",
		},
		{
			&wire.XfrmPolicy{Dir: wire.DirIn, Dst: netip.MustParsePrefix("::/0"), Port: 4787},
			"xfrm policy dir in dst ::/0 proto udp dport 4787 priority 1000",
			"xfrm policy src ::/0 dst ::/0 proto udp dport 4787 dir in priority 1000 tmpl proto esp reqid 1684237929 mode transport",
		},
		{
			&wire.XfrmPolicy{Dir: wire.DirOut, Dst: netip.MustParsePrefix("0.0.0.0/0"), Port: 4787, Block: true},
			"xfrm policy dir out dst 0.0.0.0/0 proto udp dport 4787 priority 2000",
			"xfrm policy src 0.0.0.0/0 dst 0.0.0.0/0 proto udp dport 4787 dir out action block priority 2000",
		},
	} {
		if c.o.Key() != c.key || c.o.String() != c.text {
			t.Errorf("key %q, text\n%s\nwant %q\n%s", c.o.Key(), c.o, c.key, c.text)
		}
	}
}

// No way of printing a state or of writing it down tells its key.
func TestSecret(t *testing.T) {
	s := espState()
	asJSON, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{string(asJSON), s.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d", "%q"} {
		texts = append(texts, fmt.Sprintf(verb, s.Secret), fmt.Sprintf(verb, *s), fmt.Sprintf(verb, []any{s.Secret}))
	}
	for _, text := range texts {
		if lower := strings.ToLower(text); strings.Contains(lower, "dead") || strings.Contains(lower, "222 173") || strings.Contains(lower, "0xde") {
			t.Errorf("it tells the key: %s", text)
		}
	}
}

// A policy is refused without its state, and a state that is gone is not made again.
func TestXfrmOrder(t *testing.T) {
	h, s := wiretest.New(), espState()
	p := &wire.XfrmPolicy{Dir: wire.DirOut, Dst: netip.PrefixFrom(s.Dst, 32), Port: 4787, SPI: s.SPI}
	if _, err := h.Ensure(p); err == nil {
		t.Error("the policy is there without its state")
	}
	if _, err := wire.Apply(h, nil, []wire.Object{s, p}); err != nil {
		t.Error(err)
	}
	if changed, err := h.Ensure(s); changed || err != nil {
		t.Errorf("once more: %t, %v", changed, err)
	}
	h.Lose(s.Key())
	if _, err := h.Ensure(s); !errors.Is(err, wire.ErrLostState) {
		t.Errorf("a state that was flushed: %v", err)
	}
}
