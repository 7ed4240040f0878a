package nft

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/hostports"
	"dcni/pkg/host/nlsock"
)

// expressions compiles a rule of a family of tables.
func expressions(family byte, r firewall.Rule) []expr.Any {
	c := Compiler{frames: family == unix.NFPROTO_BRIDGE}
	for _, m := range r.Match {
		c.Match(m)
	}
	c.Verdict(r.Verdict)
	return c.Out
}

// Compiler collects a rule's expressions. Addresses are in different places in
// IPv4 and IPv6, so the first use of one compares the family, as nft does.
type Compiler struct {
	Out    []expr.Any
	Family byte // compared already, or 0
	frames bool // the rule is of the bridge family
}

// Reg0 is the first of the 32-bit registers, NFT_REG32_00.
const Reg0 = 8

// Add appends expressions.
func (c *Compiler) Add(e ...expr.Any) { c.Out = append(c.Out, e...) }

// Match appends what a match compares.
func (c *Compiler) Match(m firewall.Match) {
	switch m := m.(type) {
	case firewall.InSet:
		c.load(m.Fields)
		c.Add(&expr.Lookup{SourceRegister: Reg0, SetName: m.Set, Invert: m.Not})
	case firewall.IfIs:
		c.load([]firewall.Field{m.Field})
		c.Compare(m.Not, ifNameBytes(string(m.Name)))
	case firewall.AddrIn:
		c.AddrIn(m)
	case firewall.State:
		bits := map[firewall.State]uint32{
			firewall.Established: expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED,
			firewall.Invalid:     expr.CtStateBitINVALID,
			firewall.New:         expr.CtStateBitNEW,
			firewall.NotAccepted: expr.CtStateBitINVALID | expr.CtStateBitNEW | expr.CtStateBitUNTRACKED,
		}[m]
		c.bit(&expr.Ct{Register: Reg0, Key: expr.CtKeySTATE}, bits)
	case firewall.IsFamily:
		c.Add(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: Reg0})
		c.Compare(false, familyBytes(firewall.Family(m)))
	case firewall.Status:
		bit := uint32(1 << 5) // IPS_DST_NAT
		if m == firewall.SNATed {
			bit = 1 << 4 // IPS_SRC_NAT
		}
		c.bit(&expr.Ct{Register: Reg0, Key: expr.CtKeySTATUS}, bit)
	case firewall.Direction:
		c.Add(&expr.Ct{Register: Reg0, Key: expr.CtKeyDIRECTION})
		way := byte(0) // IP_CT_DIR_ORIGINAL
		if m == firewall.Reply {
			way = 1
		}
		c.Compare(false, []byte{way})
	case firewall.CtMark:
		c.masked(&expr.Ct{Register: Reg0, Key: expr.CtKeyMARK}, firewall.MarkMask)
		c.Compare(m == firewall.Marked, nlsock.Native32(0))
	case firewall.IsProto:
		c.Add(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: Reg0})
		c.Compare(false, []byte{protocolNumber(m)})
	case firewall.FibType:
		c.fib(m)
	case firewall.Input:
		c.Add(&expr.Meta{Key: expr.MetaKeyIIF, Register: Reg0})
		c.Compare(true, nlsock.Native32(0))
	case firewall.UDPTo:
		c.PortIs(unix.IPPROTO_UDP, 2, uint16(m))
	case firewall.NoIPsec:
		c.noIPsec(m)
	case firewall.User:
		c.Add(&expr.Meta{Key: expr.MetaKeySKUID, Register: Reg0})
		c.Compare(m == firewall.NotRoot, nlsock.Native32(0))
	case firewall.Priority:
		c.Add(&expr.Meta{Key: expr.MetaKeyPRIORITY, Register: Reg0})
		c.Compare(m == firewall.NotInside, nlsock.Native32(firewall.Inside))
	default:
		c.frame(m)
	}
}

// protocolNumber returns the number of a transport protocol.
func protocolNumber(p firewall.IsProto) byte {
	switch p {
	case firewall.ICMP:
		return unix.IPPROTO_ICMP
	case firewall.ICMPv6:
		return unix.IPPROTO_ICMPV6
	}
	return hostports.Protocols[string(p)]
}

// Keys of meta and rt that x/sys lacks (enum nft_meta_keys, enum nft_rt_keys).
const (
	metaSecPath expr.MetaKey = 25
	rtXfrm      expr.RtKey   = 4
)

// noIPsec compares what the kernel knows of IPsec: one byte, 1 if there is anything.
func (c *Compiler) noIPsec(m firewall.NoIPsec) {
	if m == firewall.StaysClear {
		c.Add(&expr.Rt{Key: rtXfrm, Register: Reg0})
	} else {
		c.Add(&expr.Meta{Key: metaSecPath, Register: Reg0})
	}
	c.Compare(false, []byte{0})
}

