// Package foreign reads the rules of other programs: of nf_tables by netlink, of the iptables
// that came before it by its own program, where the kernel has its tables.
package foreign

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/firewall/foreign"
)

var families = map[nftables.TableFamily]string{
	nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet",
}

// hooks are those that are looked at.
var hooks = map[nftables.ChainHook]string{*nftables.ChainHookForward: "forward", *nftables.ChainHookPrerouting: "prerouting"}

// Chains lists the chains of nf_tables that are not dcni's, in tables that packets of IP
// go by.
func Chains() ([]foreign.Chain, error) {
	return read(func(c *nftables.Chain) bool { return !isOurs(c.Table.Name) })
}

// Users lists dcni's chain for the rules of users, and those that they jump to from there.
func Users() ([]foreign.Chain, error) {
	return read(func(c *nftables.Chain) bool {
		return c.Table.Name == firewall.TableName && c.Name == firewall.UserChain
	})
}

// Forwarding lists those that packets go by in the forward hook: base chains, and what they
// jump to; and those of firewalld's panic mode. Where only dcni has any, that is found out by
// one request.
func Forwarding() ([]foreign.Chain, error) {
	list, err := read(func(c *nftables.Chain) bool {
		return !isOurs(c.Table.Name) && c.Hooknum != nil && (*c.Hooknum == *nftables.ChainHookForward || strings.HasPrefix(c.Table.Name, "firewalld_"))
	})
	if err != nil {
		return nil, err
	}
	old, err := legacy("filter")
	if errors.Is(err, exec.ErrNotFound) {
		err = nil // `dnet doctor` tells
	}
	return append(list, old...), err
}

// read reads the chains that begin, and those that they jump to.
func read(begins func(*nftables.Chain) bool) ([]foreign.Chain, error) {
	some, err := anyTable()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, nil // the kernel has no nf_tables: nothing in it drops
	}
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	if !some {
		return nil, nil
	}
	c, err := nftables.New(nftables.AsLasting()) // one socket for all requests: to open one takes as long as to ask
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.CloseLasting() }() // nothing is lost
	all, err := c.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	all = slices.DeleteFunc(all, func(ch *nftables.Chain) bool { return families[ch.Table.Family] == "" })
	var list []foreign.Chain
	known := map[*nftables.Chain]bool{}
	queue := slices.DeleteFunc(slices.Clone(all), func(ch *nftables.Chain) bool { return !begins(ch) })
	for ; len(queue) > 0; queue = queue[1:] {
		ch := queue[0]
		if known[ch] {
			continue
		}
		known[ch] = true
		one, err := readChain(c, ch)
		if errors.Is(err, unix.ENOENT) {
			continue // the chain went
		}
		if err != nil {
			return nil, fmt.Errorf("list rules of %s: %w", &one, err)
		}
		list = append(list, one)
		for _, r := range one.Rules {
			for _, to := range all {
				if to.Name == r.To && to.Table.Name == ch.Table.Name && to.Table.Family == ch.Table.Family {
					queue = append(queue, to)
				}
			}
		}
	}
	return list, nil
}

func isOurs(table string) bool {
	return table == firewall.TableName || strings.HasPrefix(table, firewall.TableName+"-")
}

// readChain reads a chain with its rules.
func readChain(c *nftables.Conn, ch *nftables.Chain) (foreign.Chain, error) {
	family := families[ch.Table.Family]
	one := foreign.Chain{Tool: toolOf(family, ch), Family: family, Table: ch.Table.Name, Name: ch.Name}
	if ch.Hooknum != nil {
		one.Hook = hooks[*ch.Hooknum]
	}
	one.Drops = ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop
	rules, err := c.GetRules(ch.Table, ch)
	for _, r := range rules {
		one.Rules = append(one.Rules, decode(c, ch.Table, r)...)
	}
	return one, err
}

// toolOf tells by which program a chain's owner changes it: tables of iptables have
// iptables' names, and hooks in capitals.
func toolOf(family string, ch *nftables.Chain) string {
	tables := []string{"filter", "nat", "mangle", "raw", "security"}
	if !slices.Contains(tables, ch.Table.Name) || ch.Hooknum != nil && ch.Name != strings.ToUpper(ch.Name) {
		return "nft"
	}
	switch family {
	case "ip":
		return "iptables"
	case "ip6":
		return "ip6tables"
	}
	return "nft"
}

// A decoder reads the expressions of one rule.
type decoder struct {
	c      *nftables.Conn
	table  *nftables.Table
	rule   foreign.Rule
	loaded []string       // what is compared next; "": something that is not understood
	mask   uint32         // and masked with
	among  []foreign.Rule // it is about any of these, see [decoder.lookup]
}

// decode returns what is understood of a rule: more than one of a map of verdicts.
func decode(c *nftables.Conn, t *nftables.Table, r *nftables.Rule) []foreign.Rule {
	d := decoder{c: c, table: t, rule: foreign.Rule{Handle: r.Handle}}
	for _, e := range r.Exprs {
		d.expression(e)
	}
	if d.among == nil {
		return []foreign.Rule{d.rule}
	}
	for i, r := range d.among {
		d.among[i] = d.rule.With(r)
	}
	return d.among
}

// load notes what an expression loads to compare it.
func (d *decoder) load(what string) { d.loaded = append(d.loaded, what) }

