package spaces

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestDump(t *testing.T) {
	other := errors.New("other")
	for _, c := range []struct {
		said  []error
		tries int
	}{
		{[]error{nil}, 1},
		{[]error{netlink.ErrDumpInterrupted, netlink.ErrDumpInterrupted, nil}, 3},
		{[]error{netlink.ErrDumpInterrupted, other}, 2},
	} {
		n := 0
		all, err := Dump(func() ([]int, error) {
			n++
			return []int{n}, c.said[n-1]
		})
		if n != c.tries || all[0] != n || !errors.Is(err, c.said[n-1]) {
			t.Errorf("%v: %d tries, %v, %v", c.said, n, all, err)
		}
	}
	n := 0
	if _, err := Dump(func() ([]int, error) { n++; return nil, netlink.ErrDumpInterrupted }); err == nil || n > 100 {
		t.Errorf("a machine that never holds still: %d tries, %v", n, err)
	}
}
