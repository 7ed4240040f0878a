package overlay

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"sync"

	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// A Claim is what an attachment asks for.
type Claim struct {
	Attachment wire.Attachment
	Generation int64        // of the network in the configuration; 0: of whichever there is
	Asked      []netip.Addr // addresses asked for by value
	Ranges     []ipam.Set   // capability ipRanges, see [ipam.Config.Ranges]; nil: the subnets
	MAC        string       // asked for; "": from the address
	Name       string       // the container's
	Names      []string     // by which others find it
	Ready      bool         // for connections, see [Endpoint]
	// Subnets are the network's in a configuration that was written for Generation, nil
	// where none was. The network is then read while the claim is made by these, and not
	// before.
	Subnets []ipam.Subnet
}

// A Claimed is what an attachment got.
type Claimed struct {
	Existing  // the network
	Addresses []ipam.Assigned
	MAC       string
	Again     bool // it had these already: an ADD before was killed
}

// probes is how many addresses a claim tries one by one before it asks for all that are
// in use: with few in use the first is free, and a list of thousands costs more than all
// of them.
const probes = 3

// Claim gives an attachment an address of each family of its network, by one transaction
// for all. Errors are of code 7 (no such network, or another one of its name by now), 101
// (an address asked for is another's) and 11 (none is left).
func (c Cluster) Claim(ctx context.Context, w Claim) (*Claimed, error) {
	if w.Generation != 0 && w.Subnets != nil {
		if got, err := c.claimConfigured(ctx, w); got != nil || err != nil {
			return got, err
		}
	}
	n, err := c.Network(ctx, w.Attachment.Network)
	if err != nil {
		return nil, err
	}
	if w.Generation != 0 && w.Generation != n.Generation {
		return nil, wire.Errorf(wire.CodeConfig, "network %q: it was removed and made again since this configuration was written (generation %d, now %d)",
			n.Name, w.Generation, n.Generation)
	}
	s, err := c.newSearch(w, n)
	if err != nil {
		return nil, err
	}
	var got *Claimed
	err = again(w.Attachment.String(), func() (bool, error) {
		got, err = s.try(ctx)
		return got != nil, err
	})
	return got, err
}

// claimConfigured tries once with the network as the configuration has it, which the
// store's must turn out to be. It returns nil where it is not, or where an address that
// was tried is not free.
func (c Cluster) claimConfigured(ctx context.Context, w Claim) (*Claimed, error) {
	var n Existing
	var unread error
	var reading sync.WaitGroup
	reading.Go(func() { n, unread = c.Network(ctx, w.Attachment.Network) })
	configured := Existing{Name: w.Attachment.Network, Generation: w.Generation}
	for _, s := range w.Subnets {
		configured.Subnets = append(configured.Subnets, subnetOf(s))
	}
	var got *Claimed
	s, err := c.newSearch(w, configured)
	if err == nil {
		got, err = s.try(ctx)
		if errors.Is(err, ErrUnavailable) {
			return nil, err
		}
	}
	reading.Wait()
	switch {
	case got == nil && s != nil && unread == nil && n.Generation == w.Generation:
		return nil, err
	case got == nil: // Claim reads it, and says what is wrong
		return nil, nil
	case unread == nil && n.Generation == w.Generation && slices.EqualFunc(n.Subnets, configured.Subnets, Subnet.equal):
		got.Existing = n
		return got, nil
	}
	return nil, errors.Join(unread, c.Release(ctx, w.Attachment))
}

// newSearch returns the search for a claim's addresses on a network.
func (c Cluster) newSearch(w Claim, n Existing) (*search, error) {
	s := &search{Cluster: c, Claim: w, net: n, used: map[netip.Addr]Owner{}}
	var err error
	if s.plan, err = n.IPAM().Plan(ipam.Request{Owner: w.Attachment, Static: w.Asked, Ranges: w.Ranges}); err != nil {
		return nil, err
	}
	for _, set := range s.plan.Sets {
		for _, span := range set {
			if !slices.ContainsFunc(n.Subnets, func(own Subnet) bool { return own.Prefix == span.Subnet }) {
				return nil, wire.Invalid("runtimeConfig.ipRanges", span.Subnet, "must be of a subnet of the network")
			}
		}
	}
	return s, nil
}

// A search is a claim on its way.
type search struct {
	Cluster
	Claim
	net   Existing
	plan  ipam.Plan
	tries int
	used  map[netip.Addr]Owner // as far as it knows; the owner may be zero
}

