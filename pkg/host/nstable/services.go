package nstable

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/nft"
	"dcni/pkg/host/nlsock"
	"dcni/pkg/service"
)

// This file is about services: a chain for each, with its turns, and one chain at the hook that leads to them, see
// [service.Layout]. That the kernel has a turn for each rule is why services don't share one: a client that asks two
// services alternately would reach one task of each. The turns are a map of the rule's own: the kernel looks through
// all elements of a map that has a name for each rule that uses it, and through all those rules for each element.

// rulesAtHook is how many rules the chain at the hook has.
const rulesAtHook = 2

// A led is what a table has of a service.
type led struct {
	vip     netip.Addr
	comment string // of the rules of its chain
}

// ledOf returns what tables have of services, by their chains.
func ledOf(list []service.Balanced) map[string]led {
	all := make(map[string]led, len(list))
	for _, s := range list {
		all[s.Chain] = led{s.VIP, s.Comment()}
	}
	return all
}

// served is what a table has of a network's services.
type served struct {
	led    map[string]led // by chain
	well   bool           // all is as it is for some services, or there is nothing
	chains []string       // with rules
	others bool           // other chains have rules
}

// services returns what the table has of a network's services.
func (t Table) services(l service.Layout) (s served, err error) {
	payloads, err := t.rules()
	if err != nil {
		return s, err
	}
	comments := map[string][]string{} // of the rules of each chain
	for _, p := range payloads {
		chain := nft.RuleChain(p)
		if chain == l.Chain || strings.HasPrefix(chain, l.Chain+"-") {
			comments[chain] = append(comments[chain], nft.RuleComment(p))
			continue
		}
		s.others = s.others || partOf(chain) != ""
	}
	s.chains = slices.Sorted(maps.Keys(comments))
	if len(s.chains) == 0 {
		s.well = true
		return s, nil
	}
	vips, err := nft.List(t.conn, family(t.six), firewall.TableName, l.VIPs.Name)
	if err != nil {
		return s, err
	}
	leads, err := nft.List(t.conn, family(t.six), firewall.TableName, l.Leads.Name)
	if err != nil {
		return s, err
	}
	s.compare(l, comments, vips, leads)
	return s, nil
}

// compare notes what the table has, and whether that is well.
func (s *served) compare(l service.Layout, comments map[string][]string, vips, leads []nft.Listed) {
	s.led = map[string]led{}
	s.well = sameComments(comments[l.Chain], service.Comment, rulesAtHook)
	delete(comments, l.Chain)
	listed := map[netip.Addr]bool{}
	for _, e := range vips {
		a, _ := netip.AddrFromSlice(e.Key)
		listed[a] = true
	}
	for _, e := range leads {
		a, _ := netip.AddrFromSlice(e.Key)
		s.led[e.Chain] = led{a, ""}
		s.well = s.well && listed[a]
	}
	for chain, of := range comments {
		lead, is := s.led[chain]
		s.led[chain] = led{lead.vip, of[0]}
		s.well = s.well && is && sameComments(of, of[0], rulesOf(of[0]))
	}
	s.well = s.well && len(comments) == len(leads) && len(vips) == len(leads)
}

// sameComments reports whether rules are so many, with such a comment each.
func sameComments(rules []string, comment string, n int) bool {
	return len(rules) == n && !slices.ContainsFunc(rules, func(c string) bool { return c != comment })
}

