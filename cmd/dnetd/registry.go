package main

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"dcni/pkg/dns"
	"dcni/pkg/host/dnssock"
	"dcni/pkg/host/gateways"
	"dcni/pkg/names"
	"dcni/pkg/wire"
)

// A registry has what dnetd answers from: sandboxes, the resolvers that their
// attachments registered, and the names of all networks.
//
// A change updates the table and marks its network and its sandbox as changed.
// publish then shows the new table to the views of these networks, or to all views if
// the subnets of the networks have changed, and gives these sandboxes the view of the
// networks that they are on now. A burst of changes is published at once.
type registry struct {
	server      *dns.Server
	socketStore socketStore
	gateways    *gateways.Gateways

	mu        sync.Mutex
	table     *names.Table
	shown     *names.Table                 // what publishNames showed last
	sandboxes map[uint64]*sandbox          // by the cookie of the namespace
	owners    map[wire.Attachment]*sandbox // attachments, and the sandbox of each
	networks  map[string]map[*sandbox]bool // the sandboxes on each network
	views     map[string]*view             // by their networks
	remote    map[string]remoteEntries     // of overlay networks: what is on other nodes
	changed   map[string]bool              // networks that are to be published
	stale     map[*sandbox]bool            // sandboxes that may be on other networks now
}

// A view is what all sandboxes on the same networks share: a new name is shown to
// them at once, however many they are.
type view struct {
	names *names.View
	key   string // of the registry's views
	users int    // sandboxes
}

func newRegistry(s *dns.Server, store socketStore, log *slog.Logger) *registry {
	empty := &names.Table{}
	return &registry{
		server: s, socketStore: store, gateways: gateways.New(s, log), table: empty, shown: empty,
		sandboxes: map[uint64]*sandbox{}, owners: map[wire.Attachment]*sandbox{},
		networks: map[string]map[*sandbox]bool{}, remote: map[string]remoteEntries{},
		views: map[string]*view{}, changed: map[string]bool{}, stale: map[*sandbox]bool{},
	}
}

// A registration is an attachment's resolver, with sockets of its sandbox or
// without. A port of 0 is no socket.
type registration struct {
	resolver *names.Resolver
	sockets  [families]dnssock.NameServer
}

// closeSockets closes sockets that will not be served.
func (r registration) closeSockets() {
	for _, s := range r.sockets {
		if s.Port != 0 {
			s.Close()
		}
	}
}

// add registers attachments, in place of what they registered before. The sockets
// are the registry's from now on; it closes those of sandboxes that have some. All
// names are published before the first socket is read.
func (reg *registry) add(list ...registration) error {
	var closing []*sandbox
	reg.mu.Lock()
	for _, r := range list {
		closing = append(closing, reg.register(r.resolver)...)
	}
	reg.publishNames()
	var errs []error
	for _, r := range list {
		s := reg.sandboxes[r.resolver.Cookie]
		errs = append(errs, s.open(reg, r.sockets))
		reg.gateways.Put(s, r.resolver)
	}
	reg.mu.Unlock()
	reg.publish()
	closeAll(closing)
	return errors.Join(errs...)
}

// register registers one attachment. If the attachment has moved from another
// sandbox and was the last one there, that sandbox is returned, to be closed.
func (reg *registry) register(r *names.Resolver) (closing []*sandbox) {
	if old := reg.owners[r.Owner]; old != nil && old.cookie != r.Cookie {
		closing = reg.unregister(r.Owner)
	}
	s := reg.sandboxes[r.Cookie]
	if s == nil {
		s = newSandbox(r.Cookie)
		reg.sandboxes[r.Cookie] = s
	}
	s.put(r)
	reg.owners[r.Owner] = s
	reg.table = reg.table.Add(r.Network(), r.Entry())
	members := reg.networks[r.Owner.Network]
	if members == nil {
		members = map[*sandbox]bool{}
		reg.networks[r.Owner.Network] = members
	}
	members[s] = true
	reg.changed[r.Owner.Network], reg.stale[s] = true, true
	return closing
}

// remove unregisters attachments, and closes the sockets of sandboxes that have
// no other.
func (reg *registry) remove(owners ...wire.Attachment) {
	var closing []*sandbox
	reg.mu.Lock()
	for _, owner := range owners {
		closing = append(closing, reg.unregister(owner)...)
	}
	reg.mu.Unlock()
	reg.publish()
	closeAll(closing)
}

// unregister is remove for one attachment, which may not be registered. The caller
// closes the sandboxes that it returns.
func (reg *registry) unregister(owner wire.Attachment) (closing []*sandbox) {
	s := reg.owners[owner]
	if s == nil {
		return nil
	}
	delete(reg.owners, owner)
	reg.gateways.Drop(owner)
	s.drop(owner)
	reg.changed[owner.Network], reg.stale[s] = true, true
	reg.table = reg.table.Remove(owner.Network, owner.Container, owner.IfName)
	if !s.on(owner.Network) {
		delete(reg.networks[owner.Network], s)
		if len(reg.networks[owner.Network]) == 0 {
			delete(reg.networks, owner.Network)
		}
	}
	if len(s.resolvers) > 0 {
		return nil
	}
	delete(reg.sandboxes, s.cookie)
	delete(reg.stale, s)
	reg.releaseView(s)
	reg.socketStore.drop(s.cookie)
	return []*sandbox{s}
}

