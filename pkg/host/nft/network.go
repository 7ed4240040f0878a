package nft

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/nlsock"
	"dcni/pkg/wire"
)

// networkSets hold what networks put in. masquerade4 and 6 list a range's start
// and end as elements of their own.
var networkSets = []string{
	firewall.SetBridges, firewall.SetAdopted, firewall.SetICC, firewall.SetInternal, firewall.SetMasqueraded, firewall.SetOverlays, firewall.SetHosts, firewall.MapSelf4, firewall.MapSelf6,
	firewall.SetUnprotected, firewall.SetRouted, firewall.SetTrusted, firewall.SetApart,
	firewall.MapSNAT4, firewall.MapSNAT6, firewall.SetSubnets4, firewall.SetSubnets6, firewall.SetMasquerade4, firewall.SetMasquerade6,
}

// EnsureNetwork puts a network's elements in, and takes out those that an
// earlier configuration of it left. The caller holds the network's lock.
func (f *Firewall) EnsureNetwork(n *firewall.Network) (changed bool, err error) {
	want := encodeAll(n.Elements())
	if in, err := f.networkIn(want); in || err != nil {
		return false, err
	}
	all, err := f.list(networkSets...)
	if err != nil {
		return false, err
	}
	if owner, taken := bridgeOwner(n, all); taken {
		return false, wire.Invalid("bridge", n.Bridge, fmt.Sprintf("must not be the bridge of another network: %s has it", owner))
	}
	add, stale := networkChange(n, want, all)
	err = f.commit(func(b *Batch) error {
		b.elements(unix.NFT_MSG_DELSETELEM, 0, stale)
		b.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE|unix.NLM_F_EXCL, add)
		return nil
	})
	if errors.Is(err, unix.EEXIST) {
		return false, wire.Invalid("subnets", fmt.Sprint(n.Subnets), "must not overlap those of another network")
	}
	return err == nil, wrap("put network "+n.Name+" in", err)
}

// networkIn reports whether a network is as wanted. The bridge's comment has a
// digest of all the rest: what is too much shows there. The ends of ranges are
// not looked up: where the next range begins, the kernel may answer with that.
func (f *Firewall) networkIn(want []element) (bool, error) {
	want = slices.DeleteFunc(slices.Clone(want), func(e element) bool { return e.end })
	found, err := f.get(want)
	if err != nil {
		return false, err
	}
	for i, w := range want {
		if found[i] == nil || found[i].comment != w.comment || !bytes.Equal(found[i].data, w.data) {
			return false, nil
		}
	}
	return true, nil
}

// ofNetwork returns whether a comment is that of a network's element.
func ofNetwork(name string) func(comment string) bool {
	base := firewall.NetworkComment(name)
	return func(comment string) bool { return comment == base || networkOf(comment) == base }
}

// networkOf returns the network's part of a bridge's comment.
func networkOf(comment string) string {
	name, _, _ := strings.Cut(comment, " ")
	return name
}

// bridgeOwner returns which other network has the bridge.
func bridgeOwner(n *firewall.Network, all []element) (owner string, taken bool) {
	ours, bridge := ofNetwork(n.Name), ifNameBytes(n.Bridge)
	for _, e := range all {
		claims := e.set == firewall.SetBridges || e.set == firewall.SetAdopted
		if claims && bytes.HasPrefix(e.key, bridge) && !ours(e.comment) {
			return networkOf(e.comment), true
		}
	}
	return "", false
}

// networkChange compares what is wanted with all that the network has: what to
// add, and what to delete first.
func networkChange(n *firewall.Network, want, all []element) (add, stale []element) {
	keep := make(map[elementID]bool)
	wanted := make(map[elementID]element, len(want))
	for _, w := range want {
		wanted[w.id()] = w
	}
	for _, e := range ownRanges(all, ofNetwork(n.Name)) {
		w, ok := wanted[e.id()]
		if ok && (w.end || w.comment == e.comment && bytes.Equal(w.data, e.data)) {
			keep[e.id()] = true
		} else {
			stale = append(stale, e)
		}
	}
	for _, w := range want {
		if !keep[w.id()] {
			add = append(add, w)
		}
	}
	return add, stale
}

// ownRanges picks the elements whose comment is ours out of listed sets. The end
// of a range has no comment: it is the next end behind the range's start.
func ownRanges(all []element, ours func(string) bool) []element {
	var list []element
	for _, e := range all {
		if e.end || !ours(e.comment) {
			continue
		}
		list = append(list, e)
		if end := endOf(e, all); end != nil {
			list = append(list, *end)
		}
	}
	return list
}

