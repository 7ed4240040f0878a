package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dcni/pkg/cni"
	"dcni/pkg/mode"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
	"dcni/pkg/records"
	"dcni/pkg/records/leases"
	"dcni/pkg/records/registry"
	"dcni/pkg/wire"
)

func newRemoveCommand(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:                   "rm [OPTIONS] NETWORK|CONTAINER [NETWORK|CONTAINER...]",
		Aliases:               []string{"remove"},
		Short:                 "Remove networks, or forget containers of dnet run that have ended",
		Args:                  atLeast(1),
		RunE:                  func(_ *cobra.Command, args []string) error { return a.removeAll(args, force) },
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Do not error if the network does not exist")
	return cmd
}

// removeAll removes networks one after the other, and goes on past errors. A word that is no
// network's may be a container's.
func (a *app) removeAll(words []string, force bool) error {
	a.heal()                    // a container whose dnet was killed must not count as attached
	all, err := a.allNetworks() // prints the warnings about files once
	if err != nil {
		return err
	}
	m, err := a.openHost(a.store)
	if err != nil {
		return err
	}
	defer m.Close()
	status := 0
	for i, word := range words {
		a.waiting("removing %s (%d of %d)", word, i+1, len(words))
		err := a.removeWord(m, all, word)
		if notFound := (*catalog.NotFoundError)(nil); errors.As(err, &notFound) {
			if _, none := a.findContainer(word); none == nil {
				err = a.removeEnded(word)
			} else if force {
				continue
			}
		}
		if err != nil {
			a.printError(err)
			status = statusError
			continue
		}
		fmt.Fprintln(a.out(true), word)
	}
	if status != 0 {
		return &statusErr{status: status}
	}
	return nil
}

// removeWord removes the network that a word means, or forgets the container: what is called
// so comes before a network whose ID begins so.
func (a *app) removeWord(m machine, all []Network, word string) error {
	if a.meantContainer(all, word) != nil {
		return a.removeEnded(word)
	}
	return a.remove(m, word)
}

// meantContainer returns the container that a word is the name or the whole ID of, nil if
// there is none or a network is called so.
func (a *app) meantContainer(all []Network, word string) *records.Container {
	c, err := a.findContainer(word)
	if err != nil || c.Name != word && c.ID != word {
		return nil
	}
	if slices.ContainsFunc(all, func(n Network) bool { return n.Name == word || network.ID(n.Name) == word }) {
		return nil
	}
	return c
}

// removeEnded forgets a container that has ended. A word of `dnet rm` may be a network's that is
// gone: it ends no container that runs, with -f either.
func (a *app) removeEnded(word string) error {
	if c, err := a.findContainer(word); err == nil && c.Stage != records.Exited {
		return fmt.Errorf("cannot remove container %q: container is %s: stop the container before removing or force remove: "+
			"dnet container rm -f %s; no network has the name", "/"+c.Name, c.Stage, c.Name)
	}
	return a.removeContainer(word, false)
}

// A removal is a network to be removed.
type removal struct {
	name    string
	path    string // its file; "" if that is gone
	conf    []byte // what is in the file
	link    string // the network's own, "" for none
	dataDir string
	foreign bool // its plugin is another suite's, which keeps no record
	// removers know what the network leaves on the host. If its mode is not known,
	// these are those of all modes: each leaves alone what it has not made.
	removers []catalog.Remover
}

// removers returns those of all modes.
func removers() (list []catalog.Remover) {
	for _, p := range mode.All {
		if r, ok := p.Driver.(catalog.Remover); ok {
			list = append(list, r)
		}
	}
	return list
}

