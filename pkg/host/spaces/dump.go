package spaces

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// Dump repeats a list of the library's that the kernel says changed underneath
// (NLM_F_DUMP_INTR): what it returned may lack or repeat entries. It gives up
// after a few rounds on a machine that never holds still.
func Dump[T any](list func() ([]T, error)) (all []T, err error) {
	const rounds = 8
	for range rounds {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return all, err
}
