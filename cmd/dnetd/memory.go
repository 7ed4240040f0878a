package main

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"dcni/pkg/dns"
	"dcni/pkg/host"
	"dcni/pkg/names"
	"dcni/pkg/wire"
)

// A memory is what dnetd answers from: sandboxes, what their attachments
// brought, and the names of all networks.
//
// A change touches the table and marks its network and its sandbox; show has the
// views of the one show the new table, and the other see what it is on now. In a
// burst of changes many are shown at once.
type memory struct {
	server *dns.Server
	vault  vault

	mu        sync.Mutex
	table     *names.Table
	sandboxes map[uint64]*sandbox          // by the cookie of the namespace
	owners    map[wire.Attachment]*sandbox // who brought something to which
	networks  map[string]map[*sandbox]bool // who is on which
	views     map[string]*view             // by their networks
	changed   map[string]bool              // networks that views are to show again
	stale     map[*sandbox]bool            // who may be on other networks now
}

// A view is seen by all sandboxes on the same networks: a new name is shown to
// them at once, however many they are.
type view struct {
	names *names.View
	key   string // of the memory's views
	users int
}

func newMemory(s *dns.Server, v vault) *memory {
	return &memory{
		server: s, vault: v, table: &names.Table{},
		sandboxes: map[uint64]*sandbox{}, owners: map[wire.Attachment]*sandbox{},
		networks: map[string]map[*sandbox]bool{},
		views:    map[string]*view{}, changed: map[string]bool{}, stale: map[*sandbox]bool{},
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
	m.showNames()
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
	m.changed[r.Owner.Network], m.stale[s] = true, true
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
	m.changed[owner.Network], m.stale[s] = true, true
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
	m.unsee(s)
	m.vault.drop(s.cookie)
	return []*sandbox{s}
}

// show has everybody see what has changed.
func (m *memory) show() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.showNames()
	for s := range m.stale {
		s.show(m.viewOf(s))
	}
	clear(m.stale)
}

// showNames has views show what has changed on their networks.
func (m *memory) showNames() {
	for _, v := range m.views {
		for network := range m.changed {
			if v.names.On(network) {
				v.names.Show(m.table)
				break
			}
		}
	}
	clear(m.changed)
}

// viewOf returns what a sandbox is answered from.
func (m *memory) viewOf(s *sandbox) dns.View {
	networks := s.networks()
	key := strings.Join(networks, "/") // no name has one in it
	if s.sees == nil || s.sees.key != key {
		m.unsee(s)
		v := m.views[key]
		if v == nil {
			v = &view{names: m.table.View(networks...), key: key}
			m.views[key] = v
		}
		v.users++
		s.sees = v
	}
	return dns.View{Names: s.sees.names, Own: s.upstream, Internal: s.internal()}
}

// unsee takes a sandbox's view from it, and forgets one that nobody has any more.
func (m *memory) unsee(s *sandbox) {
	v := s.sees
	if v == nil {
		return
	}
	s.sees = nil
	if v.users--; v.users == 0 {
		delete(m.views, v.key)
	}
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

// knows reports whether any attachment of a sandbox is known.
func (m *memory) knows(cookie uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sandboxes[cookie] != nil
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
