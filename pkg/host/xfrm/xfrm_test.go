package xfrm

import (
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/hosttest"
	"dcni/pkg/host/nlsock"
	"dcni/pkg/wire"
)

const port = 4787

// inNS runs f with a connection to a namespace of its own, and tells why the kernel has
// no ESP, or nil.
func inNS(t *testing.T, f func(c *Conn, esp error)) {
	hosttest.InNewNS(t, func() {
		c, err := Dial()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		f(c, c.Probe(false))
	})
}

func state(src, dst string, spi uint32) *wire.XfrmState {
	return &wire.XfrmState{
		Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), SPI: spi, Port: port, Secret: wire.Secret{1, 2, 3, 19: 4},
	}
}

func policy(dir, dst string, spi uint32, block bool) *wire.XfrmPolicy {
	return &wire.XfrmPolicy{Dir: dir, Dst: netip.MustParsePrefix(dst), Port: port, SPI: spi, Block: block}
}

// Without ESP, the error says so under code 50, and no policy is made: it would drop all
// that it is about.
func TestNoESP(t *testing.T) {
	inNS(t, func(c *Conn, esp error) {
		if esp == nil {
			t.Skip("this kernel has ESP")
		}
		hosttest.WantCode(t, esp, wire.CodeUnavailable, "encrypted networks need ESP with rfc4106(gcm(aes))")
		_, err := c.EnsureState(state("192.0.2.1", "192.0.2.2", 256))
		hosttest.WantCode(t, err, wire.CodeUnavailable, "this one has none")
		for _, p := range []*wire.XfrmPolicy{policy("in", "0.0.0.0/0", 0, false), policy("out", "0.0.0.0/0", 0, true), policy("out", "192.0.2.2/32", 256, false)} {
			if changed, err := c.EnsurePolicy(p); changed || err == nil {
				t.Errorf("%s: changed %t, error %v", p, changed, err)
			}
		}
		if out, err := exec.Command("ip", "xfrm", "policy").Output(); err != nil || len(out) > 0 {
			t.Errorf("policies: %s, %v", out, err)
		}
		if errors.Is(c.Probe(true), nil) {
			t.Error("ESP of IPv6 is there, that of IPv4 is not")
		}
	})
}

// Policies are the kernel's as they print here: what blocks can be made on any kernel.
func TestPolicyMessages(t *testing.T) {
	inNS(t, func(c *Conn, esp error) {
		if esp == nil {
			t.Skip("TestESP does it")
		}
		p := policy("out", "0.0.0.0/0", 0, true)
		if err := c.CheckPolicy(p); err == nil || err.Error() != "missing" {
			t.Errorf("check: %v", err)
		}
		if err := c.RemovePolicy(p); err != nil {
			t.Error(err)
		}
	})
}

// All that `ip xfrm` shows is as the objects say, in both families.
func TestESP(t *testing.T) {
	for _, family := range []struct{ a, b, one, all string }{
		{"192.0.2.1", "192.0.2.2", "192.0.2.2/32", "0.0.0.0/0"}, {"2001:db8::1", "2001:db8::2", "2001:db8::2/128", "::/0"},
	} {
		inNS(t, func(c *Conn, esp error) {
			if esp != nil {
				t.Skip(esp)
			}
			out, in := state(family.a, family.b, 0x1000), state(family.b, family.a, 0x2000)
			base := []*wire.XfrmPolicy{policy("out", family.all, 0, true), policy("in", family.all, 0, false)}
			toB := policy("out", family.one, 0x1000, false)
			if _, err := c.EnsurePolicy(toB); err == nil {
				t.Error("a policy is made without its state")
			}
			for _, s := range []*wire.XfrmState{out, in} {
				if changed, err := c.EnsureState(s); !changed || err != nil {
					t.Errorf("%s: %t, %v", s, changed, err)
				}
				if changed, err := c.EnsureState(s); changed || err != nil {
					t.Errorf("again: %s: %t, %v", s, changed, err)
				}
			}
			for _, p := range append(base, toB) {
				if changed, err := c.EnsurePolicy(p); !changed || err != nil {
					t.Errorf("%s: %t, %v", p, changed, err)
				}
				if changed, err := c.EnsurePolicy(p); changed || err != nil {
					t.Errorf("again: %s: %t, %v", p, changed, err)
				}
			}
			shows(t, "ip xfrm state", "src "+family.a+" dst "+family.b+" proto esp spi 0x00001000 reqid 1684237929 mode transport replay-window 0 flag esn "+
				"aead rfc4106(gcm(aes)) 0x0102030000000000000000000000000000000004 128",
				"anti-replay esn context: seq-hi 0x0, seq 0x0, oseq-hi 0x0, oseq 0x0 replay_window 1024, bitmap-length 32",
				"sel src "+out.Src.String()+"/"+bits(out.Src)+" dst "+out.Dst.String()+"/"+bits(out.Dst)+" proto udp dport 4787")
			for _, p := range append(base, toB) {
				said, template, encrypts := strings.Cut(strings.TrimPrefix(p.String(), "xfrm policy "), " tmpl ")
				shows(t, "ip xfrm policy", said+" ptype main")
				if encrypts {
					shows(t, "ip xfrm policy", "tmpl src "+unspecified(p)+" dst "+unspecified(p)+" "+template)
				}
			}
			readBack(t, c)
			if list, err := c.Policies(); err != nil || len(list) != 1 || *list[0] != *toB {
				t.Errorf("policies read back: %v, %v", list, err)
			}
			change(t, c, out, toB)
		})
	}
}

