package host

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/agent"
	"dcni/pkg/host/dnssock"
	"dcni/pkg/host/nft"
	"dcni/pkg/host/nlsock"
	"dcni/pkg/names"
)

// A mapping is how packets get from port 53 to the sockets of a sandbox's name
// server, in one family. It is carried out by a table in the sandbox, whose rules
// all carry it as their comment: what is there is told by that.
//
// Without intercept, what is sent to 127.0.0.11 port 53 gets another port on the
// way, and answers get it back, whoever else listens on port 53: two rewritings
// that remember nothing. With it, connection tracking has to remember which
// server each answer must seem to come from.
type mapping struct {
	six       bool
	port      uint16 // of the sockets
	intercept bool
	local     []netip.Addr // sorted: loopback addresses that are intercepted, too
}

// resolverMapping returns what a resolver wants of a family, once its ports are
// known. The zero mapping is nothing.
func resolverMapping(r *names.Resolver, six bool) mapping {
	m := mapping{six: six, port: r.Port, intercept: r.Intercept}
	if six {
		m.port = r.Port6
	}
	if m.port == 0 || six && !m.intercept {
		return mapping{}
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

// and returns the mapping that serves both, as far as they lead to one port.
func (m mapping) and(other mapping) mapping {
	if other.port != m.port {
		return m
	}
	m.intercept = m.intercept || other.intercept
	m.local = slices.Concat(m.local, other.local)
	slices.SortFunc(m.local, netip.Addr.Compare)
	m.local = slices.Compact(m.local)
	return m
}

func (m mapping) family() uint8 {
	if m.six {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

// address is where the sockets are.
func (m mapping) address() netip.Addr { return dnssock.Address(m.six) }

// String returns the mapping as comments have it. It begins with a version: other
// rules for the same mapping need another.
func (m mapping) String() string {
	if m.port == 0 {
		return ""
	}
	words := []string{mappingVersion, "port", strconv.Itoa(int(m.port))}
	if m.intercept {
		words = append(words, "intercept")
	}
	for _, a := range m.local {
		words = append(words, a.String())
	}
	return strings.Join(words, " ")
}

const mappingVersion = "dnetd-1"

// parseMapping reads a comment. The zero mapping is one that is not ours.
func parseMapping(comment string, six bool) mapping {
	words := strings.Fields(comment)
	if len(words) < 3 || words[0] != mappingVersion || words[1] != "port" {
		return mapping{}
	}
	port, err := strconv.ParseUint(words[2], 10, 16)
	if err != nil {
		return mapping{}
	}
	m := mapping{six: six, port: uint16(port)}
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

// A nsChain is one chain of a sandbox's table.
type nsChain struct {
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

// chains are the rules of a mapping.
func (m mapping) chains() []nsChain {
	if m.intercept {
		return []nsChain{m.interception()}
	}
	return []nsChain{m.rewriting()}
}

// rewriting is stateless, both ways.
func (m mapping) rewriting() nsChain {
	c := nsChain{Chain: firewall.Chain{
		Name: "nameserver", Hook: &firewall.Hook{Type: "filter", Hook: "output", Priority: priorityRaw},
	}}
	for _, protocol := range queryProtocols {
		c.rules = append(c.rules,
			m.rewrite(protocol, firewall.FieldDst4, destinationPort, names.DNSPort, m.port),
			m.rewrite(protocol, firewall.FieldSrc4, sourcePort, m.port, names.DNSPort))
	}
	return c
}

// rewrite has packets of the name server's address, and of a port, carry another
// port.
func (m mapping) rewrite(protocol byte, address firewall.Field, at uint32, from, to uint16) []expr.Any {
	c := nft.Compiler{Family: m.family()}
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

// interception leads every query to the sockets, but for dnetd's own and those to
// a server of the container's own.
func (m mapping) interception() nsChain {
	c := nsChain{Chain: firewall.Chain{
		Name: "intercept", Hook: &firewall.Hook{Type: "nat", Hook: "output", Priority: priorityDestNAT},
	}}
	own := nft.Compiler{Family: m.family()}
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
	inside := nft.Compiler{Family: m.family()}
	inside.Match(firewall.Local)
	inside.Verdict(firewall.Return)
	c.rules = append(c.rules, inside.Out)
	c.rules = append(c.rules, m.redirect(netip.Addr{})...)
	return c
}

// redirect leads queries to an address, or with the zero one to any, to the
// sockets.
func (m mapping) redirect(to netip.Addr) [][]expr.Any {
	field := firewall.FieldDst4
	if m.six {
		field = firewall.FieldDst6
	}
	var rules [][]expr.Any
	for _, protocol := range queryProtocols {
		c := nft.Compiler{Family: m.family()}
		if to.IsValid() {
			c.AddrIs(field, to)
		}
		c.PortIs(protocol, destinationPort, names.DNSPort)
		address := m.address().AsSlice()
		port := uint32(nft.Reg0 + len(address)/4)
		c.Add(&expr.Immediate{Register: nft.Reg0, Data: address},
			&expr.Immediate{Register: port, Data: nft.Big16(m.port)},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(m.family()),
				RegAddrMin: nft.Reg0, RegProtoMin: port, Specified: true})
		rules = append(rules, c.Out)
	}
	return rules
}

// ruleCount is how many rules there are.
func (m mapping) ruleCount() int {
	n := 0
	for _, c := range m.chains() {
		n += len(c.rules)
	}
	return n
}

// errMapping says how the table differs.
func (m mapping) differs(have mapping) error {
	table := "ip"
	if m.six {
		table = "ip6"
	}
	is := "is missing or incomplete"
	if have.port != 0 {
		is = "is for " + strconv.Quote(have.String())
	}
	return fmt.Errorf("table %s %s in the sandbox, which leads port %d to dnetd, must be for %q: it %s",
		table, firewall.TableName, names.DNSPort, m, is)
}