// rulesOf is how many rules the chain of a service has that has such a comment.
func rulesOf(comment string) int {
	if comment == (service.Balanced{}).Comment() {
		return 2 // it refuses
	}
	return 1
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

// InstallServices makes what the table has of a network's services so, in one transaction. What is as
// wanted stays, with its turns, unless another program has changed something. It reports whether it changed anything.
func (t Table) InstallServices(network string, want []service.Balanced) (changed bool, err error) {
	l := service.LayoutOf(network, t.six)
	have, err := t.services(l)
	if err != nil || have.well && maps.Equal(have.led, ledOf(want)) {
		return false, err
	}
	b := t.batch()
	switch {
	case have.well && len(have.led)*len(want) > 0:
		err = t.change(b, l, have.led, want)
	case len(have.chains) == 0: // nothing is there
	case have.others:
		t.clearServices(b, l, have.chains, len(want) == 0)
	default:
		deleteTable(b)
	}
	if len(want) > 0 && !(have.well && len(have.led) > 0) {
		err = t.begin(b, l, want)
	}
	if err != nil {
		return false, err
	}
	return true, wrap("install services", nft.Unsupported(b.Commit()))
}

// ChangeServices changes services of a network of which it is known what the table has; it has others, or is to have
// some. Nothing is listed: it fails, and changes nothing, where the table is gone.
func (t Table) ChangeServices(network string, have, want []service.Balanced) error {
	b := t.batch()
	if err := t.change(b, service.LayoutOf(network, t.six), ledOf(have), want); err != nil {
		return err
	}
	return wrap("change services", b.Commit())
}

// clearServices appends that nothing is left of services, in chains that were seen, and of the sets
// as well where they are to go.
func (t Table) clearServices(b *nft.Batch, l service.Layout, chains []string, sets bool) {
	t.sets(b, l)
	all := []firewall.Set{l.VIPs, l.Leads}
	for _, s := range all {
		b.Change(unix.NFT_MSG_DELSETELEM, 0, func(m *nlsock.Message) {
			m.Str(unix.NFTA_SET_ELEM_LIST_TABLE, firewall.TableName)
			m.Str(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
		})
	}
	deleteChain(b, chains...)
	for _, s := range all {
		if sets {
			b.Change(unix.NFT_MSG_DELSET, 0, func(m *nlsock.Message) {
				m.Str(unix.NFTA_SET_TABLE, firewall.TableName)
				m.Str(unix.NFTA_SET_NAME, s.Name)
			})
		}
	}
}

// sets appends a network's sets. Those that are there stay.
func (t Table) sets(b *nft.Batch, l service.Layout) {
	newTable(b)
	b.Set(firewall.TableName, l.VIPs, idVIPs)
	b.Set(firewall.TableName, l.Leads, idLeads)
}

// IDs of sets in a batch: those of turns come behind.
const idVIPs, idLeads, idTurns = 1, 2, 3

// begin appends services where there are none.
func (t Table) begin(b *nft.Batch, l service.Layout, want []service.Balanced) error {
	t.sets(b, l)
	if err := t.atHook(b, l); err != nil {
		return err
	}
	return t.change(b, l, nil, want)
}

// change appends what differs between what is there and what is wanted.
func (t Table) change(b *nft.Batch, l service.Layout, have map[string]led, want []service.Balanced) error {
	less, more := map[string]led{}, map[string]led{}
	maps.Copy(less, have)
	for i, w := range want {
		h, is := have[w.Chain]
		to := led{w.VIP, w.Comment()}
		if !is || h.comment != to.comment {
			if err := t.chain(b, uint32(idTurns+i), w); err != nil {
				return err
			}
		}
		if h.vip != to.vip {
			more[w.Chain] = to
		} else {
			delete(less, w.Chain)
		}
	}
	b.DeleteElements(firewall.TableName, elements(l, less))
	b.AddElements(firewall.TableName, elements(l, more))
	for _, w := range want {
		delete(less, w.Chain) // it has another address only
	}
	deleteChain(b, slices.Sorted(maps.Keys(less))...)
	return nil
}

// elements returns the elements of services, those of each set together.
func elements(l service.Layout, all map[string]led) (list []firewall.Element) {
	for _, chain := range slices.Sorted(maps.Keys(all)) {
		list = append(list, firewall.Element{Set: l.VIPs.Name, Key: []fmt.Stringer{all[chain].vip}})
	}
	for _, chain := range slices.Sorted(maps.Keys(all)) {
		list = append(list, firewall.Element{Set: l.Leads.Name, Key: []fmt.Stringer{all[chain].vip}, Value: []fmt.Stringer{firewall.Jump(chain)}})
	}
	return list
}

// atHook appends the chain at the hook, see [service.Layout.Lines].
func (t Table) atHook(b *nft.Batch, l service.Layout) error {
	b.Chain(firewall.TableName, firewall.Chain{Name: l.Chain, Hook: &firewall.Hook{Type: "nat", Hook: "output", Priority: priorityDestNAT}})
	to := []firewall.Field{firewall.FieldDst4}
	if t.six {
		to = []firewall.Field{firewall.FieldDst6}
	}
	first, second := nft.Compiler{Family: family(t.six)}, nft.Compiler{Family: family(t.six)}
	first.NoSYN()
	first.Match(firewall.InSet{Fields: to, Set: l.VIPs.Name})
	first.Reset()
	second.Match(firewall.New)
	second.Verdict(firewall.VMap{Fields: to, Map: l.Leads.Name})
	return t.encoded(b, l.Chain, service.Comment, first.Out, second.Out)
}

// chain appends a service's chain, in place of what it has: the rules that [service.Balanced.Lines] says.
func (t Table) chain(b *nft.Batch, id uint32, w service.Balanced) error {
	b.Chain(firewall.TableName, firewall.Chain{Name: w.Chain})
	first, second := nft.Compiler{Family: family(t.six)}, nft.Compiler{Family: family(t.six)}
	switch len(w.Tasks) {
	case 0:
		first.IsTCP()
		first.Reset()
		second.PortUnreachable()
		return t.encoded(b, w.Chain, w.Comment(), first.Out, second.Out)
	case 1:
		first.ToAddress(w.Tasks[0])
	default:
		b.Turns(firewall.TableName, id, w.Tasks)
		first.ToTurn(id, len(w.Tasks))
	}
	return t.encoded(b, w.Chain, w.Comment(), first.Out)
}

// encoded appends rules with a comment.
func (t Table) encoded(b *nft.Batch, chain, comment string, rules ...[]expr.Any) error {
	for _, rule := range rules {
		list, err := nft.EncodeRule(family(t.six), rule)
		if err != nil {
			return err
		}
		b.Encoded(firewall.TableName, chain, list, comment)
	}
	return nil
}

// CheckServices returns nil, or how the table differs from what a network's services are to be.
func (t Table) CheckServices(network string, want []service.Balanced) error {
	l := service.LayoutOf(network, t.six)
	have, err := t.services(l)
	if err != nil {
		return err
	}
	var errs []error
	for _, w := range want {
		if have.led[w.Chain] != (led{w.VIP, w.Comment()}) {
			errs = append(errs, fmt.Errorf("chain %s of the sandbox, which leads %s to %d tasks, is missing or differs", w.Chain, w.VIP, len(w.Tasks)))
		}
		delete(have.led, w.Chain)
	}
	for chain := range have.led {
		errs = append(errs, fmt.Errorf("chain %s of the sandbox is of no service", chain))
	}
	if !have.well && len(errs) == 0 {
		errs = append(errs, fmt.Errorf("chain %s of the sandbox, or what it looks up, is not as it is to be", l.Chain))
	}
	return errors.Join(errs...)
}
