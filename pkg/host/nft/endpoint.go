package nft

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/wire"
)

// A portSet is where ports of one family are: on any address, and on one.
type portSet struct {
	wide, single string
	v6           bool
}

// published are the maps that rules look at, and relayed the sets of what dnetd
// passes on.
var published = []portSet{
	{firewall.MapPorts4, firewall.MapPorts4Addr, false},
	{firewall.MapPorts6, firewall.MapPorts6Addr, true},
	relayed,
}

var relayed = portSet{firewall.SetRelayed6, firewall.SetRelayed6Addr, true}

// portSetOf returns where an element's ports are.
func portSetOf(set string) portSet {
	i := slices.IndexFunc(published, func(p portSet) bool { return p.wide == set || p.single == set })
	return published[i]
}

// portSetNames returns the names of all.
func portSetNames() []string {
	var names []string
	for _, p := range published {
		names = append(names, p.wide, p.single)
	}
	return names
}

// ownedSets returns the names of the sets of what attachments have.
func ownedSets() []string {
	return slices.Concat(portSetNames(), firewall.GuardSets(), openSets(), memberSets(), linkSets())
}

// binding is one element of one port, and what is there under its key.
type binding struct {
	element
	portSet
	port *firewall.Port
	any  element  // the any-address binding of the same port, if this one is not it
	have *element // what is there, or nil
	rule *element // what is there under any, or nil
}

// bindings returns an endpoint's elements with their ports. Ports not yet chosen
// have none.
func bindings(e *firewall.Endpoint) []binding {
	list := make([]binding, 0, 2*len(e.Ports))
	for i := range e.Ports {
		p := &e.Ports[i]
		if p.HostPort == 0 {
			continue
		}
		for _, fe := range e.PortElements(i) {
			b := binding{element: encode(fe)[0], port: p, portSet: portSetOf(fe.Set)}
			if !p.Any() {
				b.any = encode(firewall.Element{Set: b.wide, Key: p.AnyKey()})[0]
			}
			list = append(list, b)
		}
	}
	return list
}

// getBindings fills in what is there, in one exchange: under all keys, or only
// the any-address bindings that stand in the way of others.
func (f *Firewall) getBindings(list []binding, all bool) error {
	keys := make([]element, 0, 2*len(list))
	for _, b := range list {
		if all {
			keys = append(keys, b.element)
		}
		if b.any.set != "" {
			keys = append(keys, b.any)
		}
	}
	found, err := f.get(keys)
	if err != nil {
		return err
	}
	for i := range list {
		b := &list[i]
		if all {
			b.have, found = found[0], found[1:]
		}
		if b.any.set != "" {
			b.rule, found = found[0], found[1:]
		}
	}
	return nil
}

// in reports whether the binding is there as it should be.
func (b *binding) in() bool {
	return b.have != nil && b.have.comment == b.comment && bytes.Equal(b.have.data, b.data)
}

// EnsureEndpoint publishes an endpoint's ports, all or none. Ports that are 0
// are chosen and written into e. The caller holds the host's lock on ports: it
// is what makes the look at other bindings and listeners hold until the commit.
//
// The cost does not depend on how many ports others have published on any
// address, but a binding to any address looks at all bindings to single ones:
// they are few (127.0.0.1, mostly), and no key finds them by port alone.
func (f *Firewall) EnsureEndpoint(e *firewall.Endpoint) (changed bool, err error) {
	return f.publish(e, "", f.mayExist)
}

// publish is EnsureEndpoint for an endpoint that takes over what the owner with a comment has,
// "" for none. all says whether to look at all bindings first.
func (f *Firewall) publish(e *firewall.Endpoint, from string, all bool) (changed bool, err error) {
	if err := e.Validate(); err != nil {
		return false, err
	}
	asked := slices.Clone(e.Ports)
	defer func() {
		if err != nil {
			copy(e.Ports, asked) // nothing was published: no port is chosen either
		}
	}()
	ports := &allocator{f: f, endpoint: e, from: from, fresh: !all}
	if err := ports.allocate(); err != nil {
		return false, err
	}
	list := bindings(e)
	changed, err = f.claim(ports, list, all)
	if errors.Is(err, unix.EEXIST) || isTaken(err) {
		// Taken, maybe by ourselves: this endpoint was ensured before.
		changed, err = f.claim(ports, list, getAll)
	}
	if errors.Is(err, unix.EEXIST) {
		err = f.findConflict(list)
	}
	return changed, err
}

// What to look at before ports are claimed. New ports, the usual case, need no
// look of their own: EXCL tells.
const (
	getRules = false
	getAll   = true
)

// claim adds what is missing of the bindings, all or nothing.
func (f *Firewall) claim(s *allocator, list []binding, all bool) (changed bool, err error) {
	if err := f.getBindings(list, all); err != nil {
		return false, err
	}
	add, stale, err := s.claims(list)
	if err != nil {
		return false, err
	}
	guards, staleGuards, err := f.guards(s.endpoint, list, add, all)
	if err != nil {
		return false, err
	}
	opened, staleOpened, err := f.differing(encodeAll(s.endpoint.Opened()))
	if err != nil || len(add)+len(guards)+len(opened) == 0 {
		return false, err
	}
	err = f.commit(func(b *Batch) error {
		b.elements(unix.NFT_MSG_DELSETELEM, 0, grouped(slices.Concat(stale, staleGuards, staleOpened)))
		b.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE|unix.NLM_F_EXCL, grouped(add))
		b.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, grouped(append(guards, opened...)))
		return nil
	})
	return err == nil, wrap("publish ports", err)
}

