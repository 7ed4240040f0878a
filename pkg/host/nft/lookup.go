package nft

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/nlsock"
)

// perExchange bounds how many elements are looked up in one exchange: the answers
// to all of them must fit into the socket's buffer.
const perExchange = 512

// A tableID names a table.
type tableID struct {
	family uint8
	name   string
}

// String returns it as nft names it.
func (t tableID) String() string {
	if t.family == unix.NFPROTO_BRIDGE {
		return "bridge " + t.name
	}
	return "inet " + t.name
}

// packetTable is that of the constant rules.
var packetTable = tableID{unix.NFPROTO_INET, firewall.TableName}

// get is getIn of the constant rules' table.
func (f *Firewall) get(elements []element) ([]*element, error) { return f.getIn(packetTable, elements) }

// getIn returns what the kernel has for each element, nil where nothing. Each
// element is asked for by its key, many in one exchange: the cost does not
// depend on how many others there are.
func (f *Firewall) getIn(table tableID, elements []element) ([]*element, error) {
	unlock, err := f.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	found := make([]*element, 0, len(elements))
	for part := range slices.Chunk(elements, perExchange) {
		more, err := f.getSome(table, part)
		if err != nil {
			return nil, fmt.Errorf("look up elements: %w", Unsupported(err))
		}
		found = append(found, more...)
	}
	return found, nil
}

func (f *Firewall) getSome(table tableID, elements []element) ([]*element, error) {
	m := nlsock.Message{B: make([]byte, 0, 128*len(elements))}
	first := f.conn.Seq + 1
	for _, e := range elements {
		at := m.Begin(MessageType(unix.NFT_MSG_GETSETELEM), 0, f.conn.Next())
		m.NFHeader(table.family, 0)
		appendElementsIn(&m, table.name, []element{{set: e.set, key: e.key, keyEnd: e.keyEnd, end: e.end}})
		m.End(at)
	}
	replies, err := f.conn.RoundTrip(m.B)
	if err != nil {
		return nil, err
	}
	found := make([]*element, len(elements))
	for _, r := range replies {
		i := r.Seq - first
		switch {
		case i >= uint32(len(elements)) || errors.Is(r.Err, unix.ENOENT):
		case errors.Is(r.Err, unix.EINVAL):
			// The set has keys of another kind, so it is another program's. DEL must get by.
		case r.Err != nil:
			return nil, r.Err
		default:
			// A range is found by any key in it: only the very same one counts.
			for _, e := range decodeElements(r.Data) {
				if e.id() == elements[i].id() {
					found[i] = &e
				}
			}
		}
	}
	return found, nil
}

// list returns all elements of sets.
func (f *Firewall) list(sets ...string) ([]element, error) { return f.listOf(packetTable, sets...) }

// listOf is list for any table.
func (f *Firewall) listOf(table tableID, sets ...string) ([]element, error) {
	unlock, err := f.lock()
	if lacksNFTables(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer unlock()
	return f.elementsOfTable(table, sets...)
}

// listIn is list for any table of the inet family. The caller holds the lock.
func (f *Firewall) listIn(table string, sets ...string) ([]element, error) {
	return f.elementsOfTable(tableID{unix.NFPROTO_INET, table}, sets...)
}

// elementsOfTable returns all elements of sets. Where there is no such table, or no nf_tables, its sets are
// empty. The caller holds the lock.
func (f *Firewall) elementsOfTable(table tableID, sets ...string) ([]element, error) {
	var elements []element
	for _, set := range sets {
		payloads, err := f.conn.Dump(f.requestIn(table.family, unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, func(m *nlsock.Message) {
			m.Str(unix.NFTA_SET_ELEM_LIST_TABLE, table.name)
			m.Str(unix.NFTA_SET_ELEM_LIST_SET, set)
		}))
		if err != nil && !errors.Is(err, unix.ENOENT) && !lacksNFTables(UnsupportedSubsystem(err)) {
			return nil, fmt.Errorf("list %s: %w", set, err)
		}
		for _, p := range payloads {
			elements = append(elements, decodeElements(p)...)
		}
	}
	return elements, nil
}

// grouped sorts elements by set, so that they fit into few messages. The order
// within a set stays.
func grouped(elements []element) []element {
	slices.SortStableFunc(elements, func(a, b element) int { return strings.Compare(a.set, b.set) })
	return elements
}

// deleteTries bounds how often a delete is tried again because something else
// was deleted in between: one missing element fails the whole transaction.
const deleteTries = 5

// deleteOwn is deleteOwnIn of the constant rules' table.
func (f *Firewall) deleteOwn(elements []element, ours func(comment string) bool) error {
	return f.deleteOwnIn(packetTable, elements, ours)
}

// deleteOwnIn deletes those of the elements that are there with a comment that
// is ours. It is nil if there are none.
func (f *Firewall) deleteOwnIn(table tableID, elements []element, ours func(comment string) bool) error {
	for try := 1; ; try++ {
		found, err := f.getIn(table, elements)
		if err != nil {
			return err
		}
		err = f.commitIn(table.family, func(b *Batch) error {
			b.elementsIn(table.name, unix.NFT_MSG_DELSETELEM, 0, grouped(own(elements, found, ours)))
			return nil
		})
		if err == nil || !errors.Is(err, unix.ENOENT) || try == deleteTries {
			return wrap("delete elements", err)
		}
	}
}

// own picks the elements that are ours. The end of a range has no comment of
// its own: it goes with the element before it.
func own(elements []element, found []*element, ours func(string) bool) []element {
	var list []element
	mine := false
	for i, e := range elements {
		if !e.end {
			mine = found[i] != nil && ours(found[i].comment)
		}
		if mine && found[i] != nil {
			list = append(list, e)
		}
	}
	return list
}
