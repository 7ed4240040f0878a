package host

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/nlsock"
)

// This file turns the constant rules into nf_tables objects, in the form that
// nft itself uses, so that nft lists them as they were said.

// types gives a type's number and length in nft; concatenations pad to four.
var types = map[firewall.Type]struct{ id, length uint32 }{
	firewall.TypeIfName:  {41, unix.IFNAMSIZ},
	firewall.TypeIPv4:    {7, 4},
	firewall.TypeIPv6:    {8, 16},
	firewall.TypeProto:   {12, 1},
	firewall.TypeService: {13, 2},
}

// typeOf returns the number and length of a concatenation: six bits a type.
func typeOf(concat []firewall.Type) (id, length uint32) {
	for _, t := range concat {
		id = id<<6 | types[t].id
		length += uint32(nlsock.Align4(int(types[t].length)))
	}
	return id, length
}

// table appends the table, its sets and chains and, behind a flush of each
// chain, the rules. Sets keep their elements; the users' chain keeps its rules.
func (b *batch) table(t firewall.Table) error {
	b.change(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, func(m *nlsock.Message) {
		m.Str(unix.NFTA_TABLE_NAME, t.Name)
		m.U32(unix.NFTA_TABLE_FLAGS, 0) // not dormant
	})
	for i, s := range t.Sets {
		b.set(t.Name, s, uint32(i+1))
	}
	for _, c := range t.Chains {
		b.chain(t.Name, c)
	}
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			if err := b.rule(t.Name, c.Name, r); err != nil {
				return fmt.Errorf("rule %s: %w", r, err)
			}
		}
	}
	return nil
}

func (b *batch) set(table string, s firewall.Set, id uint32) {
	b.change(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, func(m *nlsock.Message) {
		keyType, keyLen := typeOf(s.Key)
		m.Str(unix.NFTA_SET_TABLE, table)
		m.Str(unix.NFTA_SET_NAME, s.Name)
		m.U32(unix.NFTA_SET_FLAGS, setFlags(s))
		m.U32(unix.NFTA_SET_KEY_TYPE, keyType)
		m.U32(unix.NFTA_SET_KEY_LEN, keyLen)
		if s.Value != nil {
			dataType, dataLen := typeOf(s.Value)
			m.U32(unix.NFTA_SET_DATA_TYPE, dataType)
			m.U32(unix.NFTA_SET_DATA_LEN, dataLen)
		}
		m.U32(unix.NFTA_SET_ID, id)
		if s.Interval && len(s.Key) > 1 {
			describeFields(m, s.Key)
		}
		if order := keyByteOrder(s); order != 0 {
			m.Raw(unix.NFTA_SET_USERDATA, userdata.AppendUint32(nil, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, order))
		}
	})
}

// keyByteOrder is what nft must be told to list a set: without it, ranges don't
// end and the names of links are empty. 0 is nothing, as for concatenations of
// single values.
func keyByteOrder(s firewall.Set) uint32 {
	const host, big = 1, 2 // nft's enum byteorder
	switch {
	case s.Interval:
		return big
	case len(s.Key) == 1 && s.Key[0] == firewall.TypeIfName:
		return host
	}
	return 0
}

// setConcat is NFT_SET_CONCAT, which x/sys lacks.
const setConcat = 0x80

func setFlags(s firewall.Set) (flags uint32) {
	if s.Interval {
		flags |= unix.NFT_SET_INTERVAL
		if len(s.Key) > 1 {
			flags |= setConcat
		}
	}
	if s.Value != nil {
		flags |= unix.NFT_SET_MAP
	}
	return flags
}

// describeFields tells the kernel where one field of a range ends.
func describeFields(m *nlsock.Message, key []firewall.Type) {
	const descConcat, fieldLen = 2, 1 // NFTA_SET_DESC_CONCAT, NFTA_SET_FIELD_LEN
	desc := m.Open(unix.NFTA_SET_DESC)
	fields := m.Open(descConcat)
	for _, t := range key {
		field := m.Open(unix.NFTA_LIST_ELEM)
		m.U32(fieldLen, types[t].length)
		m.Close(field)
	}
	m.Close(fields)
	m.Close(desc)
}

var hookNumbers = map[string]uint32{
	"prerouting":  unix.NF_INET_PRE_ROUTING,
	"forward":     unix.NF_INET_FORWARD,
	"output":      unix.NF_INET_LOCAL_OUT,
	"postrouting": unix.NF_INET_POST_ROUTING,
}

