package catalog

import (
	"fmt"
	"net/netip"
	"strings"

	"dcni/pkg/network"
)

// NotFoundError says that a word is no network's name or ID.
type NotFoundError struct{ Word string }

func (e *NotFoundError) Error() string { return "network " + e.Word + " not found" }

// InUseError says that a network can't be removed, for containers are on it. The words are
// Docker's.
type InUseError struct {
	Network   string
	Endpoints string // what is on it, as Docker lists endpoints
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("error while removing network: network %s has active endpoints (%s)", e.Network, e.Endpoints)
}

// Overlap says that two networks can't have their subnets. The words are Docker's, with what is meant.
func Overlap(one netip.Prefix, of string, other netip.Prefix, with string) error {
	return network.Refuse(network.Forbidden, "invalid pool request: Pool overlaps with other one on this address space: "+
		"subnet %s of network %q and %s of network %q", one, of, other, with)
}

// Find returns which of the networks' names a word means: by its ID, its name,
// or the beginning of its ID if that of no other begins so. The errors are
// Docker's, [NotFoundError] among them.
func Find(names []string, word string) (string, error) {
	var named, prefixed []string
	for _, name := range names {
		id := network.ID(name)
		if id == word {
			return name, nil
		}
		if name == word {
			named = append(named, name)
		}
		if word != "" && strings.HasPrefix(id, word) {
			prefixed = append(prefixed, name)
		}
	}
	if len(named) > 0 {
		return named[0], nil
	}
	switch len(prefixed) {
	case 0:
		return "", &NotFoundError{word}
	case 1:
		return prefixed[0], nil
	}
	return "", network.Refuse(network.InvalidParameter, "network %s is ambiguous (%d matches found based on ID prefix): %s", word, len(prefixed), strings.Join(prefixed, ", "))
}
