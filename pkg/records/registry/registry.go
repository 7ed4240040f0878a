// Package registry remembers the networks of a host: which subnets each has, that none
// overlap, and which were chosen for it. Package records says how its files look.
package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"dcni/pkg/ipam"
	"dcni/pkg/records"
	"dcni/pkg/records/disk"
	"dcni/pkg/records/leases"
	"dcni/pkg/wire"
)

// Network is what is remembered of a network: which subnets are its own.
type Network struct {
	Name     string         `json:"name"`
	Subnets  []netip.Prefix `json:"subnets"`
	FromPool []netip.Prefix `json:"fromPool,omitempty"` // those that were chosen for it
	// Ranges are the parts of its subnets that a network on a LAN gives addresses of:
	// others may give of the rest.
	Ranges []netip.Prefix `json:"ranges,omitempty"`
	Bridge string         `json:"bridge,omitempty"`
	Conf   string         `json:"conf,omitempty"` // its file, where dnet made it
}

// Registry is the registry of networks of a data directory.
type Registry struct {
	store records.Store
	lib   string
}

// Of returns the registry in a data directory, "" for the store's own.
func Of(store records.Store, dataDir string) Registry {
	return Registry{store: store, lib: store.DataDir(dataDir)}
}

// Registration is what a network asks of the registry.
type Registration struct {
	Name     string
	Bridge   string         // remembered for people and for dnet
	Explicit []netip.Prefix // the configured subnets
	Ranges   []netip.Prefix // of the configured subnets, if the network is on a LAN
	WantPool bool           // an IPv4 subnet from the default pools
	WantULA  bool           // an IPv6 subnet of the host's own
	HostID   string         // what WantULA's is made from

	// Avoid returns what a chosen subnet must not overlap, beside the subnets of
	// other networks. It is called only when one has to be chosen.
	Avoid func() ([]netip.Prefix, error)
	// Alive reports whether a network is still there without a lease: it is
	// configured, or the host uses its subnet. nil means that all are.
	Alive func(Network) bool

	probe bool // nothing is to be forgotten
}

