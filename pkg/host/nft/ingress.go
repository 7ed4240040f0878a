package nft

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/nlsock"
)

// This file is about ports of services. Each has a chain of its own, with two rules, and an element
// of a map that leads to it: packets to other ports see one look-up more. What changes with the tasks is
// the chain alone.

// rulesOfTurn is how many rules a chain has.
const rulesOfTurn = 2

// ingressMaps are the maps of chains.
func ingressMaps() []string { return []string{firewall.MapIngress4, firewall.MapIngress6} }

// ingressChange is what differs between what is wanted and what is there.
type ingressChange struct {
	remake []firewall.Turn      // chains
	add    []element            // of the maps, that are missing
	stale  []element            // of the maps, of other services or another chain
	drop   []string             // chains
	freed  []element            // claims of ports that the services don't have any more
	claims []*firewall.Endpoint // of which something is missing
}

// none reports whether no more differs than claims that are missing.
func (c ingressChange) none() bool {
	return len(c.remake)+len(c.add)+len(c.stale)+len(c.drop)+len(c.freed) == 0
}

// ingressDiffers returns what differs. Without a table all is missing.
func (f *Firewall) ingressDiffers(want *firewall.Ingress) (c ingressChange, err error) {
	maps, err := f.list(ingressMaps()...)
	if err != nil {
		return c, err
	}
	claims, err := f.list(slices.Concat(portSetNames(), firewall.GuardSets())...)
	if err != nil {
		return c, err
	}
	have, err := f.turnChains()
	if err != nil {
		return c, err
	}
	ours := func(e element) bool { return want.IsOfNetwork(e.comment) }
	led, needed := map[elementID]bool{}, map[string]bool{}
	for _, turn := range want.Turns {
		e := encode(turn.Element())[0]
		led[e.id()], needed[turn.Chain()] = true, true
		i := slices.IndexFunc(maps, func(o element) bool { return o.id() == e.id() })
		switch {
		case i < 0:
			c.add = append(c.add, e)
		case maps[i].comment != e.comment || maps[i].verdict != e.verdict:
			c.add, c.stale = append(c.add, e), append(c.stale, maps[i])
		}
		if have[turn.Chain()] != turn.Comment() {
			c.remake = append(c.remake, turn)
		}
	}
	for _, e := range maps {
		if ours(e) && !led[e.id()] {
			c.stale = append(c.stale, e)
		} else {
			needed[e.verdict] = true // another network's as well
		}
	}
	for chain := range have {
		if !needed[chain] {
			c.drop = append(c.drop, chain)
		}
	}
	c.compareClaims(want, claims, ours)
	return c, nil
}

// compareClaims notes which of the claims that are there the services are not to have, and of which
// something is missing. A port may have gone from one of the services to another.
func (c *ingressChange) compareClaims(want *firewall.Ingress, have []element, ours func(element) bool) {
	type claim struct {
		at    elementID
		owner string
	}
	there, claimed := map[elementID]element{}, map[claim]bool{}
	for _, e := range have {
		there[e.id()] = e
	}
	for _, e := range want.Claims {
		missing := false
		for _, el := range encodeAll(slices.Concat(e.Elements(), e.Guards())) {
			claimed[claim{el.id(), el.comment}] = true
			found := there[el.id()]
			missing = missing || found.comment != el.comment || !bytes.Equal(found.data, el.data)
		}
		if missing {
			c.claims = append(c.claims, e)
		}
	}
	for _, e := range have {
		if ours(e) && !claimed[claim{e.id(), e.comment}] {
			c.freed = append(c.freed, e)
		}
	}
}

// turnChains returns the chains that lead to tasks and have rules, with the comment that all of them
// have; "" where they differ, or are not as many.
func (f *Firewall) turnChains() (map[string]string, error) {
	unlock, err := f.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	payloads, err := f.conn.Dump(f.request(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, func(m *nlsock.Message) {
		m.Str(unix.NFTA_RULE_TABLE, firewall.TableName)
	}))
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("list rules: %w", UnsupportedSubsystem(err))
	}
	rules := map[string][]string{}
	for _, p := range payloads {
		if chain := RuleChain(p); strings.HasPrefix(chain, firewall.IngressPrefix) {
			rules[chain] = append(rules[chain], RuleComment(p))
		}
	}
	chains := map[string]string{}
	for chain, comments := range rules {
		if chains[chain] = comments[0]; len(comments) != rulesOfTurn || comments[0] != comments[1] {
			chains[chain] = ""
		}
	}
	return chains, nil
}

