package main

import (
	"errors"
	"maps"
	"slices"
	"sync"

	"dcni/pkg/dns"
	"dcni/pkg/host"
	"dcni/pkg/names"
	"dcni/pkg/wire"
)

// A memory is what dnetd answers from: sandboxes, what their attachments
// brought, and the names of all networks.
//
// A change touches the table and marks the sandboxes on its network; show
// gives each of these its new view. In a burst of changes many are shown at
// once.
type memory struct {
	server *dns.Server
	vault  vault

	mu        sync.Mutex
	table     *names.Table
	sandboxes map[uint64]*sandbox          // by the cookie of the namespace
	owners    map[wire.Attachment]*sandbox // who brought something to which
	networks  map[string]map[*sandbox]bool // who is on which
	stale     map[*sandbox]bool            // whose view is to be made again
}

func newMemory(s *dns.Server, v vault) *memory {
	return &memory{
		server: s, vault: v, table: &names.Table{},
		sandboxes: map[uint64]*sandbox{}, owners: map[wire.Attachment]*sandbox{},
		networks: map[string]map[*sandbox]bool{}, stale: map[*sandbox]bool{},
	}
}

// An arrival is what an attachment brings, with sockets of its sandbox or
// without. A port of 0 is no socket.
type arrival struct {
	resolver *names.Resolver
	sockets  [families]host.NameServer
}

// closeSockets closes what nobody will serve.
func (a arrival) closeSockets() {
	for _, s := range a.sockets {
		if s.Port != 0 {
			s.Close()
		}
	}
}

// add serves attachments, in place of what they brought before. It owns the
// sockets from now on, and closes those of sandboxes that have some. All names
// are known before the first socket is read.
func (m *memory) add(list ...arrival) error {
	var closing []*sandbox
	m.mu.Lock()
	for _, a := range list {
		closing = append(closing, m.know(a.resolver)...)
	}
	var errs []error
	for _, a := range list {
		errs = append(errs, m.sandboxes[a.resolver.Cookie].open(m, a.sockets))
	}
	m.mu.Unlock()
	m.show()
	closeAll(closing)
	return errors.Join(errs...)
}

// know learns of one attachment. It returns the sandboxes that nothing is left
// of: the attachment has moved to another.
func (m *memory) know(r *names.Resolver) (closing []*sandbox) {
	if old := m.owners[r.Owner]; old != nil && old.cookie != r.Cookie {
		closing = m.forget(r.Owner)
	}
	s := m.sandboxes[r.Cookie]
	if s == nil {
		s = newSandbox(r.Cookie)
		m.sandboxes[r.Cookie] = s
	}
	s.put(r)
	m.owners[r.Owner] = s
	m.table = m.table.Add(r.Network(), r.Entry())
	members := m.networks[r.Owner.Network]
	if members == nil {
		members = map[*sandbox]bool{}
		m.networks[r.Owner.Network] = members
	}
	members[s] = true
	m.mark(r.Owner.Network)
	return closing
}

// remove forgets attachments, and closes the sockets of sandboxes that nothing
// is left of.
func (m *memory) remove(owners ...wire.Attachment) {
	var closing []*sandbox
	m.mu.Lock()
	for _, owner := range owners {
		closing = append(closing, m.forget(owner)...)
	}
	m.mu.Unlock()
	m.show()
	closeAll(closing)
}

// forget is remove for one, of which it may not know. What it returns is to be
// closed.
func (m *memory) forget(owner wire.Attachment) (closing []*sandbox) {
	s := m.owners[owner]
	if s == nil {
		return nil
	}
	delete(m.owners, owner)
	s.drop(owner)
	m.mark(owner.Network)
	m.table = m.table.Remove(owner.Network, owner.Container, owner.IfName)
	if !s.on(owner.Network) {
		delete(m.networks[owner.Network], s)
		if len(m.networks[owner.Network]) == 0 {
			delete(m.networks, owner.Network)
		}
	}
	if len(s.resolvers) > 0 {
		return nil
	}
	delete(m.sandboxes, s.cookie)
	delete(m.stale, s)
	m.vault.drop(s.cookie)
	return []*sandbox{s}
}

// mark has the sandboxes on a network get new views.
func (m *memory) mark(network string) {
	for s := range m.networks[network] {
		m.stale[s] = true
	}
}

// show gives new views to who is marked.
func (m *memory) show() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s := range m.stale {
		s.show(m.table)
	}
	clear(m.stale)
}

// closeAll closes the sockets of sandboxes that are in no memory any more.
func closeAll(list []*sandbox) {
	for _, s := range list {
		s.close()
	}
}

// count returns how many sandboxes there are.
func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.sandboxes)
}

// networkCount returns how many networks they are on.
func (m *memory) networkCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.networks)
}

// ports returns the ports of a sandbox's sockets; 0: none.
func (m *memory) ports(cookie uint64) (four, six uint16) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.sandboxes[cookie]; s != nil {
		return s.ears[names.IPv4].port, s.ears[names.IPv6].port
	}
	return 0, 0
}

// get returns what an attachment brought, or nil.
func (m *memory) get(owner wire.Attachment) *names.Resolver {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.owners[owner]; s != nil {
		own := *s.of(owner)
		return &own
	}
	return nil
}

// attachments returns who is known.
func (m *memory) attachments() []wire.Attachment {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.owners))
}

// all returns the sandboxes.
func (m *memory) all() []*sandbox {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.sandboxes))
}

// ownersOf returns the attachments of a sandbox.
func (m *memory) ownersOf(s *sandbox) (list []wire.Attachment) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range s.resolvers {
		list = append(list, r.Owner)
	}
	return list
}

// pathsOf returns where a sandbox is said to be.
func (m *memory) pathsOf(s *sandbox) (list []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range s.resolvers {
		list = append(list, r.NetNS)
	}
	return list
}

// served calls f for everything that is read, with one sandbox at a time kept
// from changing: f may take a while.
func (m *memory) served(f func(storeKey, *dns.Endpoint)) {
	for _, s := range m.all() {
		m.mu.Lock()
		if m.sandboxes[s.cookie] == s {
			for family, e := range s.ears {
				if e.endpoint != nil {
					f(storeKey{s.cookie, names.Family(family)}, e.endpoint)
				}
			}
		}
		m.mu.Unlock()
	}
}
