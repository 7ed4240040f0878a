package dns

import (
	"bytes"
	"encoding/binary"

	"dcni/pkg/names"
)

// Sizes, in bytes.
const (
	headerSize  = 12
	optSize     = 11    // an OPT record without options
	minUDP      = 512   // the least that any client takes (RFC 1035, section 4.2.1)
	maxUDP      = 4096  // the largest answer we send, even if a client takes more
	advertised  = 1232  // the largest answer we take: fits a packet of 1280 (DNS flag day 2020)
	maxMessage  = 65535 // over TCP
	addressSize = 12    // of an address record without its address: pointer to the name, type, class, TTL, length
)

// Bits of a header's second word.
const (
	flagQR = 1 << 15
	flagTC = 1 << 9
	flagRD = 1 << 8
	flagRA = 1 << 7
	flagAD = 1 << 5
	flagCD = 1 << 4
)

// Types and response codes that are needed without miekg/dns.
const (
	typeA    = 1
	typePTR  = 12
	typeAAAA = 28
	typeSRV  = 33
	typeOPT  = 41
	typeANY  = 255
	classIN  = 1

	rcodeFormErr  = 1
	rcodeServFail = 2
	rcodeRefused  = 5
)

// A form is what the answer to a query must look like.
type form struct {
	flags uint16 // of the query
	qtype uint16
	end   int // where the question ends
	size  int // of the largest datagram that the client takes
	edns  bool
	do    bool // with DNSSEC records
}

// A query is an ordinary query, parsed: one question of class IN, no records but
// an OPT. All others are left to miekg/dns.
type query struct {
	form
	options bool   // the OPT has some
	name    []byte // lower case, without the last dot
	text    [256]byte
}

var be = binary.BigEndian

// parse reads an ordinary query.
func (q *query) parse(b []byte) bool {
	if len(b) < headerSize {
		return false
	}
	records := be.Uint16(b[10:])
	q.flags = be.Uint16(b[2:])
	if q.flags&^(flagRD|flagAD|flagCD) != 0 || be.Uint32(b[4:]) != 1<<16 || be.Uint16(b[8:]) != 0 || records > 1 {
		return false
	}
	at := q.parseName(b)
	if at == 0 || len(b) < at+4 || be.Uint16(b[at+2:]) != classIN {
		return false
	}
	q.qtype = be.Uint16(b[at:])
	q.end = at + 4
	q.edns, q.do, q.options, q.size = false, false, false, minUDP
	if records == 1 {
		return q.parseOPT(b[q.end:])
	}
	return len(b) == q.end
}

// parseName reads the name of the question and returns where it ends, or 0.
func (q *query) parseName(b []byte) int {
	at, n := headerSize, 0
	for {
		if at >= len(b) {
			return 0
		}
		size := int(b[at])
		at++
		if size == 0 {
			q.name = q.text[:max(n-1, 0)] // without the last dot
			return at
		}
		// 63 is also where pointers begin; a name has 255 bytes with its end.
		if size > 63 || at+size > len(b) || n+size+1 > 254 {
			return 0
		}
		for _, c := range b[at : at+size] {
			if c == '.' {
				return 0 // a dot within a label
			}
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			q.text[n] = c
			n++
		}
		q.text[n] = '.'
		n++
		at += size
	}
}

// parseOPT reads the OPT record that ends the message (RFC 6891, section 6.1.2).
func (q *query) parseOPT(b []byte) bool {
	if len(b) < optSize || b[0] != 0 || be.Uint16(b[1:]) != typeOPT {
		return false
	}
	extended := be.Uint32(b[5:]) // response code, version, flags
	if extended>>16 != 0 {
		return false
	}
	q.edns = true
	q.do = extended&(1<<15) != 0
	q.size = max(minUDP, int(be.Uint16(b[3:])))
	q.options = len(b) > optSize
	return len(b) == optSize+int(be.Uint16(b[9:]))
}

