package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"dcni/pkg/cni"
	"dcni/pkg/container"
	"dcni/pkg/ipam"
	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// This file is about what is in the files of a container of dnet's when it is connected
// to a network later, or disconnected. Other runtimes' files are theirs.

// connectFiles adds a network's addresses to a container's hosts file, and has names asked for
// where the network says, if it is the first one that does.
func (a *app) connectFiles(c *records.Container, result *types100.Result) error {
	a.asksHere(c.ID, result)
	text, err := a.containerFile(c, hostsFile)
	if err == nil {
		_, err = a.store.WriteContainerFile(c.ID, filepath.Base(hostsFile), container.AddHost(text, a.hostsLines(c, result)))
	}
	if err != nil {
		return err
	}
	text, err = a.containerFile(c, resolvConf)
	if err != nil || len(result.DNS.Nameservers) == 0 || asks(text, result.DNS.Nameservers) {
		return err
	}
	if _, err := a.store.WriteContainerFile(c.ID, formerResolvConf, text); err != nil {
		return err
	}
	_, err = a.store.WriteContainerFile(c.ID, filepath.Base(resolvConf), container.WithServers(text, result.DNS.Nameservers, result.DNS.Options))
	return err
}

// asksHere has a container of dnet's ask at 127.0.0.11 where a result names the gateways at which its network
// answers virtual machines: it has the sandbox that a machine lacks, and a server there for all its networks.
func (a *app) asksHere(id string, result *types100.Result) {
	list, _ := a.store.OfContainer(id) // without its records the gateways answer as well
	for _, r := range list {
		if r.Resolver != nil && len(r.Resolver.Listen) > 0 && slices.EqualFunc(r.Resolver.Listen, result.DNS.Nameservers, func(a netip.Addr, s string) bool { return a.String() == s }) {
			result.DNS.Nameservers = []string{names.Address.String()}
			return
		}
	}
}

// connectLinks writes links on the default bridge into the hosts file of a container of dnet's.
// Variables of a program that runs can't be set.
func (a *app) connectLinks(c *records.Container, r *networkRequest) error {
	if c == nil || len(r.linked) == 0 {
		return nil
	}
	text, err := a.containerFile(c, hostsFile)
	if err != nil {
		return err
	}
	own, err := a.ownAddresses(c)
	if err != nil {
		return err
	}
	for _, l := range r.linked {
		text = container.ReplaceLinked(text, l, own)
	}
	if _, err := a.store.WriteContainerFile(c.ID, filepath.Base(hostsFile), text); err != nil {
		return err
	}
	c.Links = container.MergeLinks(c.Links, r.Links)
	return a.store.PutContainer(c)
}

// disconnectLinks takes links out of the hosts file of a container of dnet's that leaves the
// default bridge.
func (a *app) disconnectLinks(c *records.Container, leaving wire.Attachment) error {
	if leaving.Network != defaultNetwork || len(c.Links) == 0 {
		return nil
	}
	text, err := a.containerFile(c, hostsFile)
	if err != nil {
		return err
	}
	own, err := a.ownAddresses(c)
	if err != nil {
		return err
	}
	if _, err := a.store.WriteContainerFile(c.ID, filepath.Base(hostsFile), container.RemoveLinked(text, c.Links, own)); err != nil {
		return err
	}
	c.Links = nil
	return a.store.PutContainer(c)
}

// ownAddresses returns the addresses that a container has on its networks.
func (a *app) ownAddresses(c *records.Container) (own []netip.Addr, err error) {
	list, err := a.store.OfContainer(c.ID)
	for _, r := range list {
		for _, address := range r.AddressesThere() {
			own = append(own, address.Address.Addr())
		}
	}
	return own, err
}

// formerResolvConf is a container's resolv.conf from before it was connected to its first
// network that answers names.
const formerResolvConf = "resolv.conf.former"

