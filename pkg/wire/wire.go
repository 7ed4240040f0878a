// Package wire is the vocabulary of dcni: what an attachment is, which things
// can be there for it, and the verbs that work on any of them.
//
// A plugin does not do things; it says what must be there. It returns a [Plan],
// a list of plain values ([Object]s) that print as ip(8) and nft(8) users know
// them. [Ensure] makes objects so, [Check] compares them with the machine, [Del]
// removes those of an attachment; [Apply] turns one set of objects into another.
// The machine itself is one small interface, [Host], with one real
// implementation (package host) and one in memory (package wiretest).
//
// The package is pure: it imports the standard library only and touches
// neither kernel nor disk.
package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// An Attachment is the identity of one interface of one container on one
// network: the three words that every CNI call carries. All that DEL must
// remove is found from it alone.
type Attachment struct {
	Network   string `json:"network"`   // name of the network configuration
	Container string `json:"container"` // CNI_CONTAINERID
	IfName    string `json:"ifName"`    // CNI_IFNAME
}

// String returns the owner as people read it in link aliases and element
// comments: "web c1/eth0".
func (a Attachment) String() string {
	return a.Network + " " + a.Container + "/" + a.IfName
}

// ID returns a stable hash of the identity: 14 hexadecimal digits.
//
// The words are joined by a byte that none of them may contain, so that two
// identities never run together into one.
func (a Attachment) ID() string { return a.EndpointID()[:14] }

// EndpointID returns the whole hash: 64 hexadecimal digits, as the ID of an
// endpoint has with Docker.
func (a Attachment) EndpointID() string {
	sum := sha256.Sum256([]byte(a.Network + "\x00" + a.Container + "\x00" + a.IfName))
	return hex.EncodeToString(sum[:])
}

// HostLink returns the name of the attachment's host-side link: "veth" and the [Attachment.ID]
// as 11 digits of base 36, which hold its 56 bits and fill the 15 bytes of a link name
// (IFNAMSIZ - 1). BuildKit counts the packets of a host's end only by a name that begins so.
func (a Attachment) HostLink() string {
	const base, digits, bits = 36, 11, 64
	id, _ := strconv.ParseUint(a.ID(), 16, bits) // 14 hexadecimal digits
	number := strconv.FormatUint(id, base)
	return vethPrefix + strings.Repeat("0", digits-len(number)) + number
}

const vethPrefix = "veth"

// FormerHostLink returns the name that versions before gave the link that is called name now: "v" and the
// ID. It is "" for a name that is not of the form of [Attachment.HostLink].
func FormerHostLink(name string) string {
	const base, digits, bits, length = 36, 11, 56, 14
	number, ok := strings.CutPrefix(name, vethPrefix)
	id, err := strconv.ParseUint(number, base, bits)
	if !ok || err != nil || len(number) != digits || number != strings.ToLower(number) {
		return ""
	}
	return fmt.Sprintf("v%0*x", length, id)
}

// An Object is one thing that must be there: a link, an address, a route, what
// a network allows. Objects are plain values and are compared by Key.
type Object interface {
	// Key says which thing it is. For what DEL removes it is made of identity
	// only: addresses and ports are contents, not keys.
	Key() string
	// String is one line, as iproute2 or nft would print it.
	String() string
}

// A Plan is everything one attachment needs, by whose it is.
type Plan struct {
	// Host are the host's objects, which networks share (forwarding, the interface
	// of a VLAN). Those that are a [Root] go with their last user, whichever network
	// that is of.
	Host []Object
	// Network are the network's objects: they outlive the attachment (bridge,
	// gateway address, what the network allows).
	Network []Object
	// Own are the attachment's: they die with it (veth, published ports).
	// Inside the sandbox, addresses and routes die with their link; DEL removes
	// only the objects that are a [Root].
	Own []Object
}

// A Root is an object that DEL removes by itself. Any other object goes away
// with a Root: an address in the sandbox dies with its link.
type Root interface {
	Object
	Root()
}

// A Referrer names the objects that must be there before it: a veth refers to
// its bridge. The in-memory host refuses what refers to nothing, as the kernel
// does.
type Referrer interface {
	Object
	Refers() []string // keys
}

// A Provider names what it brings along besides itself, as a veth brings its
// other end. No two objects may provide one key.
type Provider interface {
	Object
	Provides() []string // keys
}

// Host is the machine. Each method works on one object.
type Host interface {
	// Ensure makes o so. It reports whether it changed anything: false, nil
	// means that o already was so.
	Ensure(o Object) (changed bool, err error)
	// Check returns nil, or how the machine differs from o. It changes nothing.
	Check(o Object) error
	// Remove takes o away. It returns nil if o is already gone, also when the
	// namespace it was in is gone.
	Remove(o Object) error
	// Probe tells whether Ensure could work here: nil, or what is missing.
	Probe(o Object) error
}

// A Kind is what a machine has for one object: the verbs of [Host] on it.
type Kind interface {
	Ensure() (changed bool, err error)
	Check() error
	Remove() error
	Probe() error
}

// A BatchRemover removes several objects at once. Kernel objects that each wait
// for an RCU grace period (a link, set elements) then wait for it together.
// The error joins what failed; it goes on past errors.
type BatchRemover interface {
	RemoveAll(objects []Object) error
}

// A Finisher waits for what Ensure has begun and left to others, as to another program.
type Finisher interface {
	Finish()
}

// Lines returns the plan as text, a line an object.
func (p Plan) Lines() []string {
	var lines []string
	for _, part := range []struct {
		owner   string
		objects []Object
	}{{"host   ", p.Host}, {"network", p.Network}, {"own    ", p.Own}} {
		for _, o := range part.objects {
			lines = append(lines, part.owner+" "+o.String())
		}
	}
	return lines
}

// OpError says what was being done to which object.
type OpError struct {
	Op     string // ensure, check, remove, probe
	Object string // the object as one line
	Err    error
}

// longest is how much of an object an error shows, in bytes.
const longest = 500

// OpErrorOf returns the error of what was being done to an object. One whose text is long, as of
// an endpoint with thousands of ports, is named by its key.
func OpErrorOf(op string, o Object, err error) *OpError {
	text := o.String()
	if len(text) > longest {
		text = o.Key()
	}
	return &OpError{Op: op, Object: text, Err: err}
}

func (e *OpError) Error() string { return fmt.Sprintf("%s %s: %v", e.Op, e.Object, e.Err) }

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

// IsHostLink reports whether a link's name has the form that
// [Attachment.HostLink] gives, or gave before. Another program's veth may have it as well.
func IsHostLink(name string) bool { return FormerHostLink(name) != "" || IsFormerHostLink(name) }

// IsFormerHostLink reports whether a link's name has the form that versions before gave.
func IsFormerHostLink(name string) bool {
	const digits = 14
	hash, ok := strings.CutPrefix(name, "v")
	return ok && len(hash) == digits && strings.Trim(hash, "0123456789abcdef") == ""
}

// BridgeMAC returns the MAC of a bridge that dcni makes. It is made from the bridge's
// name, so that it outlives every port, and is the proof that dcni made it.
func BridgeMAC(name string) string {
	sum := sha256.Sum256([]byte(name))
	return fmt.Sprintf("02:42:%02x:%02x:%02x:%02x", sum[0], sum[1], sum[2], sum[3])
}

// An Orphan is a root found on the machine, with its owner as far as the machine
// tells: a link's name is a hash, an element's comment may be cut.
type Orphan struct {
	Object Root
	Of     func(Attachment) bool // is it this attachment's?
	In     func(network string) bool
}