// ensureIngress takes the ports of a network's services, each that can be had, and leads them to the
// tasks. What they don't have any more is given back first: another may have it. Ports that can't be had are a
// [firewall.RefusedError]. The caller holds the lock of the firewall.
func (f *Firewall) ensureIngress(want *firewall.Ingress) (changed bool, err error) {
	c, blocked, err := f.leadable(want)
	if err != nil {
		return false, err
	}
	changed, err = f.lead(c)
	if err != nil {
		return changed, err
	}
	refused := &firewall.RefusedError{}
	for _, e := range c.claims {
		did, err := f.publish(e, "", getAll)
		changed = changed || did
		switch {
		case isTaken(err):
			refused.Claims, refused.Errs = append(refused.Claims, e), append(refused.Errs, err)
		case err != nil:
			return changed, err
		}
	}
	if !slices.Equal(refused.Claims, blocked) { // another program came, or has gone, just now
		if c, err = f.ingressDiffers(want.Without(refused.Claims)); err != nil {
			return changed, err
		}
		did, err := f.lead(c)
		if changed = changed || did; err != nil {
			return changed, err
		}
	}
	if len(refused.Claims) > 0 {
		return changed, refused
	}
	return changed, nil
}

// leadable returns what differs, but for what leads to tasks from ports that can't be had, which are
// blocked: they are another program's, and lead there.
func (f *Firewall) leadable(want *firewall.Ingress) (c ingressChange, blocked []*firewall.Endpoint, err error) {
	if c, err = f.ingressDiffers(want); err != nil {
		return c, nil, err
	}
	for _, e := range c.claims {
		why := f.publishable(e)
		by, is := errors.AsType[*firewall.AllocatedError](why)
		if why != nil && (!is || !want.IsOfNetwork(by.By)) { // what another of the services had is given back
			blocked = append(blocked, e)
		}
	}
	if len(blocked) > 0 {
		c, err = f.ingressDiffers(want.Without(blocked))
	}
	return c, blocked, err
}

// lead makes a change, but for claims.
func (f *Firewall) lead(c ingressChange) (changed bool, err error) {
	if c.none() {
		return false, nil
	}
	return true, wrap("lead ports to tasks", f.commit(func(b *Batch) error { return b.ingress(c) }))
}

// ingress appends a change.
func (b *Batch) ingress(c ingressChange) error {
	b.elements(unix.NFT_MSG_DELSETELEM, 0, grouped(slices.Concat(c.stale, c.freed)))
	for i, turn := range c.remake {
		b.Chain(firewall.TableName, firewall.Chain{Name: turn.Chain()})
		id := uint32(turnsID + i)
		if turns := turn.Turns(); len(turns) > 1 {
			b.turns(firewall.TableName, id, targetType(turn.V6), targets(turns))
		}
		for _, rule := range turnRules(id, turn) {
			if err := b.compiled(firewall.TableName, turn.Chain(), rule, turn.Comment()); err != nil {
				return err
			}
		}
	}
	b.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, grouped(c.add))
	for _, chain := range c.drop {
		b.replaceable(firewall.TableName, []string{chain})
	}
	return nil
}

// turnsID begins the IDs of maps of turns: those of the table's sets are below.
const turnsID = 1000

// targetType is the type of where a turn leads: an address and a port.
func targetType(v6 bool) []firewall.Type {
	if v6 {
		return []firewall.Type{firewall.TypeIPv6, firewall.TypeService}
	}
	return []firewall.Type{firewall.TypeIPv4, firewall.TypeService}
}

func targets(turns []netip.AddrPort) [][]byte {
	list := make([][]byte, len(turns))
	for i, to := range turns {
		list[i] = padded(append(to.Addr().AsSlice(), Big16(to.Port())...))
	}
	return list
}