// family returns the family of addresses that the query asks for, if any.
func (q *query) family() (f names.Family, ok bool) {
	if q.qtype == typeAAAA {
		return names.IPv6, true
	}
	return names.IPv4, q.qtype == typeA
}

// local answers the query in place if the view has the name: b has room for limit
// bytes and begins with the query. It returns the length of the answer, or 0.
func (q *query) local(b []byte, limit int, view *names.View) int {
	family, addresses := q.family()
	a, known := view.Lookup(q.name, family)
	if !known || meta(q.qtype) {
		return 0
	}
	if !addresses {
		a.Addresses = nil
	}
	size := addressSize + 4
	if family == names.IPv6 {
		size = addressSize + 16
	}
	fit := min(len(a.Addresses), (q.room(limit)-q.end)/size)
	flags := uint16(0)
	if fit < len(a.Addresses) {
		flags = flagTC
	}
	at := q.end
	for i := range fit {
		at = q.putAddress(b, at, a, (a.First+i)%len(a.Addresses))
	}
	return q.finish(b, at, flags, fit, 0, 0)
}

// putAddress writes a record at a place and returns the next one.
func (q *query) putAddress(b []byte, at int, a names.Answer, i int) int {
	be.PutUint32(b[at:], 0xc000<<16|headerSize<<16|uint32(q.qtype)) // the name is that of the question
	be.PutUint32(b[at+4:], classIN<<16|a.TTL>>16)
	be.PutUint16(b[at+8:], uint16(a.TTL))
	if q.qtype == typeA {
		address := a.Addresses[i].As4()
		be.PutUint16(b[at+10:], 4)
		return at + addressSize + copy(b[at+addressSize:], address[:])
	}
	address := a.Addresses[i].As16()
	be.PutUint16(b[at+10:], 16)
	return at + addressSize + copy(b[at+addressSize:], address[:])
}

// room returns how much of the limit there is for records.
func (f *form) room(limit int) int {
	if f.edns {
		return limit - optSize
	}
	return limit
}

// datagram returns how long an answer over UDP may be.
func (f *form) datagram() int { return min(f.size, maxUDP) }

// derived reports whether the query may be about a name that is derived from one
// in the view: the reverse name of an address, or the name of a service.
func (q *query) derived() bool {
	if q.qtype == typeSRV || q.qtype == typePTR || bytes.HasSuffix(q.name, []byte(".arpa")) {
		return true
	}
	_, rest, _ := bytes.Cut(q.name, []byte("."))
	proto, _, ok := bytes.Cut(rest, []byte("."))
	return ok && len(proto) <= len("_sctp") && isProtocol(string(proto)) // of short ones no copy is allocated
}

// meta reports whether a type is no type of records: transfers and the like, and
// ANY (RFC 6895, section 3.1).
func meta(qtype uint16) bool { return 128 <= qtype && qtype <= 255 }

// finish writes the header of an answer whose records end at a place, and the
// OPT if the query had one. It returns the length of the message. The ID and
// the question are there already.
func (f *form) finish(b []byte, at int, flags uint16, answers, authorities, additionals int) int {
	if f.edns {
		opt := b[at : at+optSize]
		clear(opt)
		be.PutUint16(opt[1:], typeOPT)
		be.PutUint16(opt[3:], advertised)
		if f.do {
			opt[7] = 1 << 7
		}
		at += optSize
		additionals++
	}
	be.PutUint16(b[2:], flagQR|flagRA|f.flags&(flagRD|flagCD)|flags)
	be.PutUint16(b[4:], 1)
	be.PutUint16(b[6:], uint16(answers))
	be.PutUint16(b[8:], uint16(authorities))
	be.PutUint16(b[10:], uint16(additionals))
	return at
}

// fail answers with a response code and no records.
func (f *form) fail(b []byte, rcode uint16) int { return f.finish(b, f.end, rcode, 0, 0, 0) }
