package nft

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/wire"
)

// refusals are what the kernel answers where a table of that name has sets or chains of other
// kinds, is dormant, or is a running program's own.
var refusals = []unix.Errno{unix.EEXIST, unix.EOPNOTSUPP, unix.EINVAL, unix.EPERM, unix.EBUSY}

// probe sends a table to the kernel without the end of the transaction: it looks at all of it, loads modules for
// it, and drops it. Chains that are to be replaced go first.
func (f *Firewall) probe(family uint8, t firewall.Table, replaced []string) error {
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	b := NewBatch(f.conn)
	b.Family = family
	b.replaceable(t.Name, replaced)
	if err := b.table(t); err != nil {
		return err
	}
	return b.send()
}

// taken says why the kernel does not take a table, with what it said. A table that it takes under
// another name is one of another program's under this one.
func (f *Firewall) taken(family uint8, t firewall.Table, err error) error {
	errno, is := errors.AsType[unix.Errno](err)
	other := t
	other.Name += "-probe"
	if !is || !slices.Contains(refusals, errno) || f.probe(family, other, nil) != nil {
		return err
	}
	return &wire.Error{
		Code: wire.CodeUnavailable,
		Msg:  fmt.Sprintf("table %s is another program's, and dcni needs that name; to delete it: nft delete table %[1]s", tableID{family, t.Name}),
		Err:  fmt.Errorf("%w: %w", firewall.ErrTaken, errno),
	}
}

// full says what errors mean that the kernel gives where a set has no room. dcni's own sets that it puts
// elements in have no size.
func full(table tableID, err error) error {
	if errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOSPC) {
		return &wire.Error{
			Code: wire.CodeUnavailable,
			Msg:  fmt.Sprintf("a set of table %s is full: another program has limited its size; to have dcni make it again: nft delete table %[1]s", table),
			Err:  err,
		}
	}
	return err
}