// disconnectFiles takes a network's addresses out of a container's hosts file, and has names
// asked for as before, if no network that answers them is left.
func (a *app) disconnectFiles(c *records.Container, leaving wire.Attachment, given network.Donation) error {
	result, err := cni.ReadDonation(given.Result)
	if err != nil {
		return nil //nolint:nilerr // without a result nothing of it was written
	}
	text, err := a.containerFile(c, hostsFile)
	if err == nil {
		_, err = a.store.WriteContainerFile(c.ID, filepath.Base(hostsFile), container.RemoveHost(text, a.hostsLines(c, result)))
	}
	if err != nil || len(result.DNS.Nameservers) == 0 {
		return err
	}
	list, err := a.store.OfContainer(c.ID)
	if err != nil || slices.ContainsFunc(list, func(r *records.Record) bool { return r.Resolver != nil && r.Attachment != leaving }) {
		return err
	}
	former, err := a.containerFile(c, formerResolvConf)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		_, err = a.store.WriteContainerFile(c.ID, filepath.Base(resolvConf), former)
	}
	return err
}

// containerFile reads one of a container's own files.
func (a *app) containerFile(c *records.Container, path string) (string, error) {
	data, err := os.ReadFile(filepath.Join(a.store.ContainerDir(c.ID), filepath.Base(path)))
	return string(data), err
}

// hostsLines returns the lines of a hosts file for the addresses of a result.
func (a *app) hostsLines(c *records.Container, result *types100.Result) []string {
	text := container.HostsFile{Hostname: c.Hostname, Name: c.Name, Addresses: resultAddresses(result)}.Own()
	return slices.Collect(strings.Lines(text))
}

// asks reports whether a resolv.conf names one of the servers.
func asks(text string, servers []string) bool {
	return slices.ContainsFunc(servers, func(s string) bool { return strings.Contains(text, "nameserver "+s+"\n") })
}

// What follows is about the networks that a container of dnet's is to be on when it is started
// again. They are on record, so one that has ended is connected and disconnected there (moby,
// daemon/container_operations.go, ConnectToNetwork).

// wanted reads the networks that a container of dnet's is to be on when it is started again. known
// is false where that is not on record: an older dnet made the container, or it is in another
// container's network namespace.
func wanted(c *records.Container) (w container.Wanted, known bool, err error) {
	if w, known, err = container.ParseWanted(c.Wanted); err != nil {
		err = fmt.Errorf("record of container %s: %w", c.Name, err)
	}
	return w, known, err
}

// changeWanted changes the networks that a container is to be on, in its record.
func changeWanted(c *records.Container, change func(container.Wanted) container.Wanted) error {
	w, known, err := wanted(c)
	if err == nil && known {
		c.Wanted, err = change(w).Encode()
	}
	return err
}

// wantConnected records that a container is to be on a network. c is nil for another runtime's
// container. The caller holds the container's lock of connections, as for the next.
func (a *app) wantConnected(c *records.Container, n container.Network) error {
	if c == nil {
		return nil
	}
	err := changeWanted(c, func(w container.Wanted) container.Wanted { return w.With(n) })
	if err != nil {
		return err
	}
	return a.store.PutContainer(c)
}

// unwantConnected records that a container is not to be on a network any more.
func (a *app) unwantConnected(c *records.Container, name string) error {
	if c == nil {
		return nil
	}
	err := changeWanted(c, func(w container.Wanted) container.Wanted { return w.Without(name) })
	if err != nil {
		return err
	}
	return a.store.PutContainer(c)
}

// stopped finds the container of dnet's that does not run, by the error of finding it. It returns
// the error where there is none.
func (a *app) stopped(err error) (*records.Container, error) {
	not, is := errors.AsType[*network.NotRunningError](err)
	if !is {
		return nil, err
	}
	c, none := a.store.Container(not.Container)
	if errors.Is(none, fs.ErrNotExist) { // it is another runtime's, which starts it as it likes
		return nil, err
	}
	return c, none
}

