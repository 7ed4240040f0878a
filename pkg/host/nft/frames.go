package nft

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/nlsock"
	"dcni/pkg/wire"
)

// This file is about the table of the bridge family.

// frameTable is its place.
var frameTable = tableID{unix.NFPROTO_BRIDGE, firewall.TableName}

// ensureFrames lays the table where it is not as it should be, with the ports that are known.
// Elements that are there stay.
func (f *Firewall) ensureFrames(o *firewall.FrameRules) (changed bool, err error) {
	if f.checkFrames() == nil {
		return false, nil
	}
	var elements []element
	for _, p := range o.Known {
		elements = append(elements, encodeAll(p.Elements())...)
	}
	err = f.commitIn(frameTable.family, func(b *Batch) error {
		if err := b.table(firewall.FrameTable()); err != nil {
			return err
		}
		b.elementsIn(frameTable.name, unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, grouped(elements))
		return nil
	})
	return err == nil, f.withoutBridge(err)
}

// withoutBridge says what an error means that a kernel without the bridge family gives, or
// one where another program has a table of this name.
func (f *Firewall) withoutBridge(err error) error {
	if err = f.taken(frameTable.family, firewall.FrameTable(), err); errors.Is(err, firewall.ErrTaken) {
		return err
	}
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT) {
		return &wire.Error{Code: wire.CodeUnavailable, Msg: "kernel can't take the rules of table bridge " + frameTable.name, Err: err}
	}
	return wrap("rules of table bridge "+frameTable.name, err)
}

// frameRules lists the rules of the table, as they are dumped. The caller holds the lock.
func (f *Firewall) frameRules() ([][]byte, error) {
	payloads, err := f.conn.Dump(f.requestIn(frameTable.family, unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, func(m *nlsock.Message) {
		m.Str(unix.NFTA_RULE_TABLE, frameTable.name)
	}))
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("list rules: %w", UnsupportedSubsystem(err))
	}
	return payloads, nil
}

// checkFrames wants the rules with their comments, and no others beside them.
func (f *Firewall) checkFrames() error {
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	payloads, err := f.frameRules()
	if err != nil {
		return err
	}
	rules, note := 0, ""
	for _, c := range firewall.FrameTable().Chains {
		for _, r := range c.Rules {
			rules, note = rules+1, r.Comment
		}
	}
	other := func(payload []byte) bool { return RuleComment(payload) != note }
	if len(payloads) != rules || slices.ContainsFunc(payloads, other) {
		return fmt.Errorf("table bridge %s has not its rules", frameTable.name)
	}
	return f.dormantIn(frameTable)
}

// hasFrameRules reports whether a rule in the table is dcni's, of whichever version.
func (f *Firewall) hasFrameRules() (bool, error) {
	unlock, err := f.lock()
	if err != nil {
		return false, err
	}
	defer unlock()
	rules, err := f.frameRules()
	return slices.ContainsFunc(rules, func(r []byte) bool { return firewall.IsFrameNote(RuleComment(r)) }), err
}

// removeFrames deletes the table, unless it is another program's, or ports are in it that no record tells of.
func (f *Firewall) removeFrames() error {
	if ours, err := f.hasFrameRules(); err != nil || !ours {
		return err
	}
	ports, err := f.listOf(frameTable, firewall.SetApartPorts, firewall.SetChecked)
	if err != nil || len(ports) > 0 {
		return err
	}
	err = f.commitIn(frameTable.family, func(b *Batch) error {
		b.Change(unix.NFT_MSG_DELTABLE, 0, func(m *nlsock.Message) { m.Str(unix.NFTA_TABLE_NAME, frameTable.name) })
		return nil
	})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return wrap("delete table bridge "+frameTable.name, err)
}

// ProbeFrames sends the rules without the end of the transaction, as [Firewall.Probe].
func (f *Firewall) ProbeFrames() error {
	if f.checkFrames() == nil {
		return nil
	}
	return f.withoutBridge(f.probe(frameTable.family, firewall.FrameTable(), nil))
}

// portChange returns which of a port's elements are missing, and which are there and must not
// be: another's under the same key, and that it is in a set which it is not to be in.
func (f *Firewall) portChange(p *firewall.BridgePort) (add, stale []element, err error) {
	want := encodeAll(p.Elements())
	all := *p
	all.Apart, all.Checked = true, true
	others := slices.DeleteFunc(encodeAll(all.Elements()), func(e element) bool {
		return (e.set != firewall.SetApartPorts || p.Apart) && (e.set != firewall.SetChecked || p.Checked)
	})
	if all.Link = wire.FormerHostLink(p.Link); all.Link != "" {
		others = append(others, encodeAll(all.Elements())...)
	}
	found, err := f.getIn(frameTable, append(slices.Clone(want), others...))
	if err != nil {
		return nil, nil, err
	}
	for i, w := range want {
		if found[i] != nil && found[i].comment == w.comment {
			continue
		}
		add = append(add, w)
		if found[i] != nil {
			stale = append(stale, w)
		}
	}
	for i, o := range others {
		if found[len(want)+i] != nil {
			stale = append(stale, o)
		}
	}
	return add, stale, nil
}