// remove removes one network. It removes the file first, so that no container is
// attached any more, and the registration last. If dnet is killed between the
// two, another `dnet rm`, or `dnet create` of that name, finds the registration
// and removes the rest.
func (a *app) remove(m machine, word string) error {
	if gone, err := a.removeConfiguration(word); gone || err != nil {
		return err
	}
	r, err := a.removalOf(word)
	if err != nil {
		return err
	}
	if err := a.reap(r); err != nil {
		return err
	}
	if isOverlay(r.conf) { // dclusterd removes the files, on all nodes
		if err := a.removeOverlay(r.name); err != nil {
			return err
		}
		r.path = ""
	}
	lock, err := a.store.LockNetwork(r.name)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if r.path != "" { // another rm may have had the lock first
		if r, err = a.removalOf(r.name); err != nil {
			return named(err, word)
		}
	}
	if err := a.unused(r); err != nil {
		return err
	}
	if r.path != "" {
		if err := a.removeFile(r); err != nil {
			return err
		}
	}
	return a.dismantle(m, r)
}

// named has an error that says that no network has a name say the word that a user gave.
func named(err error, word string) error {
	if notFound := (*catalog.NotFoundError)(nil); errors.As(err, &notFound) {
		return &catalog.NotFoundError{Word: word}
	}
	return err
}

// unused refuses the removal of a network that a container is on. The caller holds the
// network's lock.
func (a *app) unused(r *removal) error {
	// An ADD writes its record before it waits for this lock or looks for the
	// bridge. So an ADD without a record makes the network again.
	attached, err := a.store.List(r.name)
	if err != nil {
		return err
	}
	if len(attached) > 0 {
		return network.Refused(network.Forbidden, &catalog.InUseError{Network: r.name, Endpoints: endpointList(attached)})
	}
	return network.Refused(network.Forbidden, errors.Join(a.foreignUnused(r), a.unserved(r.name)))
}

// unserved refuses the removal of a network that has services.
func (a *app) unserved(name string) error {
	list, err := a.store.Services(name)
	var names []string
	for _, v := range list {
		names = append(names, v.Name)
	}
	if len(names) > 0 {
		return fmt.Errorf("network %s has services: %s: dnet service rm comes first", name, strings.Join(names, ", "))
	}
	return err
}

// removeFile removes a network's file. A dnet that attaches a container writes a record first and
// looks for the file last, so removeFile looks for records last, and puts the file back if there
// are some: one of the two sees the other.
func (a *app) removeFile(r *removal) error {
	return a.conf.RemoveUnless(r.path, func() error { return a.unused(r) })
}

// A removedError says that a network was removed while a container was attached to it.
type removedError struct{ network string }

func (e *removedError) Error() string {
	return (&catalog.NotFoundError{Word: e.network}).Error() + ": it was removed at the same time"
}

func (e *removedError) Unwrap() error { return &catalog.NotFoundError{Word: e.network} }

// stillThere fails if a network is gone, or another one has its name. It is asked after ADD:
// see [app.removeFile]. The files of the cluster's networks are dclusterd's, and may change.
func (a *app) stillThere(was Network) error {
	if was.Path != "" && a.conf.Holds(was.Path, was.Raw) {
		return nil // to read all networks takes as long as all else that dnet itself does
	}
	list, _, err := a.readNetworks()
	if err != nil {
		return err
	}
	for _, n := range list {
		if n.Name == was.Name && (bytes.Equal(n.Raw, was.Raw) || isOverlay(n.Raw)) {
			return nil
		}
	}
	return &removedError{was.Name}
}

// removeRemade removes what an ADD has made of a network that was removed at the same time.
// Another container of it may be there still, whose dnet does this, too.
func (a *app) removeRemade(m machine, why error) error {
	gone, is := errors.AsType[*removedError](why)
	if !is {
		return nil
	}
	lock, err := a.store.LockNetwork(gone.network)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if attached, err := a.store.List(gone.network); err != nil || len(attached) > 0 {
		return err
	}
	if a.nameFree(gone.network) != nil {
		return nil // it was made again
	}
	return a.removeLeftovers(m, gone.network)
}

