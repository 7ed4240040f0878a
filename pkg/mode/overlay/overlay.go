// Package overlay is Docker's overlay network, the plugin doverlay.
//
// An overlay network is a bridge network whose bridge has one more port: a VXLAN device,
// through which containers reach those on other nodes of the cluster as if they were on
// the same bridge. Everything else (rules, published ports, names, healing) is as in a
// bridge network. Which networks there are, and who has which address, is in the
// cluster's store; an attachment's record has what it needs of that.
package overlay

import (
	"cmp"
	"net/netip"
	"slices"

	"dcni/pkg/firewall"
	"dcni/pkg/mode/bridge"
	"dcni/pkg/network"
	"dcni/pkg/overlay"
	"dcni/pkg/wire"
)

// Plugin is doverlay.
var Plugin = &network.Plugin{Type: "doverlay", Kind: network.MakesInterface, Parse: parse, Roots: bridge.Roots, Driver: driver{}}

// Device returns the VXLAN device of a network.
func Device(name string) string { return "vx-" + network.ID(name)[:network.ShortID] }

// Network is an overlay network, configured. What its configuration leaves out is as the
// cluster has it.
type Network struct {
	*bridge.Bridge
	VNI       int // 0: as the cluster has it
	Encrypted bool
	Flood     bool
	Nodes     bool // nodes have addresses of their own
}

// Describe returns what the engine must know. The network's objects are there for its
// attachments on this node: they go with the last one.
func (n *Network) Describe() network.Description {
	d := n.Bridge.Describe()
	d.Families = network.Families{Refuse6: d.Families.Refuse6, Need6: d.Families.Need6}
	d.Leftovers = leftovers(n.Name, n.Link)
	d.Overlay = n.example()
	return d
}

// example is what a cluster may say of the network.
func (n *Network) example() *network.Overlay {
	const node = "example"
	o := &network.Overlay{
		Node: node, Local: netip.MustParseAddr("192.0.2.1"), VNI: cmp.Or(n.VNI, overlay.MinVNI), Port: overlay.Port,
		MTU: n.MTU, RouterMAC: overlay.RouterMAC(node, n.Name), Internal: n.Internal, Encrypted: n.Encrypted, Flood: n.Flood,
	}
	if n.Encrypted {
		o.Port = overlay.PortESP
	}
	for _, s := range n.IPAM.Own.Subnets {
		if n.Nodes {
			o.NodeAddresses = append(o.NodeAddresses, netip.PrefixFrom(s.Gateway.Next().Next(), s.Prefix.Bits()))
		}
	}
	if o.MTU == 0 {
		const ethernet = 1500 // bytes, where nothing else is known
		o.MTU = overlay.Tunnel{Underlay: ethernet, Encrypted: n.Encrypted}.MTU()
	}
	return o
}

// Plan says what must be there for one attachment. Before the device is there, strangers
// are kept from sending to it, and where the network is encrypted nothing passes in clear.
func (n *Network) Plan(e network.Endpoint) (wire.Plan, error) {
	o := e.Overlay
	if o == nil {
		return wire.Plan{}, wire.Errorf(wire.CodeInternal, "network %s: what the cluster says of it is not known", n.Name)
	}
	if err := n.hasNodes(len(o.NodeAddresses) > 0); err != nil {
		return wire.Plan{}, err
	}
	b := *n.Bridge
	b.MAC, b.Internal = o.RouterMAC, o.Internal
	plan, err := b.Plan(e)
	if err != nil {
		return plan, err
	}
	plan.Host = append(plan.Host, &firewall.Underlay{Port: uint16(o.Port), Known: []netip.Addr{o.Local}})
	if o.Encrypted {
		plan.Host = append(plan.Host, &firewall.Encrypted{Port: uint16(o.Port), IPv6: o.Local.Is6()})
	}
	plan.Network = append(n.network(plan.Network, e), tunnelPort(plan.Own, n.Name)...)
	plan.Own = n.own(plan.Own, e, len(o.NodeAddresses) > 0)
	return plan, nil
}

