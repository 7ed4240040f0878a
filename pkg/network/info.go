package network

import "cmp"

// Info is what a plugin further down the chain must know of a network that
// another one has made. It is on record for that one.
type Info struct {
	NoNames  bool `json:"quiet,omitempty"`      // containers have no names unless asked for, as on Docker's default bridge
	Internal bool `json:"internal,omitempty"`   // the network leads nowhere
	Priority int  `json:"gwPriority,omitempty"` // the sandbox's gateway is of the network with the highest
	Names    bool `json:"names,omitempty"`      // the plugin itself sees to it that containers find names
	// OwnSubnets says that the network's subnets are no other's: no name server elsewhere
	// knows an address of them.
	OwnSubnets bool `json:"ownSubnets,omitempty"`
}

// And returns what two plugins of one chain say together.
func (i Info) And(other Info) Info {
	return Info{
		NoNames: i.NoNames || other.NoNames, Internal: i.Internal || other.Internal,
		Priority: cmp.Or(i.Priority, other.Priority), Names: i.Names || other.Names,
		OwnSubnets: i.OwnSubnets || other.OwnSubnets,
	}
}