// ensurePort puts a port in.
func (f *Firewall) ensurePort(p *firewall.BridgePort) (changed bool, err error) {
	add, stale, err := f.portChange(p)
	if err != nil || len(add)+len(stale) == 0 {
		return false, err
	}
	err = f.commitIn(frameTable.family, func(b *Batch) error {
		b.elementsIn(frameTable.name, unix.NFT_MSG_DELSETELEM, 0, grouped(stale))
		b.elementsIn(frameTable.name, unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, grouped(add))
		return nil
	})
	return err == nil, wrap("put "+p.Key()+" in", err)
}

// checkPort tells what is missing, and what is too much.
func (f *Firewall) checkPort(p *firewall.BridgePort) error {
	add, stale, err := f.portChange(p)
	switch {
	case err != nil:
		return err
	case len(add) > 0:
		return fmt.Errorf("set %s of table bridge %s lacks port %s", add[0].set, frameTable.name, p.Link)
	case len(stale) > 0:
		return fmt.Errorf("set %s of table bridge %s has port %s", stale[0].set, frameTable.name, p.Link)
	}
	return nil
}

// removePort takes a port out: the elements that are known, or all of the owner's.
func (f *Firewall) removePort(p *firewall.BridgePort) error {
	if len(p.Addresses) == 0 {
		return f.removePortOf(p.Comment())
	}
	elements := encodeAll(p.Elements())
	former := *p
	if former.Link = wire.FormerHostLink(p.Link); former.Link != "" {
		before := encodeAll(former.Elements())
		found, err := f.getIn(frameTable, before)
		for i, e := range before {
			if err == nil && found[i] != nil { // what failed, the deletion tells of
				elements = append(elements, e)
			}
		}
	}
	return f.deleteOwnIn(frameTable, elements, isComment(p.Comment()))
}

// removePortOf takes out all that carries a comment.
func (f *Firewall) removePortOf(comment string) error {
	all, err := f.listOf(frameTable, firewall.FrameSets()...)
	if err != nil {
		return err
	}
	ours := isComment(comment)
	return f.deleteOwnIn(frameTable, slices.DeleteFunc(all, func(e element) bool { return !ours(e.comment) }), ours)
}

// etherTypes are how frames say which family they carry.
var etherTypes = map[byte]uint16{unix.NFPROTO_ARP: unix.ETH_P_ARP, unix.NFPROTO_IPV4: unix.ETH_P_IP, unix.NFPROTO_IPV6: unix.ETH_P_IPV6}

// etherType compares what a frame carries by its header. meta protocol would be what is behind a
// VLAN's tag.
func (c *Compiler) etherType(family byte) {
	const offset = 12 // behind both MACs
	c.Add(&expr.Payload{DestRegister: Reg0, Base: expr.PayloadBaseLLHeader, Offset: offset, Len: 2})
	c.Compare(false, Big16(etherTypes[family]))
}

// frame appends what a match compares that is of the bridge family only.
func (c *Compiler) frame(m firewall.Match) {
	switch m := m.(type) {
	case firewall.EtherType:
		family := byte(unix.NFPROTO_IPV4)
		if m == firewall.EtherIPv6 {
			family = unix.NFPROTO_IPV6
		}
		c.family(family)
	case firewall.ARPHeader:
		c.family(unix.NFPROTO_ARP)
		header := []byte{0, 1, 8, 0, 6, 4} // hardware and protocol, and how long their addresses are (RFC 826)
		c.payload(0, uint32(len(header)), Reg0)
		c.Compare(false, header)
	case firewall.ICMPv6Type:
		c.family(unix.NFPROTO_IPV6)
		c.Add(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: Reg0})
		c.Compare(false, []byte{unix.IPPROTO_ICMPV6})
		c.transport(0, 1)
		c.Compare(false, []byte{byte(m)})
	case firewall.UDPPorts:
		c.Add(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: Reg0})
		c.Compare(false, []byte{unix.IPPROTO_UDP})
		c.transport(0, 4)
		c.Compare(false, append(Big16(m.From), Big16(m.To)...))
	}
}

func (c *Compiler) transport(offset, length uint32) {
	c.Add(&expr.Payload{DestRegister: Reg0, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: length})
}
