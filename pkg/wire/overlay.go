package wire

import (
	"fmt"
	"net/netip"
)

// This file is about what an overlay network has on a node besides what a bridge network
// has: a VXLAN device as one more port of the bridge, and the entries that say where
// what is on other nodes is found.

// Vxlan is the VXLAN device of an overlay network, a port of its bridge. The kernel
// learns nothing on it, neither the device nor the port: each address it sends to is in
// an [FDB]. It is not bound to an interface of the host's, with which it would go. Its
// address family is Local's.
type Vxlan struct {
	Name   string     // link name, at most 15 bytes
	Bridge string     // its master
	VNI    int        // 1 to 16777215; one device on a host of a VNI and a port
	Local  netip.Addr // this node's, on the underlay
	Port   int        // UDP, to and from other nodes
	MAC    string     // "": drawn by the kernel
	MTU    int        // bytes; 0 is not allowed: without an interface the kernel takes 1500
	// Flood says that frames to all are sent to all nodes, those to groups too. Else
	// the device answers ARP and neighbour discovery itself (proxy), of what is in
	// a [Neigh] on it, and sends none of either out. With Flood the bridge does, for
	// its own addresses and for what is in a [Neigh] on the bridge (neigh_suppress),
	// and sends out what asks for others.
	Flood    bool
	Isolated bool   // no traffic to isolated ports: containers on other nodes are kept apart as those here
	Alias    string // for people: the network's name
	// ComputeSums has the kernel compute checksums of what it sends, in place of a NIC that does
	// it wrongly. Without it, how that is stays as it is.
	ComputeSums bool
}

// Key names the link.
func (v *Vxlan) Key() string { return "link " + v.Name }

// Refers names the bridge.
func (v *Vxlan) Refers() []string { return []string{"link " + v.Bridge} }

// Root marks the device as something that goes with its last user.
func (v *Vxlan) Root() {}

func (v *Vxlan) String() string {
	s := "link " + v.Name
	if v.MAC != "" {
		s += " address " + v.MAC
	}
	s += fmt.Sprintf(" mtu %d master %s learning off", v.MTU, v.Bridge)
	if v.Flood {
		s += " neigh_suppress on"
	}
	if v.Isolated {
		s += " isolated on"
	}
	s += fmt.Sprintf(" alias %q type vxlan id %d local %s dstport %d nolearning", v.Alias, v.VNI, v.Local, v.Port)
	if !v.Flood {
		s += " proxy"
	}
	if v.ComputeSums {
		s += " tx-checksum-ip-generic off"
	}
	return s
}

// FloodMAC is the MAC of an entry that says where frames to all, and to unknown MACs,
// are sent to. There are as many of it as nodes, told apart by Dst.
const FloodMAC = "00:00:00:00:00:00"

// FDB is an entry of a forwarding database. With a Dst it is the VXLAN device's, and
// says to which node a frame goes. Without one it is the bridge's, and says behind which
// port a MAC is. Both stay until they are removed, and nothing that arrives changes
// them. An entry of the same MAC is replaced.
type FDB struct {
	Dev string     // the VXLAN device; for an entry of the bridge's a port of it
	MAC string     // or FloodMAC
	Dst netip.Addr // the node's, on the underlay; zero: an entry of the bridge that Dev is a port of
}

// Key names the device, the database and the MAC: to replace a destination is one
// change, not a removal and an addition between which frames are lost.
func (f *FDB) Key() string {
	s := "fdb " + f.MAC + " dev " + f.Dev
	switch {
	case !f.Dst.IsValid():
		return s + " master"
	case f.Appended():
		return s + " dst " + f.Dst.String()
	}
	return s
}

// Appended reports whether the entry is one of several of its MAC, which Ensure adds to
// the others instead of replacing one.
func (f *FDB) Appended() bool { return f.MAC == FloodMAC }

// Refers names the link.
func (f *FDB) Refers() []string { return []string{"link " + f.Dev} }

func (f *FDB) String() string {
	s := "fdb " + f.MAC + " dev " + f.Dev
	if !f.Dst.IsValid() {
		return s + " master sticky static"
	}
	return s + " dst " + f.Dst.String() + " self permanent"
}

// Neigh is a permanent entry of a link's neighbour table: the MAC of an address. One on
// a bridge is for what the host itself sends or routes there; one on a VXLAN device is
// what that answers its bridge's containers from. An entry of the same address is
// replaced. Setting a link down removes its entries.
type Neigh struct {
	Dev string
	IP  netip.Addr
	MAC string
}

// Key names the address and its link.
func (n *Neigh) Key() string { return "neigh " + n.IP.String() + " dev " + n.Dev }

// Refers names the link.
func (n *Neigh) Refers() []string { return []string{"link " + n.Dev} }

func (n *Neigh) String() string {
	return "neigh " + n.IP.String() + " dev " + n.Dev + " lladdr " + n.MAC + " PERMANENT"
}

// Rule is a rule of policy routing: packets that came in on a link with a mark are
// routed by a table.
type Rule struct {
	Family   int    // 4 or 6
	Priority int    // of two rules that match, the one of the lower number counts
	IIF      string // where they came in; "": from anywhere
	Mark     uint32 // under Mask
	Mask     uint32 // 0: marks say nothing
	Table    int
}

// Key names all but the table.
func (r *Rule) Key() string {
	return fmt.Sprintf("rule %d pref %d iif %s fwmark %#x/%#x", r.Family, r.Priority, r.IIF, r.Mark, r.Mask)
}

// Refers returns nil: a rule stays when its link goes, and matches one of that name that
// comes again.
func (r *Rule) Refers() []string { return nil }

// Root marks the rule as something to remove by itself: it outlives its link.
func (r *Rule) Root() {}

func (r *Rule) String() string {
	s := "rule"
	if r.Family == 6 {
		s = "-6 rule"
	}
	s += fmt.Sprintf(" pref %d", r.Priority)
	if r.Mask != 0 {
		s += fmt.Sprintf(" fwmark %#x/%#x", r.Mark, r.Mask)
	}
	if r.IIF != "" {
		s += " iif " + r.IIF
	}
	return s + fmt.Sprintf(" lookup %d", r.Table)
}

// Peers says that this node has the entries of a network's endpoints on other nodes.
// dnetd enters them, and changes them as endpoints come and go. Ensure asks dnetd for
// it, and waits a while until they are there: then a container reaches the others as
// soon as it is attached.
type Peers struct {
	Network string `json:"network"`
	Bridge  string `json:"bridge"`          // where entries are that the host itself uses
	Vxlan   string `json:"vxlan"`           // where those are that the bridge and its containers use
	Flood   bool   `json:"flood,omitempty"` // of the Vxlan
	// NoIPv6 says that IPv6 is off on the bridge: it has no neighbours of that family.
	NoIPv6 bool `json:"noIPv6,omitempty"`
	// Encrypted says that this node has keys with the others, too.
	Encrypted bool `json:"encrypted,omitempty"`
}

// Key names the network.
func (p *Peers) Key() string { return "peers of " + p.Network }

// Refers names the links that the entries are on.
func (p *Peers) Refers() []string { return []string{"link " + p.Bridge, "link " + p.Vxlan} }

// Root marks the entries as something that goes with its last user: those on the bridge
// outlive the VXLAN device.
func (p *Peers) Root() {}

func (p *Peers) String() string {
	s := "fdb and neigh entries dev " + p.Vxlan + " and " + p.Bridge
	if p.Encrypted {
		s += ", xfrm states and policies"
	}
	return s + " for what is on other nodes, by dnetd"
}
