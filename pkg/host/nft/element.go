package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/hostports"
	"dcni/pkg/host/nlsock"
)

// element is a set element in the kernel's form.
type element struct {
	set     string
	key     []byte
	keyEnd  []byte // last key of a range, in concatenations
	data    []byte // nil in a set
	verdict string // in a map of verdicts, the chain that is jumped to
	end     bool   // the first key behind a range, in sets of plain addresses
	comment string
}

// elementID is what tells an element from others, whatever its owner.
type elementID struct {
	set, key, keyEnd string
	end              bool
}

func (e element) id() elementID { return elementID{e.set, string(e.key), string(e.keyEnd), e.end} }

// What is constant is built once, and only when it is needed: a plugin lives
// for milliseconds.
var (
	ruleset = sync.OnceValue(firewall.Rules)
	isRange = sync.OnceValue(func() map[string]bool { return rangeSets(ruleset().Sets) })
)

// rangeSets returns the sets of plain addresses with ranges, which hold both
// ends of a range as elements.
func rangeSets(sets []firewall.Set) map[string]bool {
	plain := make(map[string]bool)
	for _, s := range sets {
		plain[s.Name] = s.Interval && len(s.Key) == 1
	}
	return plain
}

// encode returns an element in the kernel's form: two for a range of plain
// addresses.
func encode(e firewall.Element) []element {
	k := element{set: e.Set, comment: e.Comment}
	var ranged bool
	for _, part := range e.Key {
		first, last := encodePart(part)
		_, isPrefix := part.(netip.Prefix)
		ranged = ranged || isPrefix
		k.key, k.keyEnd = append(k.key, first...), append(k.keyEnd, last...)
		if len(e.Key) > 1 { // each part of a concatenation takes whole registers
			k.key, k.keyEnd = padded(k.key), padded(k.keyEnd)
		}
	}
	for _, part := range e.Value {
		if to, is := part.(firewall.Jump); is {
			k.verdict = string(to)
			continue
		}
		first, _ := encodePart(part)
		k.data = append(k.data, first...)
	}
	if !ranged {
		k.keyEnd = nil
		return []element{k}
	}
	if !isRange()[e.Set] {
		return []element{k}
	}
	last, _ := netip.AddrFromSlice(k.keyEnd)
	k.keyEnd = nil
	if behind := last.Next(); behind.IsValid() {
		return []element{k, {set: e.Set, key: behind.AsSlice(), end: true}}
	}
	return []element{k}
}

func padded(b []byte) []byte { return append(b, make([]byte, nlsock.Align4(len(b))-len(b))...) }

func encodeAll(elements []firewall.Element) []element {
	out := make([]element, 0, len(elements))
	for _, e := range elements {
		out = append(out, encode(e)...)
	}
	return out
}

// encodePart returns the first and last key of one part, padded to four bytes.
func encodePart(part fmt.Stringer) (first, last []byte) {
	switch p := part.(type) {
	case firewall.IfName:
		first = ifNameBytes(string(p))
	case firewall.Proto:
		first = []byte{hostports.Protocols[string(p)], 0, 0, 0}
	case firewall.Family:
		first = familyBytes(p)
	case firewall.Service:
		first = append(binary.BigEndian.AppendUint16(nil, uint16(p)), 0, 0)
	case firewall.Mark:
		first = nlsock.Native32(uint32(p))
	case firewall.MAC:
		first, _ = net.ParseMAC(string(p))
	case netip.Addr:
		first = p.AsSlice()
	case netip.Prefix:
		first, last = p.Masked().Addr().AsSlice(), p.Masked().Addr().AsSlice()
		mask := prefixMask(p.Bits(), len(last))
		for i := range last {
			last[i] |= ^mask[i]
		}
		return first, last
	}
	return first, first
}

func familyBytes(f firewall.Family) []byte {
	if f == 6 {
		return []byte{unix.NFPROTO_IPV6}
	}
	return []byte{unix.NFPROTO_IPV4}
}

func ifNameBytes(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// elemKeyEnd is NFTA_SET_ELEM_KEY_END, which x/sys lacks.
const elemKeyEnd = 10

// perMessage bounds the elements of one message: the list's length is 16 bits.
const perMessage = 250

// elements appends one kind of change of elements, split into messages by set
// and size.
func (b *Batch) elements(msg, flags uint16, list []element) {
	b.elementsIn(firewall.TableName, msg, flags, list)
}

// elementsIn is elements for another table.
func (b *Batch) elementsIn(table string, msg, flags uint16, list []element) {
	for len(list) > 0 {
		n := 1
		for n < len(list) && n < perMessage && list[n].set == list[0].set {
			n++
		}
		part := list[:n]
		b.Change(msg, flags, func(m *nlsock.Message) { appendElementsIn(m, table, part) })
		list = list[n:]
	}
}

// AddElements appends elements of a table. Those of one set are best together: they share messages.
func (b *Batch) AddElements(table string, list []firewall.Element) {
	b.elementsIn(table, unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, encodeAll(list))
}

// DeleteElements appends that elements go. One that is not there fails the batch.
func (b *Batch) DeleteElements(table string, list []firewall.Element) {
	b.elementsIn(table, unix.NFT_MSG_DELSETELEM, 0, encodeAll(list))
}

// A Listed is an element as the kernel lists it.
type Listed struct {
	Key   []byte
	Data  []byte // in a map
	Chain string // in a map of verdicts
}

// List returns the elements of a set of a table; none where there is no such set.
func List(c *nlsock.Conn, family uint8, table, set string) ([]Listed, error) {
	var m nlsock.Message
	at := m.Begin(MessageType(unix.NFT_MSG_GETSETELEM), unix.NLM_F_DUMP, c.Next())
	m.NFHeader(family, 0)
	m.Str(unix.NFTA_SET_ELEM_LIST_TABLE, table)
	m.Str(unix.NFTA_SET_ELEM_LIST_SET, set)
	m.End(at)
	payloads, err := c.Dump(m.B)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("list %s: %w", set, UnsupportedSubsystem(err))
	}
	var list []Listed
	for _, p := range payloads {
		for _, e := range decodeElements(p) {
			list = append(list, Listed{e.key, e.data, e.verdict})
		}
	}
	return list, nil
}

