package nft

import (
	"net/netip"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/nlsock"
)

// turnsMap is the name of a map without one: the kernel puts a number in the place of %d,
// and the map goes with its rule.
const turnsMap = "__map%d"

// integerType is TYPE_INTEGER of nft.
const integerType = 4

// Turns appends the map from a number to the address of each turn. It has the ID by which
// [Compiler.ToTurn] knows it, other than those of all other maps of the batch.
func (b *Batch) Turns(table string, id uint32, addresses []netip.Addr) {
	of := firewall.TypeIPv4
	if addresses[0].Is6() {
		of = firewall.TypeIPv6
	}
	values := make([][]byte, len(addresses))
	for i, a := range addresses {
		values[i] = a.AsSlice()
	}
	b.turns(table, id, []firewall.Type{of}, values)
}

// turns is Turns for values of any type.
func (b *Batch) turns(table string, id uint32, of []firewall.Type, values [][]byte) {
	b.Change(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, func(m *nlsock.Message) {
		const host = 1 // nft's enum byteorder
		dataType, dataLen := typeOf(of)
		m.Str(unix.NFTA_SET_TABLE, table)
		m.Str(unix.NFTA_SET_NAME, turnsMap)
		m.U32(unix.NFTA_SET_FLAGS, unix.NFT_SET_ANONYMOUS|unix.NFT_SET_CONSTANT|unix.NFT_SET_MAP)
		m.U32(unix.NFTA_SET_KEY_TYPE, integerType)
		m.U32(unix.NFTA_SET_KEY_LEN, 4)
		m.U32(unix.NFTA_SET_DATA_TYPE, dataType)
		m.U32(unix.NFTA_SET_DATA_LEN, dataLen)
		m.U32(unix.NFTA_SET_ID, id)
		m.Raw(unix.NFTA_SET_USERDATA, userdata.AppendUint32(nil, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, host))
	})
	elements := make([]element, len(values))
	for i, value := range values {
		elements[i] = element{set: turnsMap, key: nlsock.Native32(uint32(i)), data: value}
	}
	for len(elements) > 0 {
		part := elements[:min(len(elements), perMessage)]
		b.Change(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, func(m *nlsock.Message) {
			appendElementsIn(m, table, part)
			m.U32(unix.NFTA_SET_ELEM_LIST_SET_ID, id)
		})
		elements = elements[len(part):]
	}
}

// ToTurn sends each connection to the address of the next of n turns, in the map with an ID.
func (c *Compiler) ToTurn(id uint32, n int) {
	c.Add(&expr.Numgen{Register: Reg0, Modulus: uint32(n), Type: unix.NFT_NG_INCREMENTAL},
		&expr.Lookup{SourceRegister: Reg0, DestRegister: Reg0, IsDestRegSet: true, SetName: turnsMap, SetID: id})
	c.toAddress()
}

// ToAddress sends each connection to an address.
func (c *Compiler) ToAddress(a netip.Addr) {
	c.Add(&expr.Immediate{Register: Reg0, Data: a.AsSlice()})
	c.toAddress()
}

func (c *Compiler) toAddress() {
	c.Add(&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(c.Family), RegAddrMin: Reg0, RegAddrMax: Reg0})
}

// NoSYN compares that a packet is of TCP and begins no connection.
func (c *Compiler) NoSYN() {
	const flags, syn = 13, 2 // RFC 9293, section 3.1
	c.IsTCP()
	c.Add(&expr.Payload{DestRegister: Reg0, Base: expr.PayloadBaseTransportHeader, Offset: flags, Len: 1},
		&expr.Bitwise{SourceRegister: Reg0, DestRegister: Reg0, Len: 1, Mask: []byte{syn}, Xor: []byte{0}})
	c.Compare(false, []byte{0})
}

// IsTCP compares the protocol.
func (c *Compiler) IsTCP() {
	c.Add(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: Reg0})
	c.Compare(false, []byte{unix.IPPROTO_TCP})
}

// IsNew compares that a packet begins a connection.
func (c *Compiler) IsNew() {
	c.bit(&expr.Ct{Register: Reg0, Key: expr.CtKeySTATE}, expr.CtStateBitNEW)
}

// Reset refuses a packet of TCP.
func (c *Compiler) Reset() { c.Add(&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}) }

// PortUnreachable refuses a packet, as nft's plain reject does in a table of one family.
func (c *Compiler) PortUnreachable() {
	const code4, code6 = 3, 4 // ICMP_PORT_UNREACH, ICMPV6_PORT_UNREACH
	code := uint8(code4)
	if c.Family == unix.NFPROTO_IPV6 {
		code = code6
	}
	c.Add(&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: code})
}