func endOf(start element, all []element) (end *element) {
	if !isRange()[start.set] {
		return nil
	}
	for _, e := range all {
		if e.set == start.set && e.end && bytes.Compare(e.key, start.key) > 0 &&
			(end == nil || bytes.Compare(e.key, end.key) < 0) {
			end = &e
		}
	}
	return end
}

// CheckNetwork tells every difference between the network and the sets. Mostly
// there is none, which a few keys tell, at a cost that does not depend on how
// many networks there are.
func (f *Firewall) CheckNetwork(n *firewall.Network) error {
	errs := []error{f.checkBase()}
	if in, err := f.networkIn(encodeAll(n.Elements())); in && err == nil {
		return errors.Join(errs...)
	}
	all, err := f.list(networkSets...)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	if owner, taken := bridgeOwner(n, all); taken {
		errs = append(errs, fmt.Errorf("bridge %s belongs to network %q", n.Bridge, owner))
	}
	add, stale := networkChange(n, encodeAll(n.Elements()), all)
	for _, e := range add {
		errs = append(errs, fmt.Errorf("set %s lacks an element of network %s", e.set, n.Name))
	}
	for _, e := range stale {
		errs = append(errs, fmt.Errorf("set %s has an element of network %s too much", e.set, n.Name))
	}
	return errors.Join(errs...)
}

// RemoveNetwork takes out all that carries the network's name, whatever its
// configuration was.
func (f *Firewall) RemoveNetwork(n *firewall.Network) error {
	for try := 1; ; try++ {
		all, err := f.list(networkSets...)
		if err != nil {
			return err
		}
		err = f.commit(func(b *Batch) error {
			b.elements(unix.NFT_MSG_DELSETELEM, 0, ownRanges(all, ofNetwork(n.Name)))
			return nil
		})
		if err == nil || !errors.Is(err, unix.ENOENT) || try == deleteTries {
			return wrap("take network "+n.Name+" out", err)
		}
	}
}

func (f *Firewall) checkInternal(o *firewall.InternalBridge) error {
	e := firewall.Element{Set: firewall.SetInternal, Key: []fmt.Stringer{firewall.IfName(o.Bridge)}}
	found, err := f.get(encode(e))
	if err == nil && found[0] == nil {
		return firewall.ErrNotInternal
	}
	return err
}

// checkRouter tells the families that the rules should close the host for and do not.
func (f *Firewall) checkRouter(o *firewall.Router) error {
	var errs []error
	for _, family := range o.Closed {
		found, err := f.get(encode(firewall.Closed(family)))
		if err == nil && found[0] == nil {
			err = fmt.Errorf("the host is open as a router of %s", family)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// uninstall deletes the table if no network is in it and no service has a port, it closes the host for no family,
// the users' chain has no rule, and the table is dcni's. The caller holds the lock of the firewall.
func (f *Firewall) uninstall() error {
	bridges, err := f.list(firewall.SetBridges, firewall.SetAdopted)
	if errors.Is(err, unix.ENOENT) || len(bridges) > 0 {
		return nil
	}
	if err != nil {
		return err
	}
	ports, err := f.list(ingressMaps()...)
	if err != nil || len(ports) > 0 {
		return err // services keep their ports
	}
	closed, err := f.list(firewall.SetClosed)
	if err != nil || len(closed) > 0 {
		return err // the host would become a router
	}
	users, version, err := f.userRules()
	if err != nil || users > 0 || !firewall.IsVersion(version) && !f.hasChains() {
		return err
	}
	err = f.commit(func(b *Batch) error {
		b.Change(unix.NFT_MSG_DELTABLE, 0, func(m *nlsock.Message) { m.Str(unix.NFTA_TABLE_NAME, firewall.TableName) })
		return nil
	})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return wrap("delete table", err)
}

// hasChains reports whether the table has all of dcni's chains, as it has after its rules were flushed.
func (f *Firewall) hasChains() bool {
	unlock, err := f.lock()
	if err != nil {
		return false
	}
	defer unlock()
	have, err := f.state()
	return err == nil && len(have.uses) == len(firewall.ChainUses)
}

// userRules counts the rules that users have added, and returns the rules' version.
func (f *Firewall) userRules() (count int, version string, err error) {
	unlock, err := f.lock()
	if err != nil {
		return 0, "", err
	}
	defer unlock()
	payloads, err := f.conn.Dump(f.request(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, func(m *nlsock.Message) {
		m.Str(unix.NFTA_RULE_TABLE, firewall.TableName)
	}))
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return 0, "", fmt.Errorf("list rules: %w", UnsupportedSubsystem(err))
	}
	counts, version := countRules(payloads)
	return counts[firewall.UserChain], version, nil
}