// policyAccept is NF_ACCEPT.
const policyAccept = 1

func (b *batch) chain(table string, c firewall.Chain) {
	b.change(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, func(m *nlsock.Message) {
		m.Str(unix.NFTA_CHAIN_TABLE, table)
		m.Str(unix.NFTA_CHAIN_NAME, c.Name)
		if c.Hook == nil {
			return
		}
		hook := m.Open(unix.NFTA_CHAIN_HOOK)
		m.U32(unix.NFTA_HOOK_HOOKNUM, hookNumbers[c.Hook.Hook])
		m.U32(unix.NFTA_HOOK_PRIORITY, uint32(c.Hook.Priority))
		m.Close(hook)
		m.U32(unix.NFTA_CHAIN_POLICY, policyAccept)
		m.Str(unix.NFTA_CHAIN_TYPE, c.Hook.Type)
	})
	if c.Name == firewall.UserChain {
		return
	}
	b.change(unix.NFT_MSG_DELRULE, 0, func(m *nlsock.Message) {
		m.Str(unix.NFTA_RULE_TABLE, table)
		m.Str(unix.NFTA_RULE_CHAIN, c.Name)
	})
}

func (b *batch) rule(table, chain string, r firewall.Rule) error {
	return b.compiled(table, chain, expressions(r), r.Comment)
}

// compiled appends a rule that is compiled already.
func (b *batch) compiled(table, chain string, rule []expr.Any, comment string) error {
	list, err := encodeRule(b.family, rule)
	if err == nil {
		b.encoded(table, chain, list, comment)
	}
	return err
}

// encodeRule returns a rule's expressions as the kernel takes them, as the
// elements of a list (NFTA_RULE_EXPRESSIONS).
func encodeRule(family byte, rule []expr.Any) ([]byte, error) {
	var list nlsock.Message
	for _, e := range rule {
		part, err := expr.Marshal(family, e)
		if err != nil {
			return nil, err
		}
		list.Raw(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, part)
	}
	return list.B, nil
}

// encoded appends a rule of which the expressions are encoded already.
func (b *batch) encoded(table, chain string, list []byte, comment string) {
	b.change(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, func(m *nlsock.Message) {
		m.Str(unix.NFTA_RULE_TABLE, table)
		m.Str(unix.NFTA_RULE_CHAIN, chain)
		m.Raw(unix.NFTA_RULE_EXPRESSIONS|unix.NLA_F_NESTED, list)
		if comment != "" {
			m.Raw(unix.NFTA_RULE_USERDATA, userdata.AppendString(nil, userdata.TypeComment, comment))
		}
	})
}

// expressions compiles a rule.
func expressions(r firewall.Rule) []expr.Any {
	c := compiler{}
	for _, m := range r.Match {
		c.match(m)
	}
	c.verdict(r.Verdict)
	return c.out
}

// compiler collects a rule's expressions. Addresses are in different places in
// IPv4 and IPv6, so the first use of one compares the family, as nft does.
type compiler struct {
	out    []expr.Any
	family byte // compared already, or 0
}

// reg0 is the first of the 32-bit registers, NFT_REG32_00.
const reg0 = 8

func (c *compiler) add(e ...expr.Any) { c.out = append(c.out, e...) }

func (c *compiler) match(m firewall.Match) {
	switch m := m.(type) {
	case firewall.InSet:
		c.load(m.Fields)
		c.add(&expr.Lookup{SourceRegister: reg0, SetName: m.Set})
	case firewall.IfIs:
		c.load([]firewall.Field{m.Field})
		c.compare(m.Not, ifNameBytes(string(m.Name)))
	case firewall.AddrIn:
		c.addrIn(m)
	case firewall.State:
		c.bit(&expr.Ct{Register: reg0, Key: expr.CtKeySTATE}, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
	case firewall.Status:
		c.bit(&expr.Ct{Register: reg0, Key: expr.CtKeySTATUS}, 1<<5) // IPS_DST_NAT
	case firewall.FibType:
		c.add(&expr.Fib{Register: reg0, ResultADDRTYPE: true, FlagDADDR: true})
		c.compare(false, nlsock.Native32(unix.RTN_LOCAL))
	}
}

// bit holds if one of the bits is set in what load loads.
func (c *compiler) bit(load expr.Any, mask uint32) {
	c.add(load, &expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 4,
		Mask: nlsock.Native32(mask), Xor: nlsock.Native32(0)})
	c.compare(true, nlsock.Native32(0))
}

