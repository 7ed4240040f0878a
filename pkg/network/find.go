package network

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// ShortID is how many digits of an ID are shown where there is little room.
const ShortID = 12

// ID returns the ID of a network: 64 hexadecimal digits, as Docker's. It is the
// SHA-256 of the name, so a file that was written by hand has an ID, too, and a
// network has the same ID on every host.
func ID(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

// NotFoundError says that a word is no network's name or ID.
type NotFoundError struct{ Word string }

func (e *NotFoundError) Error() string { return "network " + e.Word + " not found" }

// Find returns which of the networks' names a word means: by its ID, its name,
// or the beginning of its ID if that of no other begins so. The errors are
// Docker's, [NotFoundError] among them.
func Find(names []string, word string) (string, error) {
	var named, prefixed []string
	for _, name := range names {
		id := ID(name)
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
	return "", fmt.Errorf("network %s is ambiguous (%d matches found based on ID prefix)", word, len(prefixed))
}