// foreignUnused refuses the removal of a network of another suite's plugin that a container
// is on: one of dnet's, or one that has an address of dipam's.
func (a *app) foreignUnused(r *removal) error {
	if !r.foreign {
		return nil
	}
	owners, err := leases.Of(a.store, r.dataDir, r.name).Locked().Owners() // the caller has the lock
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	list, err := a.store.Containers()
	if err != nil {
		return err
	}
	for _, c := range list {
		for _, at := range c.Networks {
			if at.Network == r.name && c.Stage != records.Exited {
				owners = append(owners, wire.Attachment{Network: r.name, Container: c.ID, IfName: at.IfName})
			}
		}
	}
	connected, err := a.connectedTo(r.name)
	if err != nil {
		return err
	}
	if owners = append(owners, connected...); len(owners) == 0 {
		return nil
	}
	var words []string
	for _, o := range owners {
		words = append(words, o.Container+"/"+o.IfName)
	}
	slices.Sort(words)
	return &catalog.InUseError{Network: r.name, Endpoints: strings.Join(slices.Compact(words), ", ")}
}

// connectedTo returns what `dnet connect` attached to a network.
func (a *app) connectedTo(name string) (list []wire.Attachment, err error) {
	containers, err := a.store.Connected()
	for _, id := range containers {
		connections, unread := a.store.Connections(id)
		err = errors.Join(err, unread)
		for _, c := range connections {
			if c.Network == name {
				list = append(list, c.Of())
			}
		}
	}
	return list, err
}

// removeConfiguration removes a configuration network, if a word is one's and no other
// network's. The error is Docker's.
func (a *app) removeConfiguration(word string) (gone bool, err error) {
	n, _, err := a.findConfiguration(word)
	if n == nil || err != nil {
		return false, err
	}
	lock, err := a.store.LockNetwork(n.Name)
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	n, networks, err := a.findConfiguration(word) // another rm may have had the lock first, or a create
	if n == nil || err != nil {
		return false, err
	}
	for _, user := range networks {
		if user.ConfigFrom == n.Name {
			return false, network.Refuse(network.Forbidden, "configuration network %q is in use by network %s: remove that first", n.Name, user.Name)
		}
	}
	return true, a.conf.Remove(n.Path)
}

// findConfiguration finds the configuration network that a word means, nil if another network is
// meant or none, and the networks that containers can be on.
func (a *app) findConfiguration(word string) (n *Network, networks []Network, err error) {
	if networks, _, err = a.readNetworks(); err != nil {
		return nil, nil, err
	}
	list, _, err := a.configurations()
	if err != nil {
		return nil, nil, err
	}
	if found, none := find(slices.Concat(networks, list), word); none == nil && found.Configuration != nil {
		n = &found
	}
	return n, networks, nil
}

// removalOf finds the network that a word names, and refuses one that dnet may
// not remove.
func (a *app) removalOf(word string) (*removal, error) {
	list, _, err := a.readNetworks()
	if err != nil {
		return nil, err
	}
	n, err := find(list, word)
	if notFound := (*catalog.NotFoundError)(nil); errors.As(err, &notFound) {
		return a.removalWithoutFile(list, word)
	}
	switch {
	case err != nil:
		return nil, err
	case catalog.Predefined(n.Name):
		return nil, network.Refuse(network.Forbidden, "%s is a pre-defined network and cannot be removed", n.Name)
	case mode.Of(n.Type) == nil && !isOverlay(n.Raw) && n.Path != a.conf.Path(n.Name):
		return nil, network.Refuse(network.Forbidden, "network %s is not dcni's (its plugin is %s): remove it with what made it, or its file %s", n.Name, n.Type, n.Path)
	}
	r := &removal{name: n.Name, path: n.Path, conf: n.Raw, foreign: mode.Of(n.Type) == nil && !isOverlay(n.Raw)}
	// If the configuration can't be read, the usual places are looked at.
	f, _ := n.Facts(nil)
	r.link, r.dataDir = f.Link, f.DataDir
	if remover := n.Remover(); remover != nil {
		r.removers = []catalog.Remover{remover}
	}
	if known, err := registry.Of(a.store, r.dataDir).Get(n.Name); err == nil && known.Bridge != "" {
		r.link = known.Bridge
	}
	return r, nil
}

