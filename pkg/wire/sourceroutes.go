package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
)

// SourceRoutes says that packets from an attachment's addresses leave by its own link where
// its container is on other networks as well, whichever has the default route: an answer
// leaves by the network where the question came in. The routes of the link are in a routing
// table of the attachment's own, too, and a rule for each address leads there. A link that has
// no default route needs none. The object comes after addresses and routes. It concerns the
// container's other attachments too: with the second network the first one gets rules, and
// loses them with it.
type SourceRoutes struct {
	Owner     Attachment
	NetNS     string
	Dev       string
	Addresses []netip.Addr
	// Defaults are the default routes of the same plan, which Ensure reads what they found from.
	Defaults []*Route
	// Foreign says that a network of another suite's has a default route in the sandbox. It is
	// set by Ensure, and by a record.
	Foreign bool
}

// Key names the attachment.
func (s *SourceRoutes) Key() string { return "source routes " + s.Owner.String() }

// Refers names the link.
func (s *SourceRoutes) Refers() []string {
	if s.Dev == "" {
		return nil
	}
	return refers(s.NetNS, s.Dev)
}

// Root marks it as what DEL removes: rules outlive the link.
func (s *SourceRoutes) Root() {}

// Outside returns nil: all of it is in the sandbox.
func (s *SourceRoutes) Outside() Object { return ofHost(s, s.NetNS) }

func (s *SourceRoutes) String() string {
	return fmt.Sprintf("rule pref %d from addresses of %s lookup %d%s, beside other networks", SourcePref, s.Dev, s.Table(), in(s.NetNS))
}

// Table returns the number of the attachment's routing table.
func (s *SourceRoutes) Table() int {
	sum := sha256.Sum256([]byte(s.Owner.ID()))
	return sourceTables | int(binary.BigEndian.Uint32(sum[:])>>8)
}

// SourcePref is the preference of rules of [SourceRoutes]: right before that of the table
// main, 32766. A rule that is made without a preference comes before them.
const SourcePref = 32765

// sourceTables are the numbers of the tables of [SourceRoutes], with the lower 24 bits.
const sourceTables = 0x65000000

// IsSourceTable reports whether a table is one of [SourceRoutes].
func IsSourceTable(table int) bool { return table&^0xffffff == sourceTables }
