package rtnl

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/nlsock"
)

// Of linux/pkt_sched.h and linux/rtnetlink.h.
const (
	tcaKind    = 1
	tcaOptions = 2

	tcaTbfParms  = 1
	tcaTbfRate64 = 4
	tcaTbfBurst  = 6

	rootQdisc   = 0xffffffff // TC_H_ROOT
	tbfSize     = 36         // struct tc_tbf_qopt: two of struct tc_ratespec, limit, buffer, mtu
	rateSize    = 12         // struct tc_ratespec
	tcmsgSize   = 20
	ethernetLL  = 1 // TC_LINKLAYER_ETHERNET
	tickShift   = 6 // a tick is 64 ns (PSCHED_SHIFT)
	nanoseconds = 1e9
)

// A TokenBucket is the root queue of a link that holds it to a rate (tc-tbf(8)).
type TokenBucket struct {
	Rate  uint64 // bytes a second
	Burst uint32 // bytes
	Limit uint32 // bytes that wait
	ticks uint32 // the kernel's way of saying Burst; it wraps for long ones
}

// Same reports whether the kernel has a bucket as it was asked for.
func (b TokenBucket) Same(want TokenBucket) bool {
	const rounding = 64 // to this part
	ticks := uint64(float64(want.Burst)/float64(want.Rate)*nanoseconds) >> tickShift
	return b.Rate == want.Rate && b.Limit == want.Limit &&
		(ticks > 0xffffffff || max(uint64(b.ticks), ticks)-min(uint64(b.ticks), ticks) <= ticks/rounding+1)
}

func (m *Message) tcmsg(index int) {
	m.B = append(m.B, unix.AF_UNSPEC, 0, 0, 0)
	for _, v := range []uint32{uint32(index), 0, rootQdisc, 0} { // index, handle, parent, info
		m.B = binary.NativeEndian.AppendUint32(m.B, v)
	}
}

// SetTokenBucket makes a link's root queue a token bucket, or changes the one that it is.
func (r *Conn) SetTokenBucket(index int, b TokenBucket) error {
	return r.Change(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, func(m *Message) {
		m.tcmsg(index)
		m.Str(tcaKind, "tbf")
		at := m.Open(tcaOptions)
		parms := make([]byte, tbfSize)
		parms[1] = ethernetLL // the kernel counts bytes itself then, and needs no table
		binary.NativeEndian.PutUint32(parms[8:], uint32(min(b.Rate, 0xffffffff)))
		binary.NativeEndian.PutUint32(parms[2*rateSize:], b.Limit)
		m.Raw(tcaTbfParms, parms)
		m.Raw(tcaTbfRate64, binary.NativeEndian.AppendUint64(nil, b.Rate))
		m.Raw(tcaTbfBurst, binary.NativeEndian.AppendUint32(nil, b.Burst))
		m.Close(at)
	})
}

// RootQdisc returns the kind of a link's root queue, "noqueue" where it has none, and the
// token bucket that it is.
func (r *Conn) RootQdisc(index int) (kind string, b TokenBucket, err error) {
	payloads, err := r.Request(unix.RTM_GETQDISC, unix.NLM_F_DUMP, func(m *Message) { m.tcmsg(index) })
	if err != nil {
		return "", b, err
	}
	kind = "noqueue"
	for _, p := range payloads {
		if len(p) < tcmsgSize || binary.NativeEndian.Uint32(p[4:]) != uint32(index) || binary.NativeEndian.Uint32(p[12:]) != rootQdisc {
			continue
		}
		nlsock.Attributes(p[tcmsgSize:], func(typ uint16, data []byte) {
			switch typ {
			case tcaKind:
				kind = nlsock.CString(data)
			case tcaOptions:
				b = tokenBucketOf(data)
			}
		})
	}
	return kind, b, nil
}

func tokenBucketOf(options []byte) (b TokenBucket) {
	var rate64 uint64
	nlsock.Attributes(options, func(typ uint16, data []byte) {
		switch {
		case typ == tcaTbfParms && len(data) >= tbfSize:
			b.Rate = uint64(binary.NativeEndian.Uint32(data[8:]))
			b.Limit = binary.NativeEndian.Uint32(data[2*rateSize:])
			b.ticks = binary.NativeEndian.Uint32(data[2*rateSize+4:])
		case typ == tcaTbfRate64 && len(data) >= 8:
			rate64 = binary.NativeEndian.Uint64(data)
		}
	})
	if rate64 != 0 {
		b.Rate = rate64
	}
	return b
}

// TokenBucketOn returns the index of the link that a message about a queue is on, if that
// is a token bucket, else 0.
func TokenBucketOn(data []byte) (index int) {
	if len(data) < tcmsgSize {
		return 0
	}
	nlsock.Attributes(data[tcmsgSize:], func(typ uint16, value []byte) {
		if typ == tcaKind && nlsock.CString(value) == "tbf" {
			index = int(int32(binary.NativeEndian.Uint32(data[4:])))
		}
	})
	return index
}

// RemoveRootQdisc takes a link's root queue away: the kernel gives it the usual one.
func (r *Conn) RemoveRootQdisc(index int) error {
	return r.Change(unix.RTM_DELQDISC, 0, func(m *Message) { m.tcmsg(index) })
}
