package firewall

import (
	"fmt"
	"net/netip"
	"strings"

	"dcni/pkg/wire"
)

// TableEncrypted is the table of the inet family that [Encrypted] has. It is one of its
// own: only hosts with encrypted networks have it, no packet of others passes by its
// rules, and a kernel without IPsec, which refuses them, takes all others.
const TableEncrypted = TableName + "-encrypted"

// Encrypted says that UDP packets to a port leave the host, and reach it, encrypted only:
// the VXLAN of encrypted networks. Two locks say so, each of which holds alone, since
// another program may flush either: policies of IPsec, and rules. What encrypts for other
// nodes is theirs, see package keys; without it, nothing leaves.
type Encrypted struct {
	Port uint16
	IPv6 bool // of the underlay; else IPv4
}

// Key names the port.
func (e *Encrypted) Key() string { return fmt.Sprintf("encrypted %d", e.Port) }

// Root marks it as something that goes with its last user.
func (e *Encrypted) Root() {}

func (e *Encrypted) String() string {
	t := e.Table()
	words := []string{"inet " + t.Name + " input " + t.Chains[0].Rules[0].String(), "postrouting " + t.Chains[1].Rules[0].String()}
	for _, p := range e.Policies() {
		words = append(words, p.String())
	}
	return strings.Join(words, "; ")
}

// Policies returns the policies. That of what is sent has a higher number than those that
// name a state, and counts where there is none.
func (e *Encrypted) Policies() []*wire.XfrmPolicy {
	all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if e.IPv6 {
		all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return []*wire.XfrmPolicy{
		{Dir: wire.DirOut, Dst: all, Port: int(e.Port), Block: true}, {Dir: wire.DirIn, Dst: all, Port: int(e.Port)},
	}
}

// Table returns the rules.
func (e *Encrypted) Table() Table {
	drop := func(missing NoIPsec) []Rule { return []Rule{rule(Drop, UDPTo(e.Port), missing)} }
	return Table{Name: TableEncrypted, Chains: []Chain{
		{"input", &Hook{"filter", "input", -300, "raw"}, drop(WasClear)},
		{"postrouting", &Hook{"filter", "postrouting", -300, "raw"}, drop(StaysClear)},
	}}
}

// UDPTo matches UDP packets to a port.
type UDPTo uint16

func (m UDPTo) String() string { return fmt.Sprintf("udp dport %d", uint16(m)) }

// NoIPsec is a match of packets that IPsec did nothing to, or is to do nothing to.
type NoIPsec string

// The two directions.
const (
	WasClear   NoIPsec = "meta ipsec missing" // of packets that arrived
	StaysClear NoIPsec = "rt ipsec missing"   // of packets that are about to leave
)

func (m NoIPsec) String() string { return string(m) }