func (c *compiler) compare(not bool, data []byte) {
	op := expr.CmpOpEq
	if not {
		op = expr.CmpOpNeq
	}
	c.add(&expr.Cmp{Op: op, Register: reg0, Data: data})
}

// addrIn compares an address. A prefix of whole bytes needs no mask: only these
// bytes are loaded.
func (c *compiler) addrIn(m firewall.AddrIn) {
	c.needFamily(m.Field)
	addr, bits := m.Prefix.Addr().AsSlice(), m.Prefix.Bits()
	at := payloads[m.Field]
	if bits%8 == 0 {
		c.payload(at.offset, uint32(bits/8), reg0)
		c.compare(m.Not, addr[:bits/8])
		return
	}
	c.payload(at.offset, at.length, reg0)
	c.add(&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: at.length,
		Mask: prefixMask(bits, len(addr)), Xor: make([]byte, len(addr))})
	c.compare(m.Not, addr)
}

func prefixMask(bits, length int) []byte {
	ones := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	if length == 16 {
		ones = netip.AddrFrom16([16]byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255})
	}
	p, _ := ones.Prefix(bits)
	return p.Addr().AsSlice()
}

// payloads says where in the network header an address is.
var payloads = map[firewall.Field]struct {
	family         byte
	offset, length uint32
}{
	firewall.FieldSrc4: {unix.NFPROTO_IPV4, 12, 4},
	firewall.FieldDst4: {unix.NFPROTO_IPV4, 16, 4},
	firewall.FieldSrc6: {unix.NFPROTO_IPV6, 8, 16},
	firewall.FieldDst6: {unix.NFPROTO_IPV6, 24, 16},
}

func (c *compiler) needFamily(f firewall.Field) {
	family := payloads[f].family
	if family == 0 || family == c.family {
		return
	}
	c.family = family
	c.add(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg0})
	c.compare(false, []byte{family})
}

func (c *compiler) payload(offset, length, reg uint32) {
	c.add(&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length})
}

// load puts fields into registers, one behind the other, as a key.
func (c *compiler) load(fields []firewall.Field) {
	for _, f := range fields {
		c.needFamily(f)
	}
	reg := uint32(reg0)
	for _, f := range fields {
		reg += uint32(nlsock.Align4(c.loadField(f, reg))) / 4
	}
}

func (c *compiler) loadField(f firewall.Field, reg uint32) (length int) {
	switch f {
	case firewall.FieldIIf:
		c.add(&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg})
		return unix.IFNAMSIZ
	case firewall.FieldOIf:
		c.add(&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg})
		return unix.IFNAMSIZ
	case firewall.FieldProto:
		c.add(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg})
		return 1
	case firewall.FieldDstSvc:
		c.add(&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2})
		return 2
	}
	at := payloads[f]
	c.payload(at.offset, at.length, reg)
	return int(at.length)
}

func (c *compiler) verdict(v firewall.Verdict) {
	switch v := v.(type) {
	case firewall.Jump:
		c.add(&expr.Verdict{Kind: expr.VerdictJump, Chain: string(v)})
	case firewall.DNAT:
		c.dnat(v)
	case firewall.Do:
		switch v {
		case firewall.Masquerade:
			c.add(&expr.Masq{})
		case firewall.Accept:
			c.add(&expr.Verdict{Kind: expr.VerdictAccept})
		case firewall.Drop:
			c.add(&expr.Verdict{Kind: expr.VerdictDrop})
		case firewall.Return:
			c.add(&expr.Verdict{Kind: expr.VerdictReturn})
		}
	}
}

// dnat looks up address . port and goes there. The port lies behind the
// address in the registers.
func (c *compiler) dnat(v firewall.DNAT) {
	family, port := uint32(unix.NFPROTO_IPV4), uint32(reg0+1)
	if v.V6 {
		family, port = unix.NFPROTO_IPV6, reg0+4
	}
	c.load(v.Fields)
	c.add(&expr.Lookup{SourceRegister: reg0, DestRegister: reg0, IsDestRegSet: true, SetName: v.Map},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: family, RegAddrMin: reg0, RegAddrMax: reg0,
			RegProtoMin: port, RegProtoMax: port, Specified: true})
}