// publish shows what has changed to the sandboxes.
func (reg *registry) publish() {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	reg.publishNames()
	for s := range reg.stale {
		s.setView(reg.viewOf(s))
	}
	clear(reg.stale)
}

// publishNames shows the table to views whose networks have changed. Each view has the
// subnets of all networks, so it shows a table with other subnets to all views.
func (reg *registry) publishNames() {
	everywhere := !reg.table.SameSubnets(reg.shown)
	for _, v := range reg.views {
		if everywhere || v.names.OnAny(reg.changed) {
			v.names.Show(reg.table)
		}
	}
	clear(reg.changed)
	reg.shown = reg.table
}

// viewOf returns the view that a sandbox is answered from.
func (reg *registry) viewOf(s *sandbox) dns.View {
	networks := s.networks()
	key := strings.Join(networks, "/") // no name has one in it
	links := s.links()
	if len(links) > 0 { // its own names: no other sandbox shares the view
		key = fmt.Sprintf("%s/ %d %v", key, s.cookie, links)
	}
	if s.view == nil || s.view.key != key {
		reg.releaseView(s)
		v := reg.views[key]
		if v == nil {
			v = &view{names: reg.table.ViewWithLinks(links, networks...), key: key}
			reg.views[key] = v
		}
		v.users++
		s.view = v
	}
	return dns.View{Names: s.view.names, Own: s.upstream, Internal: s.internal()}
}

// releaseView takes a sandbox's view from it, and deletes a view that no sandbox
// has any more.
func (reg *registry) releaseView(s *sandbox) {
	v := s.view
	if v == nil {
		return
	}
	s.view = nil
	if v.users--; v.users == 0 {
		delete(reg.views, v.key)
	}
}

// closeAll closes the sockets of sandboxes that are not in the registry any more.
func closeAll(list []*sandbox) {
	for _, s := range list {
		s.close()
	}
}

// setServices has the containers of a network find its services by these names.
func (reg *registry) setServices(network string, hosts []names.HostEntry) {
	reg.mu.Lock()
	reg.table = reg.table.WithServices(network, hosts)
	reg.changed[network] = true
	reg.mu.Unlock()
	reg.publish()
}

// count returns how many sandboxes there are.
func (reg *registry) count() int {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	return len(reg.sandboxes)
}

// networkCount returns how many networks the sandboxes are on.
func (reg *registry) networkCount() int {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	return len(reg.networks)
}

// knows reports whether any attachment of a sandbox is registered.
func (reg *registry) knows(cookie uint64) bool {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	return reg.sandboxes[cookie] != nil
}

// ports returns the ports of a sandbox's sockets; 0: none.
func (reg *registry) ports(cookie uint64) (four, six uint16) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	if s := reg.sandboxes[cookie]; s != nil {
		return s.sockets[names.IPv4].port, s.sockets[names.IPv6].port
	}
	return 0, 0
}

// get returns an attachment's resolver, or nil.
func (reg *registry) get(owner wire.Attachment) *names.Resolver {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	if s := reg.owners[owner]; s != nil {
		own := *s.of(owner)
		return &own
	}
	return nil
}

// attachments returns the registered attachments.
func (reg *registry) attachments() []wire.Attachment {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	return slices.Collect(maps.Keys(reg.owners))
}

// all returns the sandboxes.
func (reg *registry) all() []*sandbox {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	return slices.Collect(maps.Values(reg.sandboxes))
}

// ownersOf returns the attachments of a sandbox.
func (reg *registry) ownersOf(s *sandbox) (list []wire.Attachment) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	for _, r := range s.resolvers {
		list = append(list, r.Owner)
	}
	return list
}

// pathsOf returns the paths that a sandbox's attachments name for it.
func (reg *registry) pathsOf(s *sandbox) (list []string) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	for _, r := range s.resolvers {
		list = append(list, r.NetNS)
	}
	return list
}

// eachEndpoint calls f for each endpoint. Only while it calls f for the endpoints
// of a sandbox is the registry locked: f may take a while.
func (reg *registry) eachEndpoint(f func(storeKey, *dns.Endpoint)) {
	for _, s := range reg.all() {
		reg.mu.Lock()
		if reg.sandboxes[s.cookie] == s {
			for family, e := range s.sockets {
				if e.endpoint != nil {
					f(storeKey{s.cookie, names.Family(family)}, e.endpoint)
				}
			}
		}
		reg.mu.Unlock()
	}
}