// removalWithoutFile finds a network that is registered and has no file: its
// `dnet rm` was killed, or a user removed the file by hand.
func (a *app) removalWithoutFile(list []Network, word string) (*removal, error) {
	registered, err := registry.Of(a.store, "").List()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, n := range registered {
		here := slices.ContainsFunc(list, func(l Network) bool { return l.Name == n.Name })
		if !here && !catalog.Predefined(n.Name) && (n.Conf == a.conf.Path(n.Name) || !configuredElsewhere(n)) {
			names = append(names, n.Name)
		}
	}
	left, err := a.leftoverNetworks(list)
	if err != nil {
		return nil, err
	}
	name, err := catalog.Find(append(names, left...), word)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(names, name) {
		return &removal{name: name, removers: removers()}, nil
	}
	known, err := registry.Of(a.store, "").Get(name)
	r := &removal{name: name, link: known.Bridge, removers: removers()}
	if known.Conf == a.conf.Path(name) && configuredElsewhere(known) {
		r.path = known.Conf // it can't be read
	}
	return r, err
}

// leftoverNetworks returns the networks of attachments of which no file says more, and
// whose removal has begun: an IPAM plugin has not released their addresses yet.
func (a *app) leftoverNetworks(list []Network) (names []string, err error) {
	attached, err := a.store.List("")
	for _, r := range attached {
		here := slices.ContainsFunc(list, func(l Network) bool { return l.Name == r.Network })
		if !here && !catalog.Predefined(r.Network) && r.State == records.Deleting && !slices.Contains(names, r.Network) {
			names = append(names, r.Network)
		}
	}
	return names, err
}

// configuredElsewhere reports whether a network's file is there, in whichever
// directory dnet wrote it.
func configuredElsewhere(n registry.Network) bool {
	return n.Conf != "" && records.Configured(n.Conf, n.Name)
}

// endpointList lists attachments as Docker lists endpoints.
func endpointList(attached []*records.Record) string {
	attached = records.Interfaces(attached)
	list := make([]string, len(attached))
	for i, r := range attached {
		list[i] = fmt.Sprintf("name:%q id:%q", containerName(r), r.EndpointID()[:network.ShortID])
		if t := r.IPAM.Type; r.State == records.Deleting && t != "" && t != "dipam" && t != network.IPAMCluster {
			list[i] += fmt.Sprintf(" whose addresses the IPAM plugin %s has not released yet", t)
		}
	}
	return strings.Join(list, ", ")
}

// containerName returns the name that the runtime gave the container, or its ID
// if the runtime gave none.
func containerName(r *records.Record) string {
	if r.Name != "" {
		return r.Name
	}
	if len(r.Names) > 0 { // a record from before it had Name
		return r.Names[0]
	}
	return r.Container
}

// dismantle removes what a network without attachments has: its objects on the
// host, leases, and last its registration. The caller holds the network's lock.
func (a *app) dismantle(m machine, r *removal) error {
	if r.link != "" {
		for _, remover := range r.removers {
			if err := wire.Undo(m, remover.Leftovers(r.name, r.link)); err != nil {
				return err
			}
		}
		if err := m.RemoveUnusedRules(); err != nil {
			return err
		}
	}
	a.store.Prune(r.name)
	if err := a.conf.RemoveKept(r.name); err != nil {
		return err
	}
	if err := cni.CollectHost(m, m, a.store.LockHost, a.store); err != nil {
		return err
	}
	if err := leases.Of(a.store, r.dataDir, r.name).Drop(); err != nil {
		return err
	}
	return registry.Of(a.store, r.dataDir).Forget(r.name)
}
