package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dcni/pkg/firewall"
	"dcni/pkg/host"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

func newRemoveCommand(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:                   "rm NETWORK [NETWORK...]",
		Aliases:               []string{"remove"},
		Short:                 "Remove one or more networks",
		Args:                  atLeast(1),
		RunE:                  func(_ *cobra.Command, args []string) error { return a.removeAll(args, force) },
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Do not error if the network does not exist")
	return cmd
}

// removeAll removes networks, one after the other, and goes on past errors.
func (a *app) removeAll(words []string, force bool) error {
	a.heal()                                // a container whose dnet was killed is on no network
	if _, err := a.networks(); err != nil { // once, for what it tells of files
		return err
	}
	machine, err := host.New(a.store)
	if err != nil {
		return err
	}
	defer machine.Close()
	status := 0
	for _, word := range words {
		err := a.remove(machine, word)
		if notFound := (*network.NotFoundError)(nil); force && errors.As(err, &notFound) {
			continue
		}
		if err != nil {
			a.tell(err)
			status = statusError
			continue
		}
		fmt.Fprintln(a.stdout, word)
	}
	if status != 0 {
		return &statusErr{status: status}
	}
	return nil
}

// A target is a network to be removed.
type target struct {
	name    string
	path    string // its file; "" if there is none any more
	conf    []byte // and what is in it
	bridge  string
	dataDir string
}

// remove removes one network. The file goes first, so that nobody is attached
// any more, the registration last: who is killed between the two has left what
// another remove, or a create of that name, finds there and goes on with.
func (a *app) remove(machine *host.Host, word string) error {
	t, err := a.target(word)
	if err != nil {
		return err
	}
	if err := a.reap(t); err != nil {
		return err
	}
	lock, err := a.store.LockNetwork(t.name)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	// An ADD writes its record before it asks for this lock, or looks whether
	// the bridge is there. One that comes now makes the network anew.
	attached, err := a.store.List(t.name)
	if err != nil {
		return err
	}
	if len(attached) > 0 {
		return fmt.Errorf("error while removing network: network %s has active endpoints (%s)", t.name, who(attached))
	}
	if t.path != "" {
		if err := a.conf.Remove(t.path); err != nil {
			return err
		}
	}
	return a.dismantle(machine, t)
}

// target finds the network that a word means, and says whether it may go.
func (a *app) target(word string) (*target, error) {
	list, _, err := a.read()
	if err != nil {
		return nil, err
	}
	n, err := find(list, word)
	if notFound := (*network.NotFoundError)(nil); errors.As(err, &notFound) {
		return a.removed(list, word)
	}
	switch {
	case err != nil:
		return nil, err
	case network.Predefined(n.Name):
		return nil, fmt.Errorf("%s is a pre-defined network and cannot be removed", n.Name)
	case !n.Ours:
		return nil, fmt.Errorf("network %s is not dcni's (its plugin is %s): remove it with what made it, or its file %s", n.Name, n.Type, n.Path)
	}
	t := &target{name: n.Name, path: n.Path, conf: n.Raw}
	// Of a configuration that can't be read, what is left is in its usual place.
	f, _ := n.Facts(nil)
	t.bridge, t.dataDir = f.Bridge, f.DataDir
	if known, err := a.store.Networks(t.dataDir).Get(n.Name); err == nil && known.Bridge != "" {
		t.bridge = known.Bridge
	}
	return t, nil
}

// removed finds a network that has no file any more, but was not forgotten: its
// removal was killed, or somebody removed the file by hand.
func (a *app) removed(list []Network, word string) (*target, error) {
	registered, err := a.store.Networks("").List()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, n := range registered {
		here := slices.ContainsFunc(list, func(l Network) bool { return l.Name == n.Name })
		if !here && !network.Predefined(n.Name) && !elsewhere(n) {
			names = append(names, n.Name)
		}
	}
	name, err := network.Find(names, word)
	if err != nil {
		return nil, err
	}
	known, err := a.store.Networks("").Get(name)
	return &target{name: name, bridge: known.Bridge}, err
}

// elsewhere reports whether dnet has made a network's file, and it is there.
func elsewhere(n records.Network) bool { return n.Conf != "" && records.Configured(n.Conf, n.Name) }

// who names attachments as Docker names endpoints.
func who(attached []*records.Record) string {
	attached = records.Interfaces(attached)
	list := make([]string, len(attached))
	for i, r := range attached {
		list[i] = fmt.Sprintf("name:%q id:%q", containerName(r), r.EndpointID()[:network.ShortID])
	}
	return strings.Join(list, ", ")
}

// containerName is what the runtime called the container, its ID where it told
// none.
func containerName(r *records.Record) string {
	if len(r.Names) > 0 {
		return r.Names[0]
	}
	return r.Container
}

// dismantle takes away what a network without attachments has left: the bridge,
// unless it is the user's, what the firewall knows, leases, and last its
// subnets. The caller holds the network's lock.
func (a *app) dismantle(machine *host.Host, t *target) error {
	if t.bridge != "" {
		// The bridge comes first: an ADD that misses it waits for the lock.
		objects := []wire.Object{
			&firewall.Network{Name: t.name, Bridge: t.bridge},
			&wire.Bridge{Name: t.bridge, MAC: network.BridgeMAC(t.bridge)},
		}
		if err := wire.Undo(machine, objects); err != nil {
			return err
		}
		if err := machine.RemoveUnusedRules(); err != nil {
			return err
		}
	}
	a.store.Prune(t.name)
	if err := a.store.Leases(t.dataDir, t.name).Drop(); err != nil {
		return err
	}
	return a.store.Networks(t.dataDir).Forget(t.name)
}