// Register returns the subnets of a network, in the order IPv4 from the pool,
// explicit ones, IPv6 of the host's own, and remembers them. What was chosen
// once is chosen again. Networks that are gone (no lease of this boot, and not alive)
// are forgotten if their subnet is in the way.
//
// Errors: code 7 if an explicit subnet overlaps another network's, 11 if the
// pools are exhausted.
func (n Registry) Register(r Registration) ([]netip.Prefix, error) {
	// Most calls find the network registered. Files are replaced whole, so this
	// needs no lock.
	if known, _ := n.Get(r.Name); r.fits(known) { // not where it can't be read
		return known.Subnets, nil
	}
	var out []netip.Prefix
	err := n.locked(func() error {
		known, err := n.getOrMend(r.Name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		added, err := n.choose(r, known)
		if err != nil {
			return err
		}
		out = added.Subnets
		return n.put(added)
	})
	return out, err
}

// Create registers a network that is about to be configured, and configures it:
// the subnets it gets are remembered as explicit ones, for its file will name
// them. The registry stays locked. check looks whether the network may be created;
// configure writes the file, whose path is conf. If either fails, all is as before. A
// process that is killed before it wrote the file leaves a registration that no file
// names: the next network that needs the subnet removes it.
func (n Registry) Create(r Registration, conf string, check func() error, configure func(Network) error) error {
	return n.locked(func() error {
		if err := check(); err != nil {
			return err
		}
		known, err := n.getOrMend(r.Name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		added, err := n.choose(r, known)
		if err != nil {
			return err
		}
		added.FromPool, added.Conf = nil, conf
		if err := n.put(added); err != nil {
			return err
		}
		if err = configure(added); err == nil {
			return nil
		}
		if known.Name != "" {
			return errors.Join(err, n.put(known))
		}
		return errors.Join(err, n.remove(r.Name))
	})
}

// Probe tells whether Register could work, and changes nothing.
func (n Registry) Probe(r Registration) error {
	known, err := n.Get(r.Name)
	if unread, is := errors.AsType[*disk.UnreadableError](err); is && !unread.Newer {
		known, err = n.fromRecords(r.Name), os.ErrNotExist // Register mends it
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) || err == nil && r.fits(known) {
		return err
	}
	r.probe = true
	_, err = n.choose(r, known)
	return err
}

// Restore makes a network's registration what it was before Register.
func (n Registry) Restore(before Network) error {
	if before.Name == "" {
		return nil
	}
	return n.locked(func() error {
		now, err := n.Get(before.Name)
		if err != nil || reflect.DeepEqual(now, before) {
			return err
		}
		return n.put(before)
	})
}

// fits reports whether what is remembered is what is asked for.
func (r Registration) fits(known Network) bool {
	explicit := slices.DeleteFunc(slices.Clone(known.Subnets), func(p netip.Prefix) bool {
		return slices.Contains(known.FromPool, p)
	})
	return known.Name == r.Name && known.Bridge == r.Bridge && slices.Equal(explicit, r.Explicit) && slices.Equal(known.Ranges, r.Ranges) &&
		r.WantPool == chosen(known, true).IsValid() && r.WantULA == chosen(known, false).IsValid()
}

// chosen returns the subnet of a family that was chosen for a network.
func chosen(n Network, is4 bool) netip.Prefix {
	for _, p := range n.FromPool {
		if p.Addr().Is4() == is4 {
			return p
		}
	}
	return netip.Prefix{}
}

// choose finds the subnets of a network that is new or has changed.
func (n Registry) choose(r Registration, known Network) (Network, error) {
	out := Network{Name: r.Name, Bridge: r.Bridge, Conf: known.Conf, Ranges: r.Ranges}
	others, err := n.all(r.probe)
	if err != nil {
		return out, err
	}
	others = slices.DeleteFunc(others, func(o Network) bool { return o.Name == r.Name })
	for _, p := range r.Explicit {
		if err := n.clear(r, p, others); err != nil {
			return out, err
		}
	}
	var avoid []netip.Prefix
	if r.Avoid != nil && (r.WantPool || r.WantULA) {
		if avoid, err = r.Avoid(); err != nil {
			return out, err
		}
	}
	avoid = append(slices.Clone(avoid), r.Explicit...)
	var pool, ula []netip.Prefix
	if r.WantPool {
		if pool, err = n.fromPool(r, chosen(known, true), others, avoid, ipam.ChoosePool); err != nil {
			return out, err
		}
	}
	if r.WantULA {
		if ula, err = n.fromPool(r, chosen(known, false), others, avoid, r.chooseULA); err != nil {
			return out, err
		}
	}
	out.FromPool = slices.Concat(pool, ula)
	out.Subnets = slices.Concat(pool, r.Explicit, ula)
	return out, nil
}

func (r Registration) chooseULA(avoid []netip.Prefix) (netip.Prefix, error) {
	return ipam.ChooseULA(r.HostID, r.Name, avoid)
}

// fromPool chooses a subnet, again the one the network had if it had one. A
// network in the way is either forgotten or avoided.
func (n Registry) fromPool(r Registration, had netip.Prefix, others []Network, avoid []netip.Prefix,
	choose func([]netip.Prefix) (netip.Prefix, error)) ([]netip.Prefix, error) {
	if had.IsValid() && !slices.ContainsFunc(r.Explicit, had.Overlaps) {
		return []netip.Prefix{had}, nil
	}
	for {
		p, err := choose(avoid)
		if err != nil {
			return nil, err
		}
		err = n.clear(r, p, others)
		var overlap *overlapError
		if !errors.As(err, &overlap) {
			return []netip.Prefix{p}, err
		}
		avoid = append(avoid, overlap.subnet)
	}
}

// overlapError says which subnet of another network is in the way.
type overlapError struct {
	error
	subnet netip.Prefix
}

func (e *overlapError) Unwrap() error { return e.error }

// clear makes sure that no other network has a part of a subnet. It forgets networks
// that are gone.
func (n Registry) clear(r Registration, p netip.Prefix, others []Network) error {
	for _, o := range others {
		i := slices.IndexFunc(o.Subnets, p.Overlaps)
		if i < 0 || p == o.Subnets[i] && apart(p, r.Ranges, o.Ranges) {
			continue
		}
		alive, err := n.alive(r, o)
		if err != nil {
			return err
		}
		if alive {
			return &overlapError{wire.Errorf(wire.CodeConfig,
				"invalid pool request: Pool overlaps with other one on this address space: subnet %s of network %q and %s of network %q",
				p, r.Name, o.Subnets[i], o.Name), o.Subnets[i]}
		}
		if r.probe {
			continue
		}
		if err := n.remove(o.Name); err != nil {
			return err
		}
	}
	return nil
}

// apart reports whether two networks on a LAN give addresses of different parts of a
// subnet.
func apart(subnet netip.Prefix, ranges, others []netip.Prefix) bool {
	inside := func(p netip.Prefix) bool { return subnet.Contains(p.Addr()) }
	i, k := slices.IndexFunc(ranges, inside), slices.IndexFunc(others, inside)
	return i >= 0 && k >= 0 && !ranges[i].Overlaps(others[k])
}

func (n Registry) alive(r Registration, o Network) (bool, error) {
	if r.Alive == nil || r.Alive(o) {
		return true, nil
	}
	return leases.Of(n.store, n.lib, o.Name).Any()
}

// Get returns what is remembered of a network; os.ErrNotExist if nothing is.
func (n Registry) Get(name string) (Network, error) {
	path, err := n.path(name)
	if err != nil {
		return Network{}, err
	}
	return readNetwork(path)
}

func readNetwork(path string) (Network, error) {
	data, err := disk.ReadFile(path)
	if err != nil {
		return Network{}, err
	}
	var out networkFile
	err = json.Unmarshal(data, &out)
	if e := disk.Newer(path, out.Version); e != nil {
		return Network{}, e
	}
	if err == nil && disk.EncodeName(out.Name)+".json" != filepath.Base(path) {
		err = fmt.Errorf("it is of network %q", out.Name)
	}
	if err != nil {
		return Network{}, &disk.UnreadableError{Path: path, Err: err}
	}
	return out.Network, nil
}

// networkFile is an entry of the registry as it is in its file.
type networkFile struct {
	Version int `json:"version"` // of this format
	Network
}

// getOrMend is Get for a caller that holds the registry's lock: an entry that can't be
// read is made again from what is on record of the network's attachments, or forgotten.
func (n Registry) getOrMend(name string) (Network, error) {
	known, err := n.Get(name)
	unread, is := errors.AsType[*disk.UnreadableError](err)
	if !is || unread.Newer {
		return known, err
	}
	if known = n.fromRecords(name); known.Name != "" {
		return known, n.write(known, func(path string, data []byte) error {
			return n.store.Root(n.lib).ReplaceUnreadable(path, data, true, unread)
		})
	}
	if err := n.store.Root(n.lib).Quarantine(unread.Path, unread); err != nil {
		return Network{}, err
	}
	return Network{}, os.ErrNotExist
}

// mend is getOrMend for another network than the one at work, which can do without.
func (n Registry) mend(name string) {
	_, err := n.getOrMend(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) && n.store.Log != nil {
		fmt.Fprintf(n.store.Log, "dcni: network %s can't be read, and stays so: %v\n", name, err)
	}
}

// fromRecords returns what the records of a network's attachments tell of it, without a
// name if there are none. Its subnets look as if they had been chosen: they are chosen
// again unless the configuration names them.
func (n Registry) fromRecords(name string) Network {
	list, _ := n.store.List(name) // those that can be read
	for _, r := range list {
		if r.State != records.Up || len(r.Subnets) == 0 || n.store.DataDir(r.IPAM.DataDir) != n.lib {
			continue
		}
		out := Network{Name: name}
		for _, s := range r.Subnets {
			out.Subnets = append(out.Subnets, s.Prefix)
		}
		out.FromPool = out.Subnets
		if r.Firewall != nil {
			out.Bridge = r.Firewall.Bridge
		}
		return out
	}
	return Network{}
}

// List returns every network, by name. It leaves out those whose entry can't be read,
// but for what is on record of their attachments.
func (n Registry) List() ([]Network, error) { return n.all(true) }

// all is List. If the caller may write and holds the registry's lock, it mends entries
// that can't be read.
func (n Registry) all(readOnly bool) ([]Network, error) {
	dir := filepath.Join(n.lib, "networks")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) && !disk.IsUnreadable(disk.Unreadable(dir, err)) {
		return nil, err
	}
	var out []Network
	for _, e := range entries {
		name, is := strings.CutSuffix(e.Name(), ".json")
		if !is {
			continue
		}
		known, err := readNetwork(filepath.Join(dir, e.Name()))
		if unread, is := errors.AsType[*disk.UnreadableError](err); is {
			known, err = n.fromRecords(name), nil
			if !readOnly && !unread.Newer {
				n.mend(name)
			}
		}
		switch {
		case errors.Is(err, os.ErrNotExist): // forgotten after the directory was read
		case err != nil:
			return nil, err
		case known.Name != "":
			out = append(out, known)
		}
	}
	return out, nil
}

// Forget gives a network's subnets back. It is no error if it is not known.
func (n Registry) Forget(name string) error {
	return n.locked(func() error { return n.remove(name) })
}

func (n Registry) remove(name string) error {
	path, err := n.path(name)
	if err != nil {
		return err
	}
	if _, err := readNetwork(path); disk.IsUnreadable(err) {
		return n.store.Root(n.lib).Quarantine(path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (n Registry) put(network Network) error {
	return n.write(network, func(path string, data []byte) error { return n.store.Root(n.lib).Replace(path, data, true) })
}

// write hands an entry to a function that writes it.
func (n Registry) write(network Network, write func(path string, data []byte) error) error {
	path, err := n.path(network.Name)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(networkFile{disk.Format, network}, "", "  ")
	if err != nil {
		return err
	}
	return write(path, append(data, '\n'))
}

func (n Registry) path(name string) (string, error) {
	if err := records.CheckWords(wire.Attachment{Network: name, Container: "-", IfName: "-"}); err != nil {
		return "", err
	}
	return filepath.Join(n.lib, "networks", disk.EncodeName(name)+".json"), nil
}

func (n Registry) locked(f func() error) error {
	lock, err := n.store.LockRegistry(n.lib)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return f()
}