func (s *search) owner() Owner { return Owner{s.Node, AttachmentKey(s.Attachment)} }

// try claims what is free as far as it knows. It returns nil where that was not so, and
// knows more then.
func (s *search) try(ctx context.Context) (*Claimed, error) {
	assigned, ok, err := s.assign(ctx)
	if !ok || err != nil {
		return nil, err
	}
	ep := s.endpoint(assigned)
	free := make([]Entry, len(ep.Addresses))
	for i, a := range ep.Addresses {
		free[i].Key = s.Keys.Addr(s.net.Name, a)
	}
	done, _, err := s.Store.Commit(ctx, s.txn(s.net, s.owner(), ep, Entry{Key: s.key()}, free))
	if err != nil {
		return nil, err
	}
	if done {
		return &Claimed{Existing: s.net, Addresses: assigned, MAC: ep.MAC}, nil
	}
	return s.learn(ctx, assigned)
}

// assign chooses addresses that are free as far as it knows. It is not ok where none are, and
// knows more then.
func (s *search) assign(ctx context.Context) (assigned []ipam.Assigned, ok bool, err error) {
	assigned = slices.Clone(s.plan.Fixed)
	for _, set := range s.plan.Sets {
		a, found := s.pick(set)
		if !found && s.tries < probes { // what was used a moment ago may be free, and is not known to be
			return nil, false, s.listUsed(ctx)
		}
		if !found {
			if freed, err := s.freeLapsed(ctx, set.Contains); freed || err != nil {
				return nil, false, err
			}
			return nil, false, ipam.Exhausted(set.Family(), s.net.Name)
		}
		assigned = append(assigned, a)
	}
	s.plan.Sort(assigned)
	return assigned, true, nil
}

func (s *search) key() string {
	return s.Keys.Endpoint(s.net.Name, s.Node, AttachmentKey(s.Attachment))
}

// endpoint is the attachment with its addresses.
func (s *search) endpoint(assigned []ipam.Assigned) Endpoint {
	ep := network.Endpoint{Attachment: s.Attachment, MAC: s.MAC, Addresses: assigned}
	return Endpoint{
		Addresses: ep.IPs(), MAC: ep.SandboxMAC(), Container: s.Attachment.Container, IfName: s.Attachment.IfName,
		Name: s.Name, Names: s.Names, Ready: s.Ready, Since: s.now(),
	}
}

// pick returns a free address of the first span of a set that has one.
func (s *search) pick(set ipam.Set) (ipam.Assigned, bool) {
	for _, span := range set {
		a := s.free(span)
		if a.IsValid() {
			return ipam.Assigned{Address: netip.PrefixFrom(a, span.Subnet.Bits()), Gateway: span.Gateway}, true
		}
	}
	return ipam.Assigned{}, false
}

// free returns the first free address of a span from one on that is the attachment's own
// by its hash, so that nodes which claim at the same time rarely meet.
func (s *search) free(span ipam.Span) netip.Addr {
	first := start(span, AttachmentKey(s.Attachment)+s.Node)
	skip := func(a netip.Addr) bool {
		_, used := s.used[a]
		return used || s.plan.Reserved[a] != ""
	}
	for a := first; a.IsValid() && span.Contains(a); a = a.Next() {
		if !skip(a) {
			return a
		}
	}
	for a := span.From; a.Less(first); a = a.Next() {
		if !skip(a) {
			return a
		}
	}
	return netip.Addr{}
}

// start returns where in a span the search of an owner begins.
func start(span ipam.Span, owner string) netip.Addr {
	from, to := new(big.Int).SetBytes(span.From.AsSlice()), new(big.Int).SetBytes(span.To.AsSlice())
	size := to.Sub(to, from)
	size.Add(size, big.NewInt(1))
	hash := sha256.Sum256([]byte(owner))
	at := new(big.Int).SetUint64(binary.BigEndian.Uint64(hash[:]))
	at.Mod(at, size).Add(at, from)
	b := make([]byte, span.From.BitLen()/8)
	a, _ := netip.AddrFromSlice(at.FillBytes(b))
	return a
}

// learn finds out why a transaction was not done. It returns what the attachment has, if
// it has it: of an ADD that was killed.
func (s *search) learn(ctx context.Context, assigned []ipam.Assigned) (*Claimed, error) {
	if err := s.still(ctx); err != nil {
		return nil, err
	}
	own, err := s.get(ctx, s.key())
	if err != nil {
		return nil, err
	}
	if own.Modified != 0 {
		return s.takeOver(ctx, own)
	}
	return nil, s.learnUsed(ctx, assigned)
}