func (d *decoder) expression(e expr.Any) {
	switch e := e.(type) {
	case *expr.Meta:
		d.load(map[expr.MetaKey]string{expr.MetaKeyIIFNAME: "in", expr.MetaKeyOIFNAME: "out", expr.MetaKeyL4PROTO: "protocol"}[e.Key])
	case *expr.Ct:
		d.load(map[expr.CtKey]string{expr.CtKeySTATE: "state", expr.CtKeySTATUS: "status"}[e.Key])
	case *expr.Payload:
		d.load(payload(e))
	case *expr.Bitwise:
		if len(e.Mask) == 4 {
			d.mask = binary.NativeEndian.Uint32(e.Mask)
		}
	case *expr.Cmp:
		d.compare(e)
	case *expr.Lookup:
		d.lookup(e)
	case *expr.Match:
		d.match(e)
	case *expr.Target:
		d.target(e)
	case *expr.Verdict:
		d.rule.Verdict, d.rule.To = verdict(e)
	case *expr.Reject:
		d.rule.Verdict, d.rule.Rejects = foreign.Drop, true
	case *expr.NAT:
		if e.Type == expr.NATTypeDestNAT {
			d.rule.Verdict = foreign.DNAT
		}
	case *expr.Redir:
		d.rule.Verdict = foreign.DNAT
	case *expr.Counter, *expr.Log, *expr.Immediate:
	default:
		d.rule.Other = true
	}
}

// payload tells what of a packet an expression loads.
func payload(e *expr.Payload) string {
	const portAt, portLen, protocolAt, nextHeaderAt = 2, 2, 9, 6
	switch {
	case e.Base == expr.PayloadBaseTransportHeader && e.Offset == portAt && e.Len == portLen:
		return "port"
	case e.Base == expr.PayloadBaseNetworkHeader && e.Len == 1 && (e.Offset == protocolAt || e.Offset == nextHeaderAt):
		return "protocol"
	}
	return ""
}

// compare reads a comparison with what was loaded.
func (d *decoder) compare(e *expr.Cmp) {
	is, found := e.Op == expr.CmpOpEq, ""
	if len(d.loaded) == 1 {
		found = d.loaded[0]
	}
	switch {
	case found == "in" && is:
		d.rule.In = []string{linkName(e.Data)}
	case found == "out" && is:
		d.rule.Out = []string{linkName(e.Data)}
	case found == "protocol" && is && len(e.Data) > 0:
		if p := protocols[e.Data[0]]; p != "" { // by others, iptables compares each once more
			d.rule.Protocol = p
		} else {
			d.rule.Other = true
		}
	case found == "port" && is && len(e.Data) == 2:
		d.rule.Port = binary.BigEndian.Uint16(e.Data)
	case found == "state" && !is:
		d.state(d.mask)
	case found == "status" && !is && d.mask == dstNAT:
		d.rule.Published = true
	default:
		d.rule.Other = true
	}
	d.mask, d.loaded = 0, nil
}

var protocols = map[byte]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_SCTP: "sctp", unix.IPPROTO_ICMP: "icmp", unix.IPPROTO_ICMPV6: "icmp"}

// dstNAT is IPS_DST_NAT (uapi/linux/netfilter/nf_conntrack_common.h).
const dstNAT = 1 << 5

// state notes which states a rule is about.
func (d *decoder) state(mask uint32) { d.rule.New, d.rule.Established = states(mask) }

// states reads which states a rule is about: of new connections, of answers, of both, for which
// it need not say anything, or of neither, as invalid.
func states(mask uint32) (begins, established bool) {
	begins, established = mask&expr.CtStateBitNEW != 0, mask&expr.CtStateBitESTABLISHED != 0
	if begins == established {
		return !begins, !begins
	}
	return begins, established
}

// linkName reads a link's name as it is compared: without its end it is that of all
// links that begin so.
func linkName(data []byte) string {
	name, _, whole := bytes.Cut(data, []byte{0})
	if whole || len(data) == unix.IFNAMSIZ {
		return string(name)
	}
	return string(name) + "*"
}

func verdict(v *expr.Verdict) (foreign.Verdict, string) {
	switch v.Kind {
	case expr.VerdictAccept:
		return foreign.Accept, ""
	case expr.VerdictDrop:
		return foreign.Drop, ""
	case expr.VerdictReturn:
		return foreign.Return, ""
	case expr.VerdictJump:
		return foreign.Jump, v.Chain
	case expr.VerdictGoto:
		return foreign.Goto, v.Chain
	}
	return foreign.None, ""
}

// match reads a match of iptables'.
func (d *decoder) match(e *expr.Match) {
	switch info := e.Info.(type) {
	case *xt.ConntrackMtinfo3:
		d.conntrack(info.MatchFlags, info.InvertFlags, info.StateMask)
	case *xt.ConntrackMtinfo2:
		d.conntrack(info.MatchFlags, info.InvertFlags, info.StateMask)
	default:
		d.rule.Other = d.rule.Other || e.Name != "comment"
	}
}

func (d *decoder) conntrack(flags, inverted, states uint16) {
	if flags&^uint16(xt.ConntrackStateAlias) != uint16(xt.ConntrackState) || inverted != 0 {
		d.rule.Other = true
		return
	}
	const snat, dnat = 1 << 6, 1 << 7 // XT_CONNTRACK_STATE_SNAT and _DNAT; the others are nf_tables' ct state
	switch {
	case states == dnat:
		d.rule.Published = true
	case states&(snat|dnat) != 0:
		d.rule.Other = true
	default:
		d.state(uint32(states))
	}
}

// target reads a target of iptables'.
func (d *decoder) target(e *expr.Target) {
	switch e.Name {
	case "REJECT":
		d.rule.Verdict, d.rule.Rejects = foreign.Drop, true
	case "DNAT", "REDIRECT":
		d.rule.Verdict = foreign.DNAT
	}
}
