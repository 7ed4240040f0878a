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
	if own.NodeAddresses != nil && *own.NodeAddresses {
		return nil, wire.Errorf(wire.CodeUnsupported, "nodeAddresses: not supported by this version")
	}
	return n, nil
}
