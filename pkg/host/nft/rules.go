package nft

import (
	"encoding/binary"
	"fmt"

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
	firewall.TypeFamily:  {2, 1},
	firewall.TypeMAC:     {9, 6},
	firewall.TypeVerdict: {verdictType, verdictLen},
	firewall.TypeMark:    {19, 4},
}

// What the kernel has for verdicts: NFT_DATA_VERDICT, and the length that it gives them.
const verdictType, verdictLen = 0xffffff00, 16

// typeOf returns the number and length of a concatenation: six bits a type.
func typeOf(concat []firewall.Type) (id, length uint32) {
	if len(concat) == 1 {
		return types[concat[0]].id, types[concat[0]].length
	}
	for _, t := range concat {
		id = id<<6 | types[t].id
		length += uint32(nlsock.Align4(int(types[t].length)))
	}
	return id, length
}

// table appends the table, its sets and chains and, behind a flush of each
// chain, the rules. Sets keep their elements; the users' chain keeps its rules.
func (b *Batch) table(t firewall.Table) error {
	b.Change(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, func(m *nlsock.Message) {
		m.Str(unix.NFTA_TABLE_NAME, t.Name)
		m.U32(unix.NFTA_TABLE_FLAGS, 0) // not dormant
	})
	for i, s := range t.Sets {
		b.Set(t.Name, s, uint32(i+1))
	}
	for _, c := range t.Chains {
		b.Chain(t.Name, c)
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

// Set appends a set, with an ID other than those of all others of the batch.
func (b *Batch) Set(table string, s firewall.Set, id uint32) {
	b.Change(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, func(m *nlsock.Message) {
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
		if s.Minutes > 0 {
			describeSize(m, s.Size())
			m.Raw(unix.NFTA_SET_TIMEOUT, binary.BigEndian.AppendUint64(nil, uint64(s.Minutes)*60_000)) // in milliseconds
		}
		var notes []byte
		if order := keyByteOrder(s); order != 0 {
			notes = userdata.AppendUint32(notes, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, order)
		}
		if len(s.Value) == 1 && s.Value[0] == firewall.TypeMark {
			const host, dataByteOrder = 1, 1 // nft's enum byteorder, NFTNL_UDATA_SET_DATABYTEORDER
			notes = userdata.AppendUint32(notes, dataByteOrder, host)
		}
		if notes != nil {
			m.Raw(unix.NFTA_SET_USERDATA, notes)
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
	case len(s.Key) == 1 && (s.Key[0] == firewall.TypeIfName || s.Key[0] == firewall.TypeFamily):
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
	if s.Minutes > 0 {
		flags |= unix.NFT_SET_TIMEOUT | unix.NFT_SET_EVAL
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

// describeSize bounds the elements of a set.
func describeSize(m *nlsock.Message, size int) {
	const descSize = 1 // NFTA_SET_DESC_SIZE
	desc := m.Open(unix.NFTA_SET_DESC)
	m.U32(descSize, uint32(size))
	m.Close(desc)
}

var hookNumbers = map[string]uint32{
	"prerouting":  unix.NF_INET_PRE_ROUTING,
	"input":       unix.NF_INET_LOCAL_IN,
	"forward":     unix.NF_INET_FORWARD,
	"output":      unix.NF_INET_LOCAL_OUT,
	"postrouting": unix.NF_INET_POST_ROUTING,
}

// policyAccept is NF_ACCEPT.
const policyAccept = 1

// Chain appends a chain, and that it has no rules. The users' chain keeps its own.
func (b *Batch) Chain(table string, c firewall.Chain) {
	b.Change(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, func(m *nlsock.Message) {
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
	b.Change(unix.NFT_MSG_DELRULE, 0, func(m *nlsock.Message) {
		m.Str(unix.NFTA_RULE_TABLE, table)
		m.Str(unix.NFTA_RULE_CHAIN, c.Name)
	})
}

// replaceable appends that chains go, so that they can be made with another priority: the
// kernel changes no chain's. In one transaction the new chain is at its hook before the old
// one leaves.
func (b *Batch) replaceable(table string, chains []string) {
	for _, name := range chains {
		b.Change(unix.NFT_MSG_DELCHAIN, 0, func(m *nlsock.Message) {
			m.Str(unix.NFTA_CHAIN_TABLE, table)
			m.Str(unix.NFTA_CHAIN_NAME, name)
		})
	}
}

func (b *Batch) rule(table, chain string, r firewall.Rule) error {
	return b.compiled(table, chain, expressions(b.Family, r), r.Comment)
}

// compiled appends a rule that is compiled already.
func (b *Batch) compiled(table, chain string, rule []expr.Any, comment string) error {
	list, err := EncodeRule(b.Family, rule)
	if err == nil {
		b.Encoded(table, chain, list, comment)
	}
	return err
}

// EncodeRule returns a rule's expressions as the kernel takes them, as the
// elements of a list (NFTA_RULE_EXPRESSIONS).
func EncodeRule(family byte, rule []expr.Any) ([]byte, error) {
	var list nlsock.Message
	for _, e := range rule {
		part, err := encodeExpr(family, e)
		if err != nil {
			return nil, err
		}
		list.Raw(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, part)
	}
	return list.B, nil
}

func encodeExpr(family byte, e expr.Any) ([]byte, error) {
	if own, ok := e.(replyPort); ok {
		return own.encode(), nil
	}
	return expr.Marshal(family, e)
}

// Encoded appends a rule of which the expressions are encoded already.
func (b *Batch) Encoded(table, chain string, list []byte, comment string) {
	b.Change(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, func(m *nlsock.Message) {
		m.Str(unix.NFTA_RULE_TABLE, table)
		m.Str(unix.NFTA_RULE_CHAIN, chain)
		m.Raw(unix.NFTA_RULE_EXPRESSIONS|unix.NLA_F_NESTED, list)
		if comment != "" {
			m.Raw(unix.NFTA_RULE_USERDATA, userdata.AppendString(nil, userdata.TypeComment, comment))
		}
	})
}
