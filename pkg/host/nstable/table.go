// Package nstable is what dcni has in a sandbox besides its links: one table of
// nf_tables for each family, and policy routes.
//
// A table is composed of parts. Each part has an owner and chains of its own, and
// a change of one part leaves the others as they are. The DNS redirect is one part, and
// each virtual address of a service another.
package nstable

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/nft"
	"dcni/pkg/host/nlsock"
	"dcni/pkg/host/rtnl"
	"dcni/pkg/service"
)

// Table is a sandbox's table of one family. A chain in it that belongs to no part
// is an intruder: the next change of a part deletes it.
type Table struct {
	conn *nlsock.Conn // in the sandbox
	six  bool
	// Route is what a redirect with intercept takes besides.
	Route PolicyRoute
}

// New returns the table of a family in the sandbox that the connections are in.
func New(conn *nlsock.Conn, rt *rtnl.Conn, six bool) Table {
	return Table{conn, six, PolicyRoute{rt, six}}
}

// The owners of parts.
const (
	partDNS      = "dns"
	partServices = "services" // virtual addresses of services
)

// partOf says which part a chain belongs to; "": to none.
func partOf(chain string) string {
	switch {
	case chain == chainRewrite || chain == chainIntercept:
		return partDNS
	case strings.HasPrefix(chain, service.ChainPrefix):
		return partServices
	}
	return ""
}

// A share is what the table has of one part.
type share struct {
	rules  int
	same   bool     // all rules of the part have one comment, which is
	note   string   // this
	chains []string // with rules: the part's, and intruders
	others bool     // other parts have rules
}

// intruded reports whether a chain of no part is there.
func (s share) intruded() bool {
	return slices.ContainsFunc(s.chains, func(chain string) bool { return partOf(chain) == "" })
}

// read returns what the table has of a part.
func (t Table) read(part string) (share, error) {
	payloads, err := t.rules()
	if err != nil || len(payloads) == 0 {
		return share{}, err
	}
	s := share{same: true}
	for _, p := range payloads {
		s.add(part, nft.RuleChain(p), nft.RuleComment(p))
	}
	return s, nil
}

// add counts one rule.
func (s *share) add(part, chain, note string) {
	owner := partOf(chain)
	if owner != "" && owner != part {
		s.others = true
		return
	}
	if !slices.Contains(s.chains, chain) {
		s.chains = append(s.chains, chain)
	}
	if owner == part {
		s.same = s.same && (s.rules == 0 || s.note == note)
		s.note = note
		s.rules++
	}
}

// replace puts a part into the table, in place of what the table has of it. Where
// there is nothing, nothing is deleted: the kernel frees what was deleted after an
// RCU grace period. Closing the socket, and with it the end of the process, waits
// for that, 5 to 20 ms.
func (t Table) replace(have share, p *part) error {
	b := t.batch()
	t.clear(b, have)
	newTable(b)
	for _, c := range p.chains {
		b.Chain(firewall.TableName, c.Chain)
		for _, rule := range c.rules {
			b.Encoded(firewall.TableName, c.Name, rule, p.comment)
		}
	}
	return wrap("install "+p.comment, nft.Unsupported(b.Commit()))
}

// remove takes a part away. The table goes with the last part.
func (t Table) remove(have share) error {
	b := t.batch()
	if len(have.chains) == 0 && !have.others {
		deleteTable(b)
	}
	t.clear(b, have)
	return wrap("remove rules", nft.Unsupported(b.Commit()))
}

// clear appends that what the table has of a part goes, and intruders with it.
func (t Table) clear(b *nft.Batch, have share) {
	if len(have.chains) == 0 {
		return
	}
	if !have.others {
		deleteTable(b)
		return
	}
	deleteChain(b, have.chains...)
}

// deleteChain appends that chains go, with their rules.
func deleteChain(b *nft.Batch, chains ...string) {
	for _, msg := range []uint16{unix.NFT_MSG_DELRULE, unix.NFT_MSG_DELCHAIN} { // a chain that is jumped to can't be deleted
		for _, chain := range chains {
			b.Change(msg, 0, func(m *nlsock.Message) {
				m.Str(unix.NFTA_RULE_TABLE, firewall.TableName) // NFTA_CHAIN_TABLE has the same number
				m.Str(chainAttribute[msg], chain)
			})
		}
	}
}

// chainAttribute is the attribute of a message that names a chain.
var chainAttribute = map[uint16]uint16{unix.NFT_MSG_DELRULE: unix.NFTA_RULE_CHAIN, unix.NFT_MSG_DELCHAIN: unix.NFTA_CHAIN_NAME}

// batch begins a transaction on the table.
func (t Table) batch() *nft.Batch {
	b := nft.NewBatch(t.conn)
	b.Family = family(t.six)
	return b
}

// deleteTable appends that there is no table: one that does not exist can't be
// deleted, and one that is there can be made again.
func deleteTable(b *nft.Batch) {
	newTable(b)
	b.Change(unix.NFT_MSG_DELTABLE, 0, func(m *nlsock.Message) { m.Str(unix.NFTA_TABLE_NAME, firewall.TableName) })
}

func newTable(b *nft.Batch) {
	b.Change(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, func(m *nlsock.Message) { m.Str(unix.NFTA_TABLE_NAME, firewall.TableName) })
}

// A part is one part's rules as the kernel takes them. All of them carry the
// comment.
type part struct {
	six     bool
	comment string
	chains  []encodedChain
}

type encodedChain struct {
	firewall.Chain
	rules [][]byte // see [nft.EncodeRule]
}

func family(six bool) uint8 {
	if six {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