// turnRules returns the rules that [firewall.Turn.Lines] says.
func turnRules(id uint32, t firewall.Turn) [][]expr.Any {
	family := byte(unix.NFPROTO_IPV4)
	if t.V6 {
		family = unix.NFPROTO_IPV6
	}
	first, second := Compiler{Family: family}, Compiler{Family: family}
	turns := t.Turns()
	if len(turns) == 0 {
		first.IsTCP()
	} else {
		first.NoSYN()
	}
	first.Reset()
	if len(turns) > 0 {
		second.Match(firewall.IsProto(t.Protocol))
	}
	switch {
	case len(turns) == 0:
		second.Add(&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH})
	case len(turns) == 1:
		to := turns[0] // a value has 16 bytes at most
		second.Add(&expr.Immediate{Register: Reg0, Data: to.Addr().AsSlice()}, &expr.Immediate{Register: second.targetPort(), Data: Big16(to.Port())})
		second.toTarget()
	default:
		second.turnOf(t, len(turns))
		second.Add(&expr.Lookup{SourceRegister: Reg0, DestRegister: Reg0, IsDestRegSet: true, SetName: turnsMap, SetID: id})
		second.toTarget()
	}
	return [][]expr.Any{first.Out, second.Out}
}

// turnOf loads the number of the turn that a connection has.
func (c *Compiler) turnOf(t firewall.Turn, n int) {
	if !t.Sticky {
		c.Add(&expr.Numgen{Register: Reg0, Modulus: uint32(n), Type: unix.NFT_NG_INCREMENTAL})
		return
	}
	source := firewall.FieldSrc4
	if t.V6 {
		source = firewall.FieldSrc6
	}
	at := payloads[source]
	c.payload(at.offset, at.length, Reg0)
	c.Add(&expr.Hash{SourceRegister: Reg0, DestRegister: Reg0, Length: at.length, Modulus: uint32(n), Seed: firewall.HashSeed, Type: expr.HashTypeJenkins})
}

// targetPort is the register behind that of an address.
func (c *Compiler) targetPort() uint32 {
	if c.Family == unix.NFPROTO_IPV6 {
		return Reg0 + 4
	}
	return Reg0 + 1
}

// toTarget sends a connection to the address and port that were loaded.
func (c *Compiler) toTarget() {
	port := c.targetPort()
	c.Add(&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(c.Family), RegAddrMin: Reg0, RegAddrMax: Reg0,
		RegProtoMin: port, RegProtoMax: port, Specified: true})
}

// checkIngress tells how the host differs. That another program has a port is no difference: then it
// can't be had.
func (f *Firewall) checkIngress(want *firewall.Ingress) error {
	if len(want.Turns)+len(want.Claims) == 0 { // as of most networks: nothing may be there
		maps, err := f.list(ingressMaps()...)
		if err != nil || !slices.ContainsFunc(maps, func(e element) bool { return want.IsOfNetwork(e.comment) }) {
			return err
		}
	}
	c, blocked, err := f.leadable(want)
	if err != nil {
		return err
	}
	var errs []error
	for _, turn := range c.remake {
		errs = append(errs, fmt.Errorf("chain %s, which leads port %d/%s to %d tasks, is missing or differs", turn.Chain(), turn.Port, turn.Protocol, len(turn.Tasks)))
	}
	for _, e := range c.add {
		errs = append(errs, fmt.Errorf("nothing leads to chain %s", e.verdict))
	}
	if len(c.drop)+len(c.freed) > 0 {
		errs = append(errs, fmt.Errorf("services of network %s have ports that they are not to have", want.Network))
	}
	for _, e := range c.claims {
		if !slices.Contains(blocked, e) {
			errs = append(errs, f.CheckEndpoint(e))
		}
	}
	return errors.Join(errs...)
}

// publishable returns why an endpoint's ports can't be had, or nil.
func (f *Firewall) publishable(e *firewall.Endpoint) error {
	list := bindings(e)
	err := f.getBindings(list, getAll)
	if err == nil {
		_, _, err = (&allocator{f: f, endpoint: e}).claims(list)
	}
	return err
}

// removeIngress takes all away that services have.
func (f *Firewall) removeIngress(o *firewall.Ingress) error {
	_, err := f.ensureIngress(&firewall.Ingress{Network: o.Network})
	return err
}
