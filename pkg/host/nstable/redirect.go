package nstable

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/agent"
	"dcni/pkg/host/dnssock"
	"dcni/pkg/host/nft"
	"dcni/pkg/host/nlsock"
	"dcni/pkg/names"
)

// A Redirect sends packets for port 53 to the sockets of a sandbox's name server,
// in one family. It is a part of the sandbox's table. All its rules carry it as
// their comment, which is how it is read back.
//
// Without intercept, what is sent to 127.0.0.11 port 53 gets another port on the
// way, and answers get it back, also where another program listens on port 53: two
// rewritings without any state. With intercept, connection tracking has to remember
// which server each answer must seem to come from.
type Redirect struct {
	Port      uint16 // of the sockets
	six       bool
	intercept bool
	local     []netip.Addr // sorted: loopback addresses that are intercepted, too
}

// RedirectFor returns what a resolver wants of a family, once its ports are known.
// The zero Redirect is nothing.
func RedirectFor(r *names.Resolver, six bool) Redirect {
	m := Redirect{Port: r.Port, six: six, intercept: r.Intercept}
	if six {
		m.Port = r.Port6
	}
	if m.Port == 0 || six && !m.intercept {
		return Redirect{}
	}
	for _, a := range r.Local {
		if m.intercept && a.Is6() == six {
			m.local = append(m.local, a)
		}
	}
	slices.SortFunc(m.local, netip.Addr.Compare)
	m.local = slices.Compact(m.local)
	return m
}

// and returns the redirect that serves both, as far as they lead to one port.
func (m Redirect) and(other Redirect) Redirect {
	if other.Port != m.Port {
		return m
	}
	m.intercept = m.intercept || other.intercept
	m.local = slices.Concat(m.local, other.local)
	slices.SortFunc(m.local, netip.Addr.Compare)
	m.local = slices.Compact(m.local)
	return m
}

// address is where the sockets are.
func (m Redirect) address() netip.Addr { return dnssock.Address(m.six) }

// String returns the redirect as comments have it. It begins with a version: other
// rules for the same redirect need another.
func (m Redirect) String() string {
	if m.Port == 0 {
		return ""
	}
	words := []string{redirectVersion, "port", strconv.Itoa(int(m.Port))}
	if m.intercept {
		words = append(words, "intercept")
	}
	for _, a := range m.local {
		words = append(words, a.String())
	}
	return strings.Join(words, " ")
}

const redirectVersion = "dnetd-1"

// parseRedirect reads a comment. The zero Redirect is one that is not ours.
func parseRedirect(comment string, six bool) Redirect {
	words := strings.Fields(comment)
	if len(words) < 3 || words[0] != redirectVersion || words[1] != "port" {
		return Redirect{}
	}
	port, err := strconv.ParseUint(words[2], 10, 16)
	if err != nil {
		return Redirect{}
	}
	m := Redirect{six: six, Port: uint16(port)}
	for i, word := range words[3:] {
		if i == 0 && word == "intercept" {
			m.intercept = true
			continue
		}
		if a, err := netip.ParseAddr(word); err == nil {
			m.local = append(m.local, a)
		}
	}
	return m
}

// A chain is one chain of a redirect.
type chain struct {
	firewall.Chain
	rules [][]expr.Any
}

// Priorities of hooks (linux/netfilter_ipv4.h).
const (
	priorityRaw     = -300 // before connection tracking
	priorityDestNAT = -100
)

// Where ports and checksums are in the headers of UDP and TCP.
const (
	sourcePort      = 0
	destinationPort = 2
)

var checksums = map[byte]uint32{unix.IPPROTO_UDP: 6, unix.IPPROTO_TCP: 16}

var queryProtocols = []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP}

// The chains of a redirect, by how it works.
const (
	chainRewrite   = "nameserver"
	chainIntercept = "intercept"
)