// fib compares the kind of an address.
func (c *Compiler) fib(m firewall.FibType) {
	source, kind := m == firewall.NotFromUs || m == firewall.FromUs, uint32(unix.RTN_LOCAL)
	if m == firewall.Unicast {
		kind = unix.RTN_UNICAST
	}
	c.Add(&expr.Fib{Register: Reg0, ResultADDRTYPE: true, FlagSADDR: source, FlagDADDR: !source})
	c.Compare(m == firewall.NotFromUs, nlsock.Native32(kind))
}

// bit holds if one of the bits is set in what load loads.
func (c *Compiler) bit(load expr.Any, mask uint32) {
	c.masked(load, mask)
	c.Compare(true, nlsock.Native32(0))
}

// masked loads some bits of a value.
func (c *Compiler) masked(load expr.Any, mask uint32) {
	c.Add(load, &expr.Bitwise{SourceRegister: Reg0, DestRegister: Reg0, Len: 4,
		Mask: nlsock.Native32(mask), Xor: nlsock.Native32(0)})
}

// Compare compares what the first register has.
func (c *Compiler) Compare(not bool, data []byte) {
	op := expr.CmpOpEq
	if not {
		op = expr.CmpOpNeq
	}
	c.Add(&expr.Cmp{Op: op, Register: Reg0, Data: data})
}

// AddrIn compares an address. A prefix of whole bytes needs no mask: only these
// bytes are loaded.
func (c *Compiler) AddrIn(m firewall.AddrIn) {
	c.needFamily(m.Field)
	addr, bits := m.Prefix.Addr().AsSlice(), m.Prefix.Bits()
	at := payloads[m.Field]
	if bits%8 == 0 {
		c.payload(at.offset, uint32(bits/8), Reg0)
		c.Compare(m.Not, addr[:bits/8])
		return
	}
	c.payload(at.offset, at.length, Reg0)
	c.Add(&expr.Bitwise{SourceRegister: Reg0, DestRegister: Reg0, Len: at.length,
		Mask: prefixMask(bits, len(addr)), Xor: make([]byte, len(addr))})
	c.Compare(m.Not, addr)
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

	firewall.FieldARPMAC:  {unix.NFPROTO_ARP, 8, 6},
	firewall.FieldARPAddr: {unix.NFPROTO_ARP, 14, 4},
}

func (c *Compiler) needFamily(f firewall.Field) { c.family(payloads[f].family) }

// family compares the family of what a packet, or a frame, carries.
func (c *Compiler) family(family byte) {
	if family == 0 || family == c.Family {
		return
	}
	c.Family = family
	if c.frames {
		c.etherType(family)
		return
	}
	c.Add(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: Reg0})
	c.Compare(false, []byte{family})
}

func (c *Compiler) payload(offset, length, reg uint32) {
	c.Add(&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length})
}

// load puts fields into registers, one behind the other, as a key.
func (c *Compiler) load(fields []firewall.Field) {
	for _, f := range fields {
		c.needFamily(f)
		if f == firewall.FieldSrcMAC && !c.frames {
			c.Add(&expr.Meta{Key: expr.MetaKeyIIFTYPE, Register: Reg0})
			c.Compare(false, binary.NativeEndian.AppendUint16(nil, unix.ARPHRD_ETHER))
		}
	}
	reg := uint32(Reg0)
	for _, f := range fields {
		reg += uint32(nlsock.Align4(c.loadField(f, reg))) / 4
	}
}

// Keys of meta that x/sys lacks (enum nft_meta_keys).
const (
	metaIIfKind expr.MetaKey = 26
	metaOIfKind expr.MetaKey = 27
)

// replyPort loads the port that a connection's answers come to. The library has four
// bytes for the direction, of which the kernel reads the first.
type replyPort struct{ *expr.Ct }

func (p replyPort) encode() []byte {
	const reply = 1 // IP_CT_DIR_REPLY
	var m nlsock.Message
	m.Str(unix.NFTA_EXPR_NAME, "ct")
	at := m.Open(unix.NFTA_EXPR_DATA)
	m.U32(unix.NFTA_CT_KEY, uint32(p.Key))
	m.U32(unix.NFTA_CT_DREG, p.Register)
	m.Raw(unix.NFTA_CT_DIRECTION, []byte{reply})
	m.Close(at)
	return m.B
}

