// Package network holds what every network has, whatever its mode: how a plugin's
// configuration is read, and what the engine must know of a mode. The files that such
// configurations are in, and what dnet does with them, are package catalog's.
//
// A mode reads its configuration once ([Plugin.Parse]); nothing after it validates
// again. Errors carry the CNI code and name the field, its value and
// what is allowed.
package network

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"dcni/pkg/wire"
)

// maxLinkLen is the length of a link's name in bytes (IFNAMSIZ - 1).
const maxLinkLen = 15

// maxFile is the length of a file's name in bytes (NAME_MAX).
const maxFile = 255

// MaxName is the length of a network's name in bytes with which any container of any
// runtime can be attached: the longest file made from it is that in which libcni keeps
// a result, NETWORK-CONTAINER-INTERFACE, with the 64 digits that runtimes give a
// container and the longest name of a link.
const MaxName = maxFile - len("--") - 64 - maxLinkLen

// CheckLength refuses a network's name that is longer than MaxName.
func CheckLength(name string) error {
	if len(name) <= MaxName {
		return nil
	}
	return wire.Invalid("name", name, fmt.Sprintf("must be at most %d bytes", MaxName))
}

// CheckCacheName refuses an attachment whose result libcni can't keep: its ADD would
// fail after all plugins have attached.
func CheckCacheName(a wire.Attachment) error {
	const most = maxFile - len("--")
	n, c, i := len(a.Network), len(a.Container), len(a.IfName)
	if n+c+i <= most {
		return nil
	}
	return wire.Errorf(wire.CodeEnv, "name, CNI_CONTAINERID and CNI_IFNAME have %d, %d and %d bytes: must be at most %d together, "+
		"for runtimes keep the result in one file of these names", n, c, i, most)
}

// NameRule says what [ValidName] takes.
const NameRule = "letters, digits, '_', '.' and '-', and begin with a letter or digit"

// ValidName reports whether a name may be a network's or a container's ID (CNI
// specification, "Network configuration objects" and "Parameters"). A regular
// expression would be compiled in each call of a plugin.
func ValidName(name string) bool {
	for i := range len(name) {
		c := name[i]
		alphanumeric := '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !alphanumeric && (i == 0 || c != '_' && c != '.' && c != '-') {
			return false
		}
	}
	return name != ""
}

// LinkRule says what [ValidLink] takes.
const LinkRule = `a link name: 1 to 15 bytes of ASCII without white space and / : " % *, and not ., .., all or default`

// ValidLink reports whether the kernel takes a name for a link
// (dev_valid_name), as far as sysctl paths and people can live with it: all and
// default are directories of settings, and the kernel makes no such link.
func ValidLink(name string) bool {
	switch name {
	case "", ".", "..", "all", "default":
		return false
	}
	if len(name) > maxLinkLen {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || r == '/' || r == ':' || r == '"' || r == '%' || r == '*'
	})
}

// ShortID is how many digits of an ID are shown where there is little room.
const ShortID = 12

// ID returns the ID of a network: 64 hexadecimal digits, as Docker's. It is the
// SHA-256 of the name, so a file that was written by hand has an ID, too, and a
// network has the same ID on every host.
func ID(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}