// appendElements appends the attributes of a list of elements of one set.
func appendElements(m *nlsock.Message, list []element) {
	appendElementsIn(m, firewall.TableName, list)
}

func appendElementsIn(m *nlsock.Message, table string, list []element) {
	m.Str(unix.NFTA_SET_ELEM_LIST_TABLE, table)
	m.Str(unix.NFTA_SET_ELEM_LIST_SET, list[0].set)
	outer := m.Open(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
	for _, e := range list {
		at := m.Open(unix.NFTA_LIST_ELEM)
		appendValue(m, unix.NFTA_SET_ELEM_KEY, e.key)
		if e.keyEnd != nil {
			appendValue(m, elemKeyEnd, e.keyEnd)
		}
		if e.data != nil {
			appendValue(m, unix.NFTA_SET_ELEM_DATA, e.data)
		}
		if e.verdict != "" {
			appendJump(m, e.verdict)
		}
		if e.end {
			m.U32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
		}
		if e.comment != "" {
			m.Raw(unix.NFTA_SET_ELEM_USERDATA, userdata.AppendString(nil, userdata.NFTNL_UDATA_SET_ELEM_COMMENT, e.comment))
		}
		m.Close(at)
	}
	m.Close(outer)
}

func appendValue(m *nlsock.Message, typ uint16, data []byte) {
	at := m.Open(typ)
	m.Raw(unix.NFTA_DATA_VALUE, data)
	m.Close(at)
}

// appendJump appends a verdict.
func appendJump(m *nlsock.Message, chain string) {
	data := m.Open(unix.NFTA_SET_ELEM_DATA)
	verdict := m.Open(unix.NFTA_DATA_VERDICT)
	jump := int32(unix.NFT_JUMP)
	m.U32(unix.NFTA_VERDICT_CODE, uint32(jump))
	m.Str(unix.NFTA_VERDICT_CHAIN, chain)
	m.Close(verdict)
	m.Close(data)
}

// jumpOf reads the chain of a verdict, "" for other data.
func jumpOf(data []byte) (chain string) {
	nlsock.Attributes(data, func(typ uint16, verdict []byte) {
		if typ != unix.NFTA_DATA_VERDICT {
			return
		}
		nlsock.Attributes(verdict, func(typ uint16, data []byte) {
			if typ == unix.NFTA_VERDICT_CHAIN {
				chain = nlsock.CString(data)
			}
		})
	})
	return chain
}

// decodeElements reads the elements of one NEWSETELEM message.
func decodeElements(payload []byte) (list []element) {
	if len(payload) < 4 {
		return nil
	}
	var set string
	nlsock.Attributes(payload[4:], func(typ uint16, data []byte) {
		switch typ {
		case unix.NFTA_SET_ELEM_LIST_SET:
			set = nlsock.CString(data)
		case unix.NFTA_SET_ELEM_LIST_ELEMENTS:
			nlsock.Attributes(data, func(_ uint16, data []byte) { list = append(list, decodeElement(data)) })
		}
	})
	for i := range list {
		list[i].set = set
	}
	return list
}

func decodeElement(b []byte) (e element) {
	nlsock.Attributes(b, func(typ uint16, data []byte) {
		switch typ {
		case unix.NFTA_SET_ELEM_KEY:
			e.key = dataValue(data)
		case elemKeyEnd:
			e.keyEnd = dataValue(data)
		case unix.NFTA_SET_ELEM_DATA:
			e.data, e.verdict = dataValue(data), jumpOf(data)
		case unix.NFTA_SET_ELEM_FLAGS:
			e.end = len(data) == 4 && binary.BigEndian.Uint32(data)&unix.NFT_SET_ELEM_INTERVAL_END != 0
		case unix.NFTA_SET_ELEM_USERDATA:
			e.comment = Comment(data, userdata.NFTNL_UDATA_SET_ELEM_COMMENT)
		}
	})
	return e
}

// Comment reads a comment out of user data: type, length and value, repeated. Any
// program may have written it, a container's into its own tables too.
func Comment(data []byte, typ userdata.Type) string {
	const header = 2
	for len(data) >= header {
		end := header + int(data[1])
		if end > len(data) {
			return ""
		}
		if userdata.Type(data[0]) == typ {
			return nlsock.CString(data[header:end])
		}
		data = data[end:]
	}
	return ""
}

func dataValue(b []byte) (value []byte) {
	nlsock.Attributes(b, func(typ uint16, data []byte) {
		if typ == unix.NFTA_DATA_VALUE {
			value = data
		}
	})
	return value
}
