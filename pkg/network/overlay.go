package network

import (
	"encoding/json"
	"net/netip"

	"dcni/pkg/ipam"
	"dcni/pkg/wire"
)

// IPAMCluster is the ipam.type of overlay networks: the cluster gives the addresses.
const IPAMCluster = "cluster"

// Overlay is what the cluster says of an attachment's network, and of the node that the
// attachment is on. It is on record with the attachment, so that DEL, CHECK and healing
// need no store.
type Overlay struct {
	Node        string     `json:"node"`  // this one's name
	Local       netip.Addr `json:"local"` // its address on the underlay
	VNI         int        `json:"vni"`
	Port        int        `json:"port"`       // UDP
	MTU         int        `json:"mtu"`        // bytes
	RouterMAC   string     `json:"routerMAC"`  // of the network's bridge on this node
	Generation  int64      `json:"generation"` // of the network
	Internal    bool       `json:"internal,omitempty"`
	Encrypted   bool       `json:"encrypted,omitempty"`
	Flood       bool       `json:"flood,omitempty"`
	ComputeSums bool       `json:"computeSums,omitempty"` // see [wire.Vxlan]
	// NodeAddresses are the node's own on the network; nil: it has none.
	NodeAddresses []netip.Prefix `json:"nodeAddresses,omitempty"`
}

// Settle returns a description with what the cluster says in place of what the
// configuration leaves out; the description itself without an overlay.
func (o *Overlay) Settle(d Description) Description {
	if o == nil {
		return d
	}
	d.MTU, d.Info.Internal, d.Ports.Ignore = o.MTU, o.Internal, o.Internal
	if d.Bridge != nil {
		bridge := *d.Bridge
		bridge.MAC = o.RouterMAC
		d.Bridge = &bridge
	}
	return d
}

// rawCluster are the keys of an ipam section of type cluster besides those of [ipam.Raw].
type rawCluster struct {
	Generation int64 `json:"generation"`
}

// ParseIPAMOfCluster reads the ipam section of an overlay network without default gateways
// of some families. Without a section, all is as the cluster has it.
func ParseIPAMOfCluster(gateways ipam.Ungated) func(section json.RawMessage) (IPAM, error) {
	return func(section json.RawMessage) (IPAM, error) {
		return parseIPAMOfCluster(section, ipam.Raw{Ungated: gateways})
	}
}

func parseIPAMOfCluster(section json.RawMessage, raw ipam.Raw) (i IPAM, err error) {
	i.Type = IPAMCluster
	if len(section) == 0 || string(section) == "null" {
		i.Own, err = raw.Config()
		return i, err
	}
	head, err := Pick(section, "ipam", "type")
	if err != nil {
		return i, err
	}
	var kind string
	_ = json.Unmarshal(head["type"], &kind) // another type than text is none of ours
	if kind != IPAMCluster {
		return i, wire.Invalid("ipam.type", kind, `must be cluster with doverlay: the nodes of a cluster share a network's addresses`)
	}
	var own rawCluster
	keys, err := Keys(section, "ipam", append(Known(&raw), Known(&own)...))
	if err != nil {
		return i, err
	}
	for _, key := range []string{"allocation", "sticky", "dataDir"} {
		if _, given := keys[key]; given {
			return i, wire.Errorf(wire.CodeConfig, "ipam.%s: must not be given with doverlay: the cluster gives the addresses", key)
		}
	}
	if err := keys.Decode("ipam", &own); err != nil {
		return i, err
	}
	if err := keys.Decode("ipam", &raw); err != nil {
		return i, err
	}
	i.Generation = own.Generation
	i.Own, err = raw.Config()
	return i, err
}