func (c *Compiler) loadField(f firewall.Field, reg uint32) (length int) {
	switch f {
	case firewall.FieldIIf:
		c.Add(&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg})
		return unix.IFNAMSIZ
	case firewall.FieldOIf:
		c.Add(&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg})
		return unix.IFNAMSIZ
	case firewall.FieldIKind:
		c.Add(&expr.Meta{Key: metaIIfKind, Register: reg})
		return unix.IFNAMSIZ
	case firewall.FieldOKind:
		c.Add(&expr.Meta{Key: metaOIfKind, Register: reg})
		return unix.IFNAMSIZ
	case firewall.FieldFamily:
		c.Add(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg})
		return 1
	case firewall.FieldProto:
		c.Add(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg})
		return 1
	case firewall.FieldNATSvc:
		c.Add(replyPort{&expr.Ct{Register: reg, Key: expr.CtKeyPROTODST}})
		return 2
	case firewall.FieldDstSvc:
		c.Add(&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2})
		return 2
	case firewall.FieldSrcMAC:
		c.Add(&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: 6})
		return 6
	case firewall.FieldNDTarget:
		c.Add(&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 8, Len: 16})
		return 16
	}
	at := payloads[f]
	c.payload(at.offset, at.length, reg)
	return int(at.length)
}

// Verdict appends a verdict.
func (c *Compiler) Verdict(v firewall.Verdict) {
	switch v := v.(type) {
	case firewall.Jump:
		c.Add(&expr.Verdict{Kind: expr.VerdictJump, Chain: string(v)})
	case firewall.SetCtMark:
		c.load(v.Fields)
		c.Add(&expr.Lookup{SourceRegister: Reg0, DestRegister: Reg0, IsDestRegSet: true, SetName: v.Map},
			&expr.Ct{Register: Reg0, Key: expr.CtKeyMARK, SourceRegister: true})
	case firewall.VMap:
		c.load(v.Fields)
		c.Add(&expr.Lookup{SourceRegister: Reg0, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true, SetName: v.Map})
	case firewall.DNAT:
		c.dnat(v)
	case firewall.SNAT:
		c.snat(v)
	case firewall.Update:
		c.load(v.Fields)
		c.Add(&expr.Dynset{SrcRegKey: Reg0, SetName: v.Set, Operation: unix.NFT_DYNSET_OP_UPDATE})
	case firewall.Do:
		switch v {
		case firewall.Masquerade:
			c.Add(&expr.Masq{})
		case firewall.Reject:
			c.Add(&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_HOST_UNREACH})
		case firewall.MarkAsConn:
			c.Add(&expr.Ct{Register: Reg0, Key: expr.CtKeyMARK}, &expr.Meta{Key: expr.MetaKeyMARK, Register: Reg0, SourceRegister: true})
		case firewall.SetInside:
			c.Add(&expr.Immediate{Register: Reg0, Data: nlsock.Native32(firewall.Inside)},
				&expr.Meta{Key: expr.MetaKeyPRIORITY, Register: Reg0, SourceRegister: true})
		case firewall.Accept:
			c.Add(&expr.Verdict{Kind: expr.VerdictAccept})
		case firewall.Drop:
			c.Add(&expr.Verdict{Kind: expr.VerdictDrop})
		case firewall.Return:
			c.Add(&expr.Verdict{Kind: expr.VerdictReturn})
		}
	}
}

// dnat looks up address . port and goes there. The port lies behind the
// address in the registers.
func (c *Compiler) dnat(v firewall.DNAT) {
	family, port := uint32(unix.NFPROTO_IPV4), uint32(Reg0+1)
	if v.V6 {
		family, port = unix.NFPROTO_IPV6, Reg0+4
	}
	c.load(v.Fields)
	c.Add(&expr.Lookup{SourceRegister: Reg0, DestRegister: Reg0, IsDestRegSet: true, SetName: v.Map},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: family, RegAddrMin: Reg0, RegAddrMax: Reg0,
			RegProtoMin: port, RegProtoMax: port, Specified: true})
}

// snat looks an address up, and gives it to the connection as its source.
func (c *Compiler) snat(v firewall.SNAT) {
	family, first := uint32(unix.NFPROTO_IPV4), firewall.FieldSrc4
	if v.V6 {
		family, first = unix.NFPROTO_IPV6, firewall.FieldSrc6
	}
	c.needFamily(first)
	c.load([]firewall.Field{v.Field})
	c.Add(&expr.Lookup{SourceRegister: Reg0, DestRegister: Reg0, IsDestRegSet: true, SetName: v.Map},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: family, RegAddrMin: Reg0, RegAddrMax: Reg0})
}

// AddrIs compares an address.
func (c *Compiler) AddrIs(field firewall.Field, a netip.Addr) {
	c.AddrIn(firewall.AddrIn{Field: field, Prefix: netip.PrefixFrom(a, a.BitLen())})
}

// PortIs compares protocol and port.
func (c *Compiler) PortIs(protocol byte, at uint32, port uint16) {
	c.Add(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: Reg0})
	c.Compare(false, []byte{protocol})
	c.Add(&expr.Payload{DestRegister: Reg0, Base: expr.PayloadBaseTransportHeader, Offset: at, Len: 2})
	c.Compare(false, Big16(port))
}

// Big16 returns a number in network byte order.
func Big16(v uint16) []byte { return []byte{byte(v >> 8), byte(v)} }
