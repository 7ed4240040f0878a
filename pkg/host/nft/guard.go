package nft

import "dcni/pkg/firewall"

// guards returns the guards of an endpoint's ports that are missing, for those ports
// that are its own or are about to be, and those of others that they replace. Of new
// ports, the usual case, it looks none up.
func (f *Firewall) guards(e *firewall.Endpoint, list []binding, add []element, all bool) (missing, stale []element, err error) {
	own := make(map[elementID]bool, len(list))
	for _, a := range add {
		own[guardID(a)] = true
	}
	for _, b := range list {
		if b.in() {
			own[guardID(b.element)] = true
		}
	}
	for _, guard := range encodeAll(e.Guards()) {
		if own[guard.id()] {
			missing = append(missing, guard)
		}
	}
	if !all {
		return missing, nil, nil
	}
	return f.differing(missing)
}

// guardID returns what the guard of a published port is told by.
func guardID(port element) elementID {
	return elementID{set: firewall.GuardSet(port.set), key: string(port.key)}
}