func bits(a netip.Addr) string {
	if a.Is6() {
		return "128"
	}
	return "32"
}

func unspecified(p *wire.XfrmPolicy) string {
	if p.Dst.Addr().Is6() {
		return "::"
	}
	return "0.0.0.0"
}

// shows wants texts in what a command prints, its white space made one.
func shows(t *testing.T, command string, texts ...string) {
	t.Helper()
	words := strings.Fields(command)
	b, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	out := strings.Join(strings.Fields(string(b)), " ")
	for _, text := range texts {
		if err != nil || !strings.Contains(out, strings.TrimSpace(text)) {
			t.Errorf("%s: %v:\n%s\nlacks\n%s", command, err, b, text)
		}
	}
}

// readBack wants what States tells: ESN and the window as the kernel has them.
func readBack(t *testing.T, c *Conn) {
	t.Helper()
	if out, err := exec.Command("ip", "xfrm", "state", "add", "src", "198.51.100.1", "dst", "198.51.100.2", "proto", "esp", "spi", "0x3000", "mode", "transport",
		"reqid", "1684237929", "replay-window", "32", "aead", "rfc4106(gcm(aes))", "0x0102030000000000000000000000000000000004", "128").CombinedOutput(); err != nil {
		t.Errorf("a state of another program's: %v: %s", err, out)
	}
	foreign := state("198.51.100.1", "198.51.100.2", 0x3000)
	if _, err := c.EnsureState(foreign); err == nil || !strings.Contains(err.Error(), "ESN is false") {
		t.Errorf("a state without ESN: %v", err)
	}
	list, err := c.States()
	if err != nil || len(list) != 2 {
		t.Fatalf("%d states, %v", len(list), err)
	}
	for _, s := range list {
		if !s.ESN || s.Window != wire.ESPWindow || !s.Made || s.Port != port {
			t.Errorf("%+v", s)
		}
	}
}

// change moves a policy to another state, and sees what is flushed stay away.
func change(t *testing.T, c *Conn, old *wire.XfrmState, p *wire.XfrmPolicy) {
	t.Helper()
	next := *old
	next.SPI, next.Made, next.Secret = 0x1001, false, wire.Secret{9}
	moved := *p
	moved.SPI = next.SPI
	if _, err := c.EnsureState(&next); err != nil {
		t.Error(err)
	}
	if changed, err := c.EnsurePolicy(&moved); !changed || err != nil {
		t.Errorf("moved: %t, %v", changed, err)
	}
	if err := c.CheckPolicy(p); err == nil {
		t.Error("the policy still asks for the old state")
	}
	if err := c.RemoveState(old); err != nil {
		t.Error(err)
	}
	if err := c.RemoveState(old); err != nil {
		t.Errorf("removed twice: %v", err)
	}
	if out, err := exec.Command("ip", "xfrm", "state", "flush").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := c.EnsureState(&next); !errors.Is(err, wire.ErrLostState) {
		t.Errorf("a flushed state is made again: %v", err)
	}
	shows(t, "ip xfrm policy", "dport 4787")
	if err := c.RemovePolicy(&moved); err != nil {
		t.Error(err)
	}
	if err := c.CheckPolicy(&moved); err == nil {
		t.Error("the policy is there after its removal")
	}
}

func FuzzState(f *testing.F) {
	f.Add(make([]byte, 300))
	var m nlsock.Message
	m.Raw(18, make([]byte, 72+20))
	m.Raw(23, make([]byte, 24))
	b := make([]byte, 224)
	b[56+20] = unix.IPPROTO_ESP
	f.Add(append(b, m.B...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, ok := decodeState(b); ok && s.foreign == "" && !s.ESN {
			t.Errorf("%+v", s)
		}
	})
}
