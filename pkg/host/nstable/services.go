package nstable

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/nft"
	"dcni/pkg/host/nlsock"
	"dcni/pkg/service"
)

// This file is about the chains of services: one for each, with two rules, see
// [service.Balanced]. That the kernel has a turn for each chain is why services don't share
// one: a client that asks two services alternately would reach one task of each.

// rulesOfService is how many rules a chain has.
const rulesOfService = 2

// A found is what is there of a service's chain.
type found struct {
	rules   int
	same    bool // all rules have one comment, which is
	comment string
}

// is reports whether a chain is as wanted.
func (f *found) is(want service.Balanced) bool {
	return f != nil && f.same && f.rules == rulesOfService && f.comment == want.Comment()
}

// chainsFound returns the chains of services whose names begin so, and whether the table has
// rules of others.
func (t Table) chainsFound(prefix string) (chains map[string]*found, others bool, err error) {
	payloads, err := t.rules()
	if err != nil {
		return nil, false, err
	}
	chains = map[string]*found{}
	for _, p := range payloads {
		chain, comment := nft.RuleChain(p), nft.RuleComment(p)
		if !strings.HasPrefix(chain, prefix) {
			others = others || partOf(chain) != ""
			continue
		}
		f := chains[chain]
		if f == nil {
			f = &found{same: true, comment: comment}
			chains[chain] = f
		}
		f.rules++
		f.same = f.same && f.comment == comment
	}
	return chains, others, nil
}

// rules lists the rules of the table; none where there is no table.
func (t Table) rules() ([][]byte, error) {
	var m nlsock.Message
	at := m.Begin(nft.MessageType(unix.NFT_MSG_GETRULE), unix.NLM_F_DUMP, t.conn.Next())
	m.NFHeader(family(t.six), 0)
	m.Str(unix.NFTA_RULE_TABLE, firewall.TableName)
	m.End(at)
	payloads, err := t.conn.Dump(m.B)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", nft.UnsupportedSubsystem(err))
	}
	return payloads, nil
}

// InstallServices makes the chains of services so whose names begin with a prefix, and takes
// away others with it, in one transaction. Chains that are as wanted stay, with their turns.
// It reports whether it changed anything.
func (t Table) InstallServices(prefix string, want []service.Balanced) (changed bool, err error) {
	have, others, err := t.chainsFound(prefix)
	if err != nil {
		return false, err
	}
	b := t.batch()
	if len(want) == 0 && !others && len(have) > 0 {
		deleteTable(b)
		return true, wrap("remove services", nft.Unsupported(b.Commit()))
	}
	newTable(b)
	for i, w := range want {
		if f := have[w.Chain]; !f.is(w) {
			changed = true
			if err := t.chain(b, uint32(i+1), w); err != nil {
				return false, err
			}
		}
		delete(have, w.Chain)
	}
	for chain := range have {
		changed = true
		deleteChain(b, chain)
	}
	if !changed {
		return false, nil
	}
	return true, wrap("install services", nft.Unsupported(b.Commit()))
}

// chain appends a service's chain, in place of what it has.
func (t Table) chain(b *nft.Batch, id uint32, w service.Balanced) error {
	b.Chain(firewall.TableName, firewall.Chain{
		Name: w.Chain, Hook: &firewall.Hook{Type: "nat", Hook: "output", Priority: priorityDestNAT},
	})
	if len(w.Tasks) > 1 {
		b.Turns(firewall.TableName, id, w.Tasks)
	}
	for _, rule := range t.rulesOf(id, w) {
		list, err := nft.EncodeRule(family(t.six), rule)
		if err != nil {
			return err
		}
		b.Encoded(firewall.TableName, w.Chain, list, w.Comment())
	}
	return nil
}

// rulesOf returns the rules that [service.Balanced.Lines] says.
func (t Table) rulesOf(id uint32, w service.Balanced) [][]expr.Any {
	field := firewall.FieldDst4
	if t.six {
		field = firewall.FieldDst6
	}
	first, second := nft.Compiler{Family: family(t.six)}, nft.Compiler{Family: family(t.six)}
	first.AddrIs(field, w.VIP)
	second.AddrIs(field, w.VIP)
	if len(w.Tasks) == 0 {
		first.IsTCP()
	} else {
		first.NoSYN()
	}
	first.Reset()
	switch len(w.Tasks) {
	case 0:
		second.IsNew()
		second.PortUnreachable()
	case 1:
		second.ToAddress(w.Tasks[0])
	default:
		second.ToTurn(id, len(w.Tasks))
	}
	return [][]expr.Any{first.Out, second.Out}
}

// CheckServices returns nil, or how the chains differ whose names begin with a prefix.
func (t Table) CheckServices(prefix string, want []service.Balanced) error {
	have, _, err := t.chainsFound(prefix)
	if err != nil {
		return err
	}
	var errs []error
	for _, w := range want {
		if f := have[w.Chain]; !f.is(w) {
			errs = append(errs, fmt.Errorf("chain %s of the sandbox, which leads %s to %d tasks, is missing or differs", w.Chain, w.VIP, len(w.Tasks)))
		}
		delete(have, w.Chain)
	}
	for chain := range have {
		errs = append(errs, fmt.Errorf("chain %s of the sandbox is of no service", chain))
	}
	return errors.Join(errs...)
}
