package ipam

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// PageAddrs is the number of addresses of one [Page]: an aligned block.
const PageAddrs = 1 << 15

// Page says which addresses of a block are taken: bit i%8 of byte i/8 is the
// block's i-th address.
type Page [PageAddrs / 8]byte

// Bitmap is what is taken on a network, a page at a time. A search asks for
// few pages however many addresses there are, so a /64 costs what a /24 does.
type Bitmap interface {
	// Page returns the page that starts at an address, or nil where all is free.
	Page(first netip.Addr) (*Page, error)
}

// PageOf returns the first address of the page that a is on.
func PageOf(a netip.Addr) netip.Addr { return onPage(a, 0) }

// onPage returns the i-th address of the page that a is on.
func onPage(a netip.Addr, i int) netip.Addr {
	b := a.AsSlice()
	low := b[len(b)-2:]
	binary.BigEndian.PutUint16(low, binary.BigEndian.Uint16(low)&PageAddrs|uint16(i))
	out, _ := netip.AddrFromSlice(b)
	return out
}

// index returns which bit of its page an address is.
func index(a netip.Addr) int {
	b := a.As16()
	return int(binary.BigEndian.Uint16(b[14:])) % PageAddrs
}

// Has reports whether an address of this page's block is taken.
func (p *Page) Has(a netip.Addr) bool {
	i := index(a)
	return p[i/8]&(1<<(i%8)) != 0
}

// Set takes or frees an address of this page's block.
func (p *Page) Set(a netip.Addr, taken bool) {
	i := index(a)
	if taken {
		p[i/8] |= 1 << (i % 8)
	} else {
		p[i/8] &^= 1 << (i % 8)
	}
}

// Empty reports whether nothing of the page is taken.
func (p *Page) Empty() bool { return *p == Page{} }

// free returns the first free index from i up to and with end, or -1. It looks
// at 64 addresses at a time.
func (p *Page) free(i, end int) int {
	for i <= end {
		word := binary.LittleEndian.Uint64(p[i/64*8:])
		if rest := ^word >> (i % 64); rest != 0 {
			if i += bits.TrailingZeros64(rest); i <= end {
				return i
			}
			return -1
		}
		i = (i/64 + 1) * 64
	}
	return -1
}

// Span is a run of addresses of one subnet to allocate from. Neither end is a
// network or broadcast address.
type Span struct {
	Subnet   netip.Prefix
	From, To netip.Addr // both included
	Gateway  netip.Addr
}

// Contains reports whether an address is in the span.
func (s Span) Contains(a netip.Addr) bool {
	return a.Is4() == s.From.Is4() && !a.Less(s.From) && !s.To.Less(a)
}

// String returns the span as "10.1.0.1-10.1.0.254".
func (s Span) String() string { return s.From.String() + "-" + s.To.String() }

// Next returns the first free address behind another one, wrapping around at
// the end, or the zero Addr if the span is full. Behind the zero Addr, or one
// outside the span, it begins at the first. Addresses that skip reports are
// passed over.
func (s Span) Next(b Bitmap, after netip.Addr, skip func(netip.Addr) bool) (netip.Addr, error) {
	if !after.IsValid() || !s.Contains(after) || after == s.To {
		return scan(b, s.From, s.To, skip)
	}
	a, err := scan(b, after.Next(), s.To, skip)
	if err != nil || a.IsValid() {
		return a, err
	}
	return scan(b, s.From, after, skip)
}

// scan returns the first free address from one to another.
func scan(b Bitmap, from, to netip.Addr, skip func(netip.Addr) bool) (netip.Addr, error) {
	for {
		page, err := b.Page(PageOf(from))
		if err != nil {
			return netip.Addr{}, err
		}
		if page == nil {
			page = new(Page)
		}
		end := onPage(from, PageAddrs-1)
		if to.Less(end) {
			end = to
		}
		for i := page.free(index(from), index(end)); i >= 0; i = page.free(i+1, index(end)) {
			if a := onPage(from, i); !skip(a) {
				return a, nil
			}
		}
		if end == to {
			return netip.Addr{}, nil
		}
		from = end.Next()
	}
}
