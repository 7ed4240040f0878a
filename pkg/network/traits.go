package network

import "cmp"

// Traits are what a plugin further down the chain wants to know of a network
// that another one has made. They are on record for it.
type Traits struct {
	Quiet    bool `json:"quiet,omitempty"`      // containers have no names unless asked for, as on Docker's default bridge
	Internal bool `json:"internal,omitempty"`   // the network leads nowhere
	Priority int  `json:"gwPriority,omitempty"` // the highest of a sandbox's networks is its way out
}

// And returns what two plugins of one chain say together.
func (t Traits) And(other Traits) Traits {
	return Traits{t.Quiet || other.Quiet, t.Internal || other.Internal, cmp.Or(t.Priority, other.Priority)}
}
