// Package names decides which names an attachment has and who may see them.
//
// An attachment answers to the names of its container, in this order: the
// container's name, its aliases, the first 12 digits of its ID, its hostname.
// The first is what its addresses are called in reverse. Names are compared
// without regard to case.
//
// A [Table] holds the names of all networks, a [View] is what one container
// sees of it: the names of the networks it is on and of no others. On each of
// them it finds
//
//   - the names of its containers, also as name.network;
//   - the names of its services, which come before those of containers;
//   - host.docker.internal and gateway.docker.internal, the network's gateway;
//   - extra hosts of the network's configuration, which come before names of
//     containers, as /etc/hosts comes before a name server.
//
// A name is first looked for as it is, in the networks in the view's order,
// and then as name.network. The first network that has an address of the wanted
// family answers; a name that several containers share has all their addresses
// there, beginning with another one each time. A network may give its containers no
// names (NoNames), as Docker's default bridge does.
//
// Tables and views never change, so they are read without locks. Adding or
// removing an attachment makes a new table that shares nearly all memory with
// the old one. Only the order of the addresses in answers changes.
package names

import (
	"fmt"
	"slices"
	"strings"

	"dcni/pkg/wire"
)

// DefaultTTL is how long an answer may be remembered, in seconds; Docker's.
const DefaultTTL = 600

// ShortID is how many digits of a container's ID are one of its names.
const ShortID = 12

// Limits of a domain name as text without the last dot, in bytes (RFC 1035,
// section 2.3.4: 255 bytes on the wire, 63 a label).
const (
	maxName  = 253
	maxLabel = 63
)

// An Identity has the words that a container's names on a network are made of.
type Identity struct {
	Container string // ID
	Name      string // or ""
	Hostname  string // or ""
	Aliases   []string
}

// Names returns the names of a container, each once and in lower case, the one
// for its addresses first. Docker lets containers have names that are no
// domain names, with 64 letters for instance: such a container has its other
// names. Aliases are checked where they are read, by [ParseAliases].
func (i Identity) Names() []string {
	short := i.Container[:min(len(i.Container), ShortID)]
	var out []string
	have := map[string]bool{}
	for _, name := range slices.Concat([]string{i.Name}, i.Aliases, []string{short, i.Hostname}) {
		name = strings.ToLower(name)
		if valid(name) && !have[name] {
			have[name] = true
			out = append(out, name)
		}
	}
	return out
}

// Check returns a configuration error if a name can't be one: names are labels
// of 1 to 63 letters, digits, "-" and "_", joined by dots, 253 bytes at most.
func Check(field, name string) error {
	if valid(name) {
		return nil
	}
	return wire.Invalid(field, name, "must be a domain name: labels of 1 to 63 letters, digits, - and _, joined by dots, 253 bytes at most")
}

func valid(name string) bool {
	if len(name) > maxName {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > maxLabel || strings.ContainsFunc(label, strange) {
			return false
		}
	}
	return true
}

// strange reports whether a letter is not allowed in a name.
func strange(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// CheckTTL returns a time to live in seconds, or a configuration error.
func CheckTTL(field string, seconds int64) (uint32, error) {
	const most = 1<<31 - 1 // RFC 2181, section 8
	if seconds < 0 || seconds > most {
		return 0, wire.Invalid(field, seconds, fmt.Sprintf("must be 0 to %d (seconds)", most))
	}
	return uint32(seconds), nil
}
