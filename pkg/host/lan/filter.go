package lan

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Filters keep what a busy LAN says of other things from waking the process: the kernel
// drops it. What passes is still read with care.

type program []unix.SockFilter

func (p *program) load(size uint16, offset uint32) {
	*p = append(*p, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_ABS | size, K: offset})
}

// unless skips instructions where what was loaded has another value.
func (p *program) unless(value uint32, skip uint8) {
	*p = append(*p, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jf: skip})
}

func (p *program) give(length uint32) {
	*p = append(*p, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: length})
}

const (
	whole = 1 << 16 // a frame has less
	drop  = 0
)

// forThis drops frames for another host. The kernel takes those of a VLAN that the link
// is not on for such (net/core/dev.c): they are of another LAN. Their tag is gone by then.
func (p *program) forThis() {
	const (
		ancillary = 1<<32 - 0x1000 // SKF_AD_OFF of linux/filter.h, as it is encoded
		pktType   = 4              // SKF_AD_PKTTYPE
	)
	p.load(unix.BPF_W, ancillary+pktType)
	p.unless(unix.PACKET_OTHERHOST, 1)
	p.give(drop)
}

// arpFilter passes ARP messages from one of the addresses, and those from none for one of
// them.
func arpFilter(addresses []netip.Addr) program {
	var p program
	match := func() {
		for _, a := range addresses {
			p.unless(binary.BigEndian.Uint32(a.AsSlice()), 1)
			p.give(whole)
		}
	}
	p.forThis()
	const sender, target = etherLen + 14, etherLen + 24
	p.load(unix.BPF_W, sender)
	match()
	// Neither ours nor none: a neighbour resolves an address.
	p = append(p, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0, Jt: 1})
	p.give(drop)
	p.load(unix.BPF_W, target)
	match()
	p.give(drop)
	return p
}

// ndFilter passes solicitations and advertisements for one of the addresses.
func ndFilter(addresses []netip.Addr) program {
	var p program
	p.forThis()
	for _, want := range []struct{ offset, value uint32 }{{etherLen + 6, icmp6}, {etherLen + 7, hopLimit}} {
		p.load(unix.BPF_B, want.offset)
		p = append(p, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: want.value, Jt: 1})
		p.give(drop)
	}
	const words = 4 // of 4 bytes each
	for _, a := range addresses {
		b := a.As16()
		for i := range words {
			p.load(unix.BPF_W, uint32(etherLen+ip6Len+8+4*i))
			p.unless(binary.BigEndian.Uint32(b[4*i:]), uint8(2*(words-1-i)+1))
		}
		p.give(whole)
	}
	p.give(drop)
	return p
}