// chains are the rules of a redirect.
func (m Redirect) chains() []chain {
	if m.intercept {
		return []chain{m.interception()}
	}
	return []chain{m.rewriting()}
}

// rewriting changes ports without any state, both ways.
func (m Redirect) rewriting() chain {
	c := chain{Chain: firewall.Chain{
		Name: chainRewrite, Hook: &firewall.Hook{Type: "filter", Hook: "output", Priority: priorityRaw},
	}}
	for _, protocol := range queryProtocols {
		c.rules = append(c.rules,
			m.rewrite(protocol, firewall.FieldDst4, destinationPort, names.DNSPort, m.Port),
			m.rewrite(protocol, firewall.FieldSrc4, sourcePort, m.Port, names.DNSPort))
	}
	return c
}

// rewrite has packets of the name server's address, and of a port, carry another
// port.
func (m Redirect) rewrite(protocol byte, address firewall.Field, at uint32, from, to uint16) []expr.Any {
	c := nft.Compiler{Family: family(m.six)}
	c.AddrIs(address, m.address())
	c.PortIs(protocol, at, from)
	c.Add(&expr.Notrack{},
		&expr.Immediate{Register: nft.Reg0, Data: nft.Big16(to)},
		&expr.Payload{
			OperationType: expr.PayloadWrite, SourceRegister: nft.Reg0, Base: expr.PayloadBaseTransportHeader, Offset: at, Len: 2,
			CsumType: expr.CsumTypeInet, CsumOffset: checksums[protocol],
		})
	return c.Out
}

// interception sends every query to the sockets, but for dnetd's own and those to a
// server of the container's own.
func (m Redirect) interception() chain {
	c := chain{Chain: firewall.Chain{
		Name: chainIntercept, Hook: &firewall.Hook{Type: "nat", Hook: "output", Priority: priorityDestNAT},
	}}
	own := nft.Compiler{Family: family(m.six)}
	own.Add(&expr.Meta{Key: expr.MetaKeyMARK, Register: nft.Reg0})
	own.Compare(false, nlsock.Native32(agent.Mark))
	own.Verdict(firewall.Return)
	c.rules = append(c.rules, own.Out)
	targets := m.local
	if !m.six {
		targets = append([]netip.Addr{m.address()}, targets...)
	}
	for _, a := range targets {
		c.rules = append(c.rules, m.redirect(a)...)
	}
	inside := nft.Compiler{Family: family(m.six)}
	inside.Match(firewall.Local)
	inside.Verdict(firewall.Return)
	c.rules = append(c.rules, inside.Out)
	c.rules = append(c.rules, m.redirect(netip.Addr{})...)
	return c
}

// redirect sends queries for an address, or with the zero one for any, to the
// sockets.
func (m Redirect) redirect(to netip.Addr) [][]expr.Any {
	field := firewall.FieldDst4
	if m.six {
		field = firewall.FieldDst6
	}
	var rules [][]expr.Any
	for _, protocol := range queryProtocols {
		c := nft.Compiler{Family: family(m.six)}
		if to.IsValid() {
			c.AddrIs(field, to)
		}
		c.PortIs(protocol, destinationPort, names.DNSPort)
		address := m.address().AsSlice()
		port := uint32(nft.Reg0 + len(address)/4)
		c.Add(&expr.Immediate{Register: nft.Reg0, Data: address},
			&expr.Immediate{Register: port, Data: nft.Big16(m.Port)},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(family(m.six)),
				RegAddrMin: nft.Reg0, RegProtoMin: port, Specified: true})
		rules = append(rules, c.Out)
	}
	return rules
}

// ruleCount is how many rules there are.
func (m Redirect) ruleCount() int {
	n := 0
	for _, c := range m.chains() {
		n += len(c.rules)
	}
	return n
}

