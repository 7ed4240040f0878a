package leases

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// stateSize is one page of the page cache: a write of it is made whole or not
// at all, also by a process that is killed in the middle.
const stateSize = 4096

const stateMagic = "dcni leases 1"

// A state is the contents of .state: lines of text, filled up with blanks.
//
//	dcni leases 1
//	clean                                   or dirty, or exact
//	epoch 6f1e0c55a2d9
//	changed 1760000000123456789             mtime of the directory, in ns
//	cursor 10.1.0.1-10.1.255.254 10.1.0.7   handed out last, per range
//
// "exact" is clean, and nothing was changed since a rebuild: a network that is
// full then need not be rebuilt to believe it.
//
// The cursors used last come first; those that don't fit are forgotten, and
// their ranges begin at their first address again.
type state struct {
	dirty   bool
	exact   bool
	epoch   string
	changed int64
	cursors []cursor
}

type cursor struct {
	span string
	last netip.Addr
}

// readState returns false if the file can't be understood: it is new, or foreign.
// The cursors that can be read are kept.
func readState(f io.ReaderAt) (state, bool, error) {
	data := make([]byte, stateSize)
	n, err := f.ReadAt(data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return state{}, false, err
	}
	lines := strings.Split(strings.TrimRight(string(data[:n]), " \n"), "\n")
	if len(lines) < 4 || lines[0] != stateMagic {
		return state{}, false, nil
	}
	epoch, isEpoch := strings.CutPrefix(lines[2], "epoch ")
	text, _ := strings.CutPrefix(lines[3], "changed ") // without that it is no number
	changed, err := strconv.ParseInt(text, 10, 64)
	s := state{exact: lines[1] == "exact", epoch: epoch, changed: changed}
	s.dirty = lines[1] != "clean" && !s.exact
	ok := isEpoch && err == nil
	for _, line := range lines[4:] {
		words := strings.Fields(line)
		if len(words) != 3 || words[0] != "cursor" {
			ok = false
			continue
		}
		if a, valid := parseName(words[2]); valid {
			s.cursors = append(s.cursors, cursor{words[1], a})
		}
	}
	return s, ok, nil
}

// write replaces the file's contents in one write.
func (s *state) write(f *os.File) error {
	var b bytes.Buffer
	word := "clean"
	switch {
	case s.dirty:
		word = "dirty"
	case s.exact:
		word = "exact"
	}
	fmt.Fprintf(&b, "%s\n%s\nepoch %s\nchanged %d\n", stateMagic, word, s.epoch, s.changed)
	for _, c := range s.cursors {
		line := "cursor " + c.span + " " + c.last.String() + "\n"
		if b.Len()+len(line) >= stateSize {
			break
		}
		b.WriteString(line)
	}
	b.WriteString(strings.Repeat(" ", stateSize-1-b.Len()))
	b.WriteByte('\n')
	_, err := f.WriteAt(b.Bytes(), 0)
	return err
}

// cursor returns the address of a span that was handed out last, if known.
func (s *state) cursor(span string) netip.Addr {
	for _, c := range s.cursors {
		if c.span == span {
			return c.last
		}
	}
	return netip.Addr{}
}

func (s *state) setCursor(span string, last netip.Addr) {
	rest := slices.DeleteFunc(s.cursors, func(c cursor) bool { return c.span == span })
	s.cursors = append([]cursor{{span, last}}, rest...)
}