// still returns an error if the network is not the one that it was.
func (s *search) still(ctx context.Context) error {
	n, err := s.Network(ctx, s.net.Name)
	if err == nil && n.Generation != s.net.Generation {
		err = wire.Errorf(wire.CodeConfig, "network %q: it was removed and made again just now", n.Name)
	}
	return err
}

// learnUsed finds out which addresses were not free. Of one that was asked for it is an error.
func (s *search) learnUsed(ctx context.Context, assigned []ipam.Assigned) error {
	for _, a := range s.plan.Fixed {
		if err := s.checkAsked(ctx, a.Address.Addr()); err != nil {
			return err
		}
	}
	if s.tries++; s.tries >= probes {
		return s.listUsed(ctx)
	}
	for _, a := range assigned {
		if !slices.Contains(s.plan.Fixed, a) {
			s.used[a.Address.Addr()] = Owner{}
		}
	}
	return nil
}

// checkAsked returns an error if an address is another's, unless that one's node has been dead
// for so long that it is to be had.
func (s *search) checkAsked(ctx context.Context, a netip.Addr) error {
	e, err := s.get(ctx, s.Keys.Addr(s.net.Name, a))
	if err != nil || e.Modified == 0 {
		return err
	}
	s.used[a] = ParseOwner(e.Value)
	freed, err := s.freeLapsed(ctx, func(other netip.Addr) bool { return other == a })
	if freed || err != nil {
		return err
	}
	return ipam.InUse(a, "claimed by "+s.describe(ctx, s.net.Name, ParseOwner(e.Value)))
}

// describe names an owner for people.
func (c Cluster) describe(ctx context.Context, network string, o Owner) string {
	if o.OfService() {
		return "service " + o.Attachment
	}
	e, err := c.Store.Get(ctx, c.Keys.Endpoint(network, o.Node, o.Attachment))
	if err == nil {
		if p, err := c.Keys.placed(network, e); err == nil && (p.OfNode() || p.OfIngress()) {
			return fmt.Sprintf("node %s itself", o.Node)
		} else if err == nil {
			return fmt.Sprintf("%s/%s on node %s", p.Container, p.IfName, o.Node)
		}
	}
	return fmt.Sprintf("%s on node %s", o.Attachment, o.Node)
}

// takeOver claims what the attachment has already. Of other addresses than asked for it
// gives them back, and the search goes on.
func (s *search) takeOver(ctx context.Context, own Entry) (*Claimed, error) {
	ep, err := read[Endpoint](own)
	if err != nil {
		return nil, err
	}
	plan, err := s.net.IPAM().Plan(ipam.Request{Owner: s.Attachment, Static: ep.Addresses, Ranges: s.Ranges})
	if err != nil || !s.suits(ep, plan) {
		return nil, s.Release(ctx, s.Attachment)
	}
	plan.Sort(plan.Fixed)
	now := s.endpoint(plan.Fixed)
	conflicts, done, err := s.hold(ctx, s.net, now, own)
	switch {
	case err != nil:
		return nil, err
	case len(conflicts) > 0:
		return nil, s.Release(ctx, s.Attachment)
	case !done:
		return nil, nil
	}
	return &Claimed{Existing: s.net, Addresses: plan.Fixed, MAC: now.MAC, Again: true}, nil
}

// suits reports whether an endpoint has what the claim asks for: the addresses that it
// names, and one of each other set.
func (s *search) suits(ep Endpoint, plan ipam.Plan) bool {
	for _, a := range s.plan.Fixed {
		if !slices.Contains(ep.Addresses, a.Address.Addr()) {
			return false
		}
	}
	for _, set := range s.plan.Sets {
		if !slices.ContainsFunc(ep.Addresses, set.Contains) {
			return false
		}
	}
	return len(plan.Sets) == 0 && len(ep.Addresses) == len(s.plan.Fixed)+len(s.plan.Sets)
}

// listUsed learns which addresses are in use.
func (s *search) listUsed(ctx context.Context) error {
	s.tries = probes
	clear(s.used)
	prefix := s.Keys.Addr(s.net.Name, netip.Addr{})
	entries, err := s.list(ctx, prefix)
	var errs []error
	for _, e := range entries {
		a, err := netip.ParseAddr(e.Key[len(prefix):])
		errs = append(errs, err)
		s.used[a] = ParseOwner(e.Value)
	}
	return errors.Join(append(errs, err)...)
}