// findConflict names the port that a process without the lock took between the
// look and the commit.
func (f *Firewall) findConflict(list []binding) error {
	if err := f.getBindings(list, getAll); err != nil {
		return err
	}
	for _, b := range list {
		if b.have != nil && b.have.comment != b.comment {
			return allocated(b)
		}
	}
	return fmt.Errorf("publish ports: %w", unix.EEXIST)
}

// claims sorts the bindings: what to add, what of our own to delete first. It
// returns an error if a binding can't be had.
func (s *allocator) claims(list []binding) (add, stale []element, err error) {
	for _, b := range list {
		if b.in() {
			continue
		}
		if b.have != nil {
			if b.have.comment != b.comment {
				if !s.sharedBySibling(b) {
					return nil, nil, allocated(b)
				}
				if s.takesOver(b) {
					stale, add = append(stale, b.element), append(add, b.element)
				}
				continue
			}
			stale = append(stale, b.element) // ours, to an address we had before
		}
		if err := s.free(b, s.isSibling); err != nil {
			return nil, nil, err
		}
		add = append(add, b.element)
	}
	return add, stale, nil
}

// takesOver reports whether the endpoint takes a binding that a sibling has: from one that goes,
// or as the gateway endpoint.
func (s *allocator) takesOver(b binding) bool {
	if s.from != "" {
		return b.have.comment == s.from
	}
	return s.f.IsGatewayEndpoint != nil && s.f.IsGatewayEndpoint(s.endpoint.Owner, b.v6)
}

// allocated is Docker's text for a port that another container publishes, or a service.
func allocated(b binding) error {
	if b.have == nil {
		b.have = &element{}
	}
	return firewall.AllocatedTo(b.port.HostAddr(b.v6), b.comment, b.have.comment)
}

// mostSaid is how many ports that differ are told one by one.
const mostSaid = 20

// CheckEndpoint tells every difference between the endpoint and the maps; of many, how many.
func (f *Firewall) CheckEndpoint(e *firewall.Endpoint) error {
	list := bindings(e)
	if err := f.getBindings(list, getAll); err != nil {
		return err
	}
	ports := &allocator{f: f, endpoint: e}
	f.mayExist = getAll
	var errs []error
	for _, b := range list {
		what := "port " + b.port.HostAddr(b.v6) + "/" + b.port.Protocol
		switch {
		case b.in():
		case b.have == nil:
			errs = append(errs, fmt.Errorf("%s is not published", what))
		case b.have.comment != b.comment && ports.sharedBySibling(b):
		case b.have.comment != b.comment:
			errs = append(errs, fmt.Errorf("%s belongs to %q instead of %q", what, b.have.comment, b.comment))
		default:
			errs = append(errs, fmt.Errorf("%s leads to another address or port than its %d of the container", what, b.port.ContainerPort))
		}
	}
	if n := len(errs); n > mostSaid {
		errs = append(errs[:mostSaid], fmt.Errorf("and so on: %d of %d bindings differ", n, len(list)))
	}
	guards, _, err := f.guards(e, list, nil, getAll)
	if len(guards) > 0 {
		errs = append(errs, fmt.Errorf("%d published ports are not guarded", len(guards)))
	}
	opened, _, unread := f.differing(encodeAll(e.Opened()))
	if len(opened) > 0 {
		errs = append(errs, fmt.Errorf("%d ports of %s are not opened", len(opened), e.Owner))
	}
	return errors.Join(append(errs, err, unread)...)
}

// RemoveEndpoint takes an endpoint's ports back, if they are its own. It is nil
// if they are gone already. If a port is not known (0), all ports of the owner
// are looked for.
func (f *Firewall) RemoveEndpoint(e *firewall.Endpoint) error {
	unknown := func(p firewall.Port) bool { return p.HostPort == 0 }
	if slices.ContainsFunc(e.Bound(), unknown) {
		return f.RemoveByOwner(e.Owner)
	}
	return f.deleteOwn(encodeAll(slices.Concat(e.Elements(), e.Guards(), e.Opened())), isComment(firewall.Comment(e.Owner)))
}

func isComment(want string) func(string) bool {
	return func(comment string) bool { return comment == want }
}

// RemoveByOwner takes back all ports of an attachment.
func (f *Firewall) RemoveByOwner(owner wire.Attachment) error {
	return f.removeByComment(firewall.Comment(owner))
}

// removeByComment takes back all ports that carry a comment. It lists the maps: it
// is for attachments whose ports are not known any more.
func (f *Firewall) removeByComment(comment string) error {
	all, err := f.list(ownedSets()...)
	if err != nil {
		return err
	}
	ours := isComment(comment)
	return f.deleteOwn(slices.DeleteFunc(all, func(e element) bool { return !ours(e.comment) }), ours)
}

// Owners returns the comments of all published ports and members, sorted: those that
// [firewall.Comment] gives for their owners.
func (f *Firewall) Owners() ([]string, error) {
	all, err := f.list(ownedSets()...)
	if err != nil {
		return nil, err
	}
	ports, err := f.listOf(frameTable, firewall.FrameSets()...)
	return comments(append(all, ports...)), err
}

// networks returns the comments of all networks' bridges, sorted: those that
// [firewall.NetworkComment] gives for their names.
func (f *Firewall) networks() ([]string, error) {
	all, err := f.list(firewall.SetBridges, firewall.SetAdopted)
	for i := range all {
		all[i].comment = networkOf(all[i].comment)
	}
	return comments(all), err
}

func comments(all []element) []string {
	var list []string
	for _, e := range all {
		if e.comment != "" { // without a comment its owner is not known
			list = append(list, e.comment)
		}
	}
	slices.SortFunc(list, strings.Compare)
	return slices.Compact(list)
}