// differs says how the table differs.
func (m Redirect) differs(have Redirect) error {
	table := "ip"
	if m.six {
		table = "ip6"
	}
	is := "is missing or incomplete"
	if have.Port != 0 {
		is = "is for " + strconv.Quote(have.String())
	}
	return fmt.Errorf("table %s %s in the sandbox, which leads port %d to dnetd, must be for %q: it %s",
		table, firewall.TableName, names.DNSPort, m, is)
}

// lastEncoded is what was encoded last. In nearly all sandboxes the name server has
// the same port, and so the same rules: dnetd encodes them once.
var lastEncoded atomic.Pointer[part]

// encode returns the redirect as a part of the table.
func (m Redirect) encode() (*part, error) {
	p := &part{six: m.six, comment: m.String()}
	if last := lastEncoded.Load(); last != nil && last.six == p.six && last.comment == p.comment {
		return last, nil
	}
	for _, c := range m.chains() {
		encoded := encodedChain{Chain: c.Chain}
		for _, rule := range c.rules {
			list, err := nft.EncodeRule(family(m.six), rule)
			if err != nil {
				return nil, err
			}
			encoded.rules = append(encoded.rules, list)
		}
		p.chains = append(p.chains, encoded)
	}
	lastEncoded.Store(p)
	return p, nil
}

// Redirect returns the redirect that is there. It is the zero one where the table
// lacks rules of it, has others among them, or has an intruder.
func (t Table) Redirect() (Redirect, error) {
	m, _, err := t.redirect()
	return m, err
}

// redirect returns the redirect that is there, and all that the table has of its
// part.
func (t Table) redirect() (Redirect, share, error) {
	have, err := t.read(partDNS)
	if err != nil || !have.same || have.intruded() {
		return Redirect{}, have, err
	}
	m := parseRedirect(have.note, t.six)
	if m.Port == 0 || have.rules != m.ruleCount() {
		return Redirect{}, have, nil
	}
	return m, have, nil
}

// Install installs a redirect, and keeps what others of the sandbox want that leads
// to the same port. Where it is there, nothing changes.
func (t Table) Install(want Redirect) error {
	have, content, err := t.redirect()
	if err != nil {
		return err
	}
	return t.install(want.and(have), have, content)
}

// install makes a redirect so. Its policy route comes after the rules, for without
// them it leads nowhere, and goes before them.
func (t Table) install(want, have Redirect, content share) error {
	if want.String() != have.String() {
		p, err := want.encode()
		if err != nil {
			return err
		}
		if err := t.replace(content, p); err != nil {
			return err
		}
	}
	if want.intercept {
		return t.Route.install()
	}
	return nil
}

// Check returns nil, or how the table differs from a redirect.
func (t Table) Check(want Redirect) error {
	have, err := t.Redirect()
	if err == nil && want.and(have).String() != have.String() {
		err = want.differs(have)
	}
	if err == nil && want.intercept {
		err = t.Route.check()
	}
	return err
}

// Release leaves what the other resolvers of a sandbox want when one goes: nothing
// for none. The table may be gone already, or only half of it be there.
func (t Table) Release(gone *names.Resolver, others []*names.Resolver) error {
	have, content, err := t.redirect()
	if err != nil {
		return err
	}
	want := t.wanted(others, have)
	if !want.intercept && (have.intercept || gone.Intercept) {
		if err := t.Route.remove(); err != nil {
			return err
		}
	}
	switch {
	case len(content.chains) == 0:
		return nil
	case want.Port == 0:
		return t.remove(content) // also where it is not as it was installed
	case want.String() == have.String():
		return nil
	}
	p, err := want.encode()
	if err != nil {
		return err
	}
	return t.replace(content, p)
}

// wanted returns what resolvers want of the family together.
func (t Table) wanted(list []*names.Resolver, have Redirect) (want Redirect) {
	for _, r := range list {
		at := *r
		if have.Port != 0 { // it counts, whatever the record says
			at.Port, at.Port6 = have.Port, have.Port
		}
		if m := RedirectFor(&at, t.six); m.Port != 0 {
			want = m.and(want)
		}
	}
	return want
}
