package container

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Wanted are the networks that a container is to be on when it is started again, in the order in
// which it was attached to them: those that it was run on and was connected to, without those that
// it was disconnected from.
type Wanted []Network

// ParseWanted reads what [Wanted.Encode] wrote. known is false where nothing was written.
func ParseWanted(data json.RawMessage) (w Wanted, known bool, err error) {
	if len(data) == 0 {
		return nil, false, nil
	}
	if err := json.Unmarshal(data, &w); err != nil {
		return nil, false, fmt.Errorf("wanted networks: %w", err)
	}
	return w, true, nil
}

// Encode returns the networks as a container's record has them.
func (w Wanted) Encode() (json.RawMessage, error) {
	if w == nil {
		w = Wanted{} // on none
	}
	return json.Marshal(w)
}

// Names returns the names of the networks.
func (w Wanted) Names() (list []string) {
	for _, n := range w {
		list = append(list, n.Name)
	}
	return list
}

// Has reports whether a network is among them.
func (w Wanted) Has(name string) bool { return slices.Contains(w.Names(), name) }

// With returns the networks with one more behind the others, in place of what was wanted of it.
func (w Wanted) With(n Network) Wanted { return append(w.Without(n.Name), n) }

// Without returns the networks without one.
func (w Wanted) Without(name string) Wanted {
	return slices.DeleteFunc(slices.Clone(w), func(n Network) bool { return n.Name == name })
}
