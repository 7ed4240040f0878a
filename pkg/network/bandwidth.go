package network

import (
	"fmt"
	"math"

	"dcni/pkg/wire"
)

// Bandwidth is the capability of that name: how much a container may receive (ingress) and
// send (egress). Rates are in bits a second, bursts in bits; a rate of 0 is no limit.
type Bandwidth struct {
	IngressRate  uint64 `json:"ingressRate,omitempty"`
	IngressBurst uint64 `json:"ingressBurst,omitempty"`
	EgressRate   uint64 `json:"egressRate,omitempty"`
	EgressBurst  uint64 `json:"egressBurst,omitempty"`
}

// Limits of rates and bursts, in bits.
const (
	leastRate  = 8 // a byte a second
	mostBurst  = 8 * math.MaxUint32
	leastBurst = 8 * 65536 // where none is given
	shortest   = 20        // such a part of what passes in a second is the burst where none is given
)

// Validate checks the numbers against each other, and against packets of an MTU, in bytes; 0
// for one that is not known yet.
func (b *Bandwidth) Validate(mtu int) error {
	if b == nil {
		return nil
	}
	if err := (direction{"ingress", b.IngressRate, b.IngressBurst}).validate(mtu); err != nil {
		return err
	}
	return direction{"egress", b.EgressRate, b.EgressBurst}.validate(mtu)
}

type direction struct {
	name        string
	rate, burst uint64
}

func (d direction) validate(mtu int) error {
	const (
		field  = "runtimeConfig.bandwidth."
		header = 14 // bytes, of Ethernet
	)
	packet := uint64(8 * (mtu + header))
	switch {
	case d.rate == 0 && d.burst != 0:
		return wire.Invalid(field+d.name+"Burst", d.burst, "must be 0 without "+d.name+"Rate")
	case d.rate != 0 && d.rate < leastRate:
		return wire.Invalid(field+d.name+"Rate", d.rate, "must be at least 8 bits a second, or 0 for no limit")
	case d.burst > mostBurst:
		return wire.Invalid(field+d.name+"Burst", d.burst, "must be at most 34359738360 bits, 4 GiB")
	case d.burst != 0 && mtu != 0 && d.burst < packet:
		return wire.Invalid(field+d.name+"Burst", d.burst, fmt.Sprintf("must be at least %d bits, a packet of %d bytes, or none passes", packet, mtu))
	}
	return nil
}

// limit returns what holds a link to a rate, or nil where there is no limit.
func limit(netns, dev string, rate, burst uint64) []wire.Object {
	if rate == 0 {
		return nil
	}
	if burst == 0 {
		burst = min(max(rate/shortest, leastBurst), mostBurst)
	}
	return []wire.Object{&wire.RateLimit{NetNS: netns, Dev: dev, Rate: rate / 8, Burst: uint32(burst / 8)}}
}

// Receives is the limit of what the container receives, at the other end of its link.
func (e Endpoint) Receives(dev string) []wire.Object {
	if e.Bandwidth == nil {
		return nil
	}
	return limit("", dev, e.Bandwidth.IngressRate, e.Bandwidth.IngressBurst)
}

// sends is the limit of what the container sends. It is in the sandbox, where what is over it
// waits in the sender's own sockets and is not dropped.
func (e Endpoint) sends() []wire.Object {
	if e.Bandwidth == nil {
		return nil
	}
	return limit(e.NetNS, e.IfName, e.Bandwidth.EgressRate, e.Bandwidth.EgressBurst)
}