// changeStopped changes the record of a container that has ended, under its lock: it is not started
// at the same time. done is false if it was started before that.
func (a *app) changeStopped(id string, change func(c *records.Container) error) (done bool, err error) {
	for end := time.Now().Add(startTime); ; time.Sleep(lockEvery) {
		lock, free, err := a.store.TryLockContainer(id)
		if err != nil {
			return false, err
		}
		c, err := a.store.Container(id)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			err = &network.NoContainerError{Word: id}
		case err != nil:
		case free && c.Stage == records.Exited:
			if err = change(c); err == nil {
				err = a.store.PutContainer(c)
			}
			done = err == nil
		case free: // its dnet was killed
			err = a.healLocked(id)
		case c.Stage == records.Running:
			lock.Unlock()
			return false, nil
		case time.Now().After(end):
			err = fmt.Errorf("container %s is %s", c.Name, c.Stage)
		}
		lock.Unlock()
		if done || err != nil {
			return done, err
		}
	}
}

// connectStopped has a container be connected to a network when it is started. Docker does nothing
// where it is connected already.
func (a *app) connectStopped(c *records.Container, n container.Network) (done bool, err error) {
	known, err := a.networks()
	if err != nil {
		return false, err
	}
	list, err := find(known, n.Name)
	if err != nil {
		return false, a.noEndpoints(n.Name, err)
	}
	n.Name = list.Name
	if err := container.CheckNetworks([]container.Network{n}); err != nil {
		return false, network.Refused(network.InvalidParameter, err)
	}
	r := &networkRequest{Network: n, list: list}
	if err := errors.Join(r.read(), checkInstalled(list, a.pluginPath()), a.inSubnets(r)); err != nil {
		return false, err
	}
	return a.changeStopped(c.ID, func(c *records.Container) error {
		on, known, err := wanted(c)
		switch {
		case err != nil:
			return err
		case c.Donor != "" || on.Has("host"):
			return sharesNamespace()
		case !known:
			return fmt.Errorf("cannot connect container %s: it was made by an older dnet, which did not record its networks: start it first", c.Name)
		case on.Has(n.Name):
			return nil
		}
		if err := canBeBeside(list, on.Names()); err != nil {
			return err
		}
		c.Wanted, err = on.With(n).Encode()
		return err
	})
}

// inSubnets refuses an address that no subnet of the network has.
func (a *app) inSubnets(r *networkRequest) error {
	facts, err := r.found.Facts(a.registered(r.found))
	if err != nil || len(facts.Subnets) == 0 {
		return nil //nolint:nilerr // what is wrong with the network, ADD will say
	}
	for _, ip := range []netip.Addr{r.IPv4, r.IPv6} {
		inOne := slices.ContainsFunc(facts.Subnets, func(s ipam.Subnet) bool { return s.Prefix.Contains(ip) })
		if ip.IsValid() && !inOne {
			return network.Refuse(network.InvalidParameter, "network %s: no configured subnet contains IP address %s", r.list.Name, ip)
		}
	}
	return nil
}

// disconnectStopped has a container not be connected to a network any more when it is started. The
// network may be gone.
func (a *app) disconnectStopped(c *records.Container, word string) (done bool, err error) {
	name := word
	known, err := a.networks()
	if err != nil {
		return false, err
	}
	n, err := find(known, word)
	if notFound := (*catalog.NotFoundError)(nil); err != nil && !errors.As(err, &notFound) {
		return false, err
	}
	if err == nil {
		name = n.Name
	}
	return a.changeStopped(c.ID, func(c *records.Container) error {
		on, _, err := wanted(c)
		if err == nil && !on.Has(name) {
			err = fmt.Errorf("container %s is not connected to the network %s", c.ID, name)
		}
		if err != nil {
			return err
		}
		c.Wanted, err = on.Without(name).Encode()
		return err
	})
}
