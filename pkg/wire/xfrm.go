package wire

import (
	"errors"
	"fmt"
	"net/netip"
)

// This file is about the encryption between nodes: ESP in transport mode (RFC 4303), of
// which the kernel has states, one a direction and key, and policies, which say what must
// be encrypted.

// A Secret is what a state encrypts with: 16 bytes of an AES key and 4 of salt, in this
// order (RFC 4106, section 8.1). It is never printed or written to JSON.
type Secret [20]byte

// Format prints no part of it, whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, hidden) }

// MarshalText writes no part of it.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

const hidden = "<hidden>"

// What all states have in common.
const (
	// ESPAlgorithm is AES in Galois/Counter Mode, as the kernel calls it.
	ESPAlgorithm = "rfc4106(gcm(aes))"
	// ESPICV is the length of what proves that a packet is whole, in bits.
	ESPICV = 128
	// ESPWindow is how many packets behind the newest one may arrive. A link with several
	// queues reorders more than the kernel's usual 32 or 64.
	ESPWindow = 1024
	// ESPReqID ties policies to states: only a state that has it satisfies them, not
	// one that another program made.
	ESPReqID = 0x64636e69
)

// The priorities of policies. Of two that match, the one of the lower number counts.
const (
	PriorityESP   = 1000
	PriorityBlock = 2000
)

// XfrmState is one direction of the encryption between two nodes under one key. It
// carries packets to one UDP port and nothing else. Sequence numbers have 64 bits (ESN):
// those of 32 are used up after 80 minutes at 10 Gbit/s.
//
// A state is made once. One that was flushed is not made again from the same value:
// its sequence numbers would start anew, and with them the nonces of its key.
type XfrmState struct {
	Src, Dst netip.Addr // nodes, on the underlay
	SPI      uint32     // chosen by Dst; 256 at least
	Port     int        // UDP
	Secret   Secret
	Made     bool // set by Ensure: it is in the kernel, or was
}

// ErrLostState says that a state was made, and is gone.
var ErrLostState = errors.New("gone: its key is not used again")

// Key names the receiver and the index: that is how the kernel finds it.
func (s *XfrmState) Key() string { return stateKey(s.Dst, s.SPI) }

func stateKey(dst netip.Addr, spi uint32) string {
	return fmt.Sprintf("xfrm state dst %s proto esp spi %#08x", dst, spi)
}

// Root marks the state as something to remove by itself.
func (s *XfrmState) Root() {}

func (s *XfrmState) String() string {
	return fmt.Sprintf("xfrm state src %s dst %s proto esp spi %#08x reqid %d mode transport replay-window %d flag esn aead %s %v %d"+
		" sel src %s dst %s proto udp dport %d", s.Src, s.Dst, s.SPI, ESPReqID, ESPWindow, ESPAlgorithm, s.Secret, ESPICV,
		single(s.Src), single(s.Dst), s.Port)
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// Directions of policies.
const (
	DirIn  = "in"
	DirOut = "out"
)

// XfrmPolicy says what happens to packets to a UDP port: they are encrypted, or must have
// been, or are dropped.
type XfrmPolicy struct {
	Dir   string       // DirIn or DirOut
	Dst   netip.Prefix // where packets go to; all of a family for one of 0 bits
	Port  int          // UDP
	Block bool         // they are dropped; else they are, or must have been, encrypted
	// SPI names the state that encrypts. To give another one is one change: each packet
	// is encrypted by the one or by the other. 0: not for one state, for DirIn.
	SPI uint32
}

// Key names what it is about: a change of the state is a change of contents.
func (p *XfrmPolicy) Key() string {
	return fmt.Sprintf("xfrm policy dir %s dst %s proto udp dport %d priority %d", p.Dir, p.Dst, p.Port, p.Priority())
}

// Priority is its rank among policies that match the same packet.
func (p *XfrmPolicy) Priority() int {
	if p.Block {
		return PriorityBlock
	}
	return PriorityESP
}

// Refers names the state that encrypts: a policy without it drops all that it is about.
func (p *XfrmPolicy) Refers() []string {
	if p.SPI == 0 {
		return nil
	}
	return []string{stateKey(p.Dst.Addr(), p.SPI)}
}

// Root marks the policy as something to remove by itself.
func (p *XfrmPolicy) Root() {}

func (p *XfrmPolicy) String() string {
	src := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if p.Dst.Addr().Is6() {
		src = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	s := fmt.Sprintf("xfrm policy src %s dst %s proto udp dport %d dir %s", src, p.Dst, p.Port, p.Dir)
	if p.Block {
		return s + fmt.Sprintf(" action block priority %d", p.Priority())
	}
	s += fmt.Sprintf(" priority %d tmpl proto esp", p.Priority())
	if p.SPI != 0 {
		s += fmt.Sprintf(" spi %#08x", p.SPI)
	}
	return s + fmt.Sprintf(" reqid %d mode transport", ESPReqID)
}

// XfrmUse is a state as the kernel lists it, without its key.
type XfrmUse struct {
	Src, Dst netip.Addr
	SPI      uint32
	Port     int    // UDP
	Packets  uint64 // that passed
}

// Object is the state as it can be compared with others, and removed.
func (s XfrmUse) Object() *XfrmState {
	return &XfrmState{Src: s.Src, Dst: s.Dst, SPI: s.SPI, Port: s.Port, Made: true}
}