// network adds to a bridge network's objects what joins the bridge to those of other
// nodes. Packets that come back through another node than their way out's are not
// dropped, and containers are told of no shorter way: the way is through the nodes.
func (n *Network) network(objects []wire.Object, e network.Endpoint) []wire.Object {
	o, conf := e.Overlay, "net/ipv4/conf/"+n.Link+"/"
	for i, object := range objects {
		if fw, ok := object.(*firewall.Network); ok {
			rules := *fw
			rules.Overlay, rules.Hosts = len(o.NodeAddresses) == 0, len(o.NodeAddresses) > 0
			if rules.Overlay {
				rules.Self = overlay.Self(o.Node, o.Local)
			}
			objects[i] = &rules
		}
	}
	objects = slices.Insert(objects, 1, []wire.Object{
		&wire.Sysctl{Path: conf + "rp_filter", Value: "0"}, &wire.Sysctl{Path: conf + "send_redirects", Value: "0"},
	}...)
	objects = append(objects, n.nodeAddresses(e)...)
	return append(objects,
		&wire.Vxlan{
			Name: Device(n.Name), Bridge: n.Link, VNI: o.VNI, Local: o.Local, Port: o.Port, MTU: e.MTU,
			Flood: o.Flood, Isolated: !n.ICC, Alias: n.Name,
			ComputeSums: o.ComputeSums,
		},
		&wire.Peers{Network: n.Name, Bridge: n.Link, Vxlan: Device(n.Name), Flood: o.Flood, NoIPv6: n.Mode6 == bridge.Isolated, Encrypted: o.Encrypted},
	)
}

// nodeAddresses are the node's own addresses on the bridge. What the host sends to the
// network's subnets has them as its source: the gateway's address is on other nodes as well.
func (n *Network) nodeAddresses(e network.Endpoint) (objects []wire.Object) {
	for _, own := range e.Overlay.NodeAddresses {
		objects = append(objects, &wire.Addr{Dev: n.Link, Prefix: own})
		for _, s := range e.Subnets {
			if s.Prefix.Addr().Is6() == own.Addr().Is6() {
				objects = append(objects, wire.OnLink(n.Link, s.Prefix, own.Addr()))
			}
		}
	}
	return objects
}

// tunnelPort is the device as the rules of frames know it, where containers are kept apart: those
// on other nodes send by it.
func tunnelPort(own []wire.Object, name string) []wire.Object {
	for _, o := range own {
		if p, ok := o.(*firewall.BridgePort); ok && p.Apart {
			p.Tunnel = Device(name)
			return []wire.Object{p.OfTunnel()}
		}
	}
	return nil
}

// own adds to an attachment's objects that its MAC stays behind its port, and that the
// host may speak to it, in families in which the host is on the network.
func (n *Network) own(objects []wire.Object, e network.Endpoint, all bool) []wire.Object {
	at := slices.IndexFunc(objects, func(o wire.Object) bool { _, ok := o.(*wire.Veth); return ok }) + 1
	if _, there := objects[at].(*wire.FDB); !there {
		objects = slices.Insert(objects, at, wire.Object(&wire.FDB{Dev: e.HostLink(), MAC: e.SandboxMAC()}))
	}
	to := slices.DeleteFunc(e.IPs(), n.Describe().Isolated.Has)
	if all || len(to) == 0 {
		return objects
	}
	return append(objects, &firewall.Member{Owner: e.Attachment, Bridge: n.Link, Addresses: to, Overlay: true, Backend: n.Firewall})
}

// leftovers are what a network has on a node. The last one is removed first.
func leftovers(name, link string) []wire.Object {
	return []wire.Object{
		&firewall.Network{Name: name, Bridge: link},
		&wire.Bridge{Name: link, MAC: wire.BridgeMAC(link), Alias: name},
		&wire.Vxlan{Name: Device(name), Bridge: link},
		&wire.Peers{Network: name, Bridge: link, Vxlan: Device(name)},
		&firewall.BridgePort{Owner: wire.Attachment{Network: name}, Link: Device(name)},
	}
}
