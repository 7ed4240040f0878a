package wire

import (
	"fmt"
	"math"
)

// RateLimit says that what leaves a link is held to a rate, as the root queue of the link
// (tc-tbf(8)). At the host's end of a veth that is what the container receives, in a sandbox
// what it sends. It goes with the link.
type RateLimit struct {
	NetNS string
	Dev   string
	Rate  uint64 // bytes a second
	Burst uint32 // bytes that may pass at once after a rest
}

// Key names the link.
func (l *RateLimit) Key() string { return "rate limit " + l.Dev + at(l.NetNS) }

// Refers names the link.
func (l *RateLimit) Refers() []string { return refers(l.NetNS, l.Dev) }

// Outside returns the limit if the link is the host's.
func (l *RateLimit) Outside() Object { return ofHost(l, l.NetNS) }

func (l *RateLimit) String() string {
	return fmt.Sprintf("qdisc tbf dev %s root rate %dbit burst %d limit %d%s", l.Dev, l.Rate*8, l.Burst, l.Limit(), in(l.NetNS))
}

// Limit returns how many bytes may wait: what passes in 25 ms, as with the reference plugin,
// and no less than two of the largest packets that a link has before they are cut.
func (l *RateLimit) Limit() uint32 {
	const (
		wait  = 40 // of this part of a second
		least = 2 * 65536
	)
	return uint32(min(max(l.Rate/wait, least), math.MaxUint32))
}
