package main

import (
	"slices"

	"dcni/pkg/names"
)

// remoteEntries are what answers to names of one network on other nodes, by container
// and interface.
type remoteEntries map[remoteKey]names.Entry

type remoteKey struct{ container, ifName string }

// setRemote has the containers of a network on other nodes found by exactly these
// entries. None of their interfaces may have the name of one on this node.
func (reg *registry) setRemote(network string, list []names.Entry) {
	now := make(remoteEntries, len(list))
	for _, e := range list {
		now[remoteKey{e.Container, e.IfName}] = e
	}
	reg.mu.Lock()
	before := reg.remote[network]
	changed := false
	for key := range before {
		if _, stays := now[key]; !stays {
			reg.table, changed = reg.table.Remove(network, key.container, key.ifName), true
		}
	}
	for key, e := range now {
		if old, known := before[key]; !known || !sameEntry(old, e) {
			reg.table, changed = reg.table.AddRemote(network, e), true
		}
	}
	if reg.remote[network] = now; len(now) == 0 {
		delete(reg.remote, network)
	}
	if changed {
		reg.changed[network] = true
	}
	reg.mu.Unlock()
	if changed {
		reg.publish()
	}
}

func sameEntry(a, b names.Entry) bool {
	return slices.Equal(a.Names, b.Names) && slices.Equal(a.Addresses, b.Addresses)
}
