package overlay

import (
	"dcni/pkg/mode/bridge"
	"dcni/pkg/network"
	"dcni/pkg/overlay"
	"dcni/pkg/wire"
)

// raw mirrors the keys that doverlay has besides those of dbridge. Pointers tell "not
// given" from the zero value.
type raw struct {
	VNI           int   `json:"vni"`
	Encrypted     *bool `json:"encrypted"`
	Flood         *bool `json:"flood"`
	NodeAddresses *bool `json:"nodeAddresses"`
}

// notOurs are dbridge's keys that an overlay network has not: its bridge is the cluster's
// to name, and no host's default.
var notOurs = []string{"bridge", "defaultBridge"}

// parse reads a doverlay configuration. What it says of the network is compared with what
// the cluster says when an attachment claims its addresses.
func parse(conf network.Conf) (network.Mode, error) {
	var own raw
	b, err := bridge.Extended(conf, &own, notOurs, network.ParseIPAMOfCluster)
	if err != nil {
		return nil, err
	}
	n := &Network{Bridge: b, VNI: own.VNI, Encrypted: own.Encrypted != nil && *own.Encrypted, Flood: own.Flood != nil && *own.Flood}
	if n.VNI != 0 && (n.VNI < overlay.MinVNI || n.VNI > overlay.MaxVNI) {
		return nil, wire.Invalid("vni", n.VNI, "must be 4096 to 16777215, or left out: the cluster has it")
	}
	n.Nodes = own.NodeAddresses != nil && *own.NodeAddresses
	return n, n.hasNodes(n.Nodes)
}

// hasNodes refuses addresses of nodes where they could not be used. Ports that are kept
// apart pass nothing from one to the other, and what a container sends to another node's
// host goes from its port to the VXLAN device's.
func (n *Network) hasNodes(nodes bool) error {
	switch {
	case nodes && !n.ICC:
		return wire.Invalid("icc", false, "must be true with nodeAddresses: what keeps containers apart keeps them from hosts of other nodes too")
	case nodes && n.hostless():
		return wire.Invalid("nodeAddresses", true, "must be false where the bridge has no address of a family (gateway mode isolated, or inhibitIPv4)")
	}
	return nil
}

// hostless reports whether the host is not on the network by one family, at least.
func (n *Network) hostless() bool {
	return n.Mode4 == bridge.Isolated || n.Mode6 == bridge.Isolated || n.InhibitIPv4
}
