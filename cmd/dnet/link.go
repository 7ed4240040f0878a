package main

import (
	"errors"
	"fmt"
	"slices"

	"dcni/pkg/container"
	"dcni/pkg/firewall"
	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/records"
)

// This file is about links on the default bridge, which gives no names: what dnet writes into the
// files and variables of a container of its own. What links open there is the plugin's, as is the
// alias on other networks.

// defaultNetwork is the one whose links are lines in hosts files.
const defaultNetwork = "bridge"

// findLinks finds the containers that a container called name links to on the default bridge.
// The errors are Docker's (moby, daemon/daemon_unix.go and daemon/container_operations_unix.go). On
// other networks the container need not be there yet, as with Docker.
func (a *app) findLinks(m machine, name string, n *container.Network) ([]container.Linked, error) {
	if n.Name != defaultNetwork {
		return nil, nil
	}
	var list []container.Linked
	n.Links = container.MergeLinks(nil, n.Links)
	for i, l := range n.Links {
		t, err := a.findTarget(m, l.Target, "")
		if _, is := errors.AsType[*network.NotRunningError](err); is {
			return nil, fmt.Errorf("Cannot link to a non running container: /%s AS /%s/%s", l.Target, name, l.Alias) //nolint:staticcheck // Docker's sentence
		}
		if err != nil {
			return nil, fmt.Errorf("could not get container for %s: %w", l.Target, err)
		}
		rec := t.linkRecord()
		if rec == nil {
			return nil, fmt.Errorf("Cannot link to /%s, as it does not belong to the default network", l.Target) //nolint:staticcheck // Docker's sentence
		}
		if len(t.Names) > 0 && rec.Name != "" {
			n.Links[i].Target = rec.Name // it is found again by that after a restart
		}
		list = append(list, a.linked(n.Links[i], rec))
	}
	return list, nil
}

// linkRecord returns the record of the container's attachment to the default bridge, or nil.
func (t *target) linkRecord() *records.Record {
	i := slices.IndexFunc(t.records, func(r *records.Record) bool {
		return r.Attachment.Network == defaultNetwork && r.State == records.Up && r.IPAM.Type != ""
	})
	if i < 0 {
		return nil
	}
	return t.records[i]
}

// linked returns what is known of a container that is linked to.
func (a *app) linked(l names.Link, rec *records.Record) container.Linked {
	out := container.Linked{Link: l, Name: rec.Name}
	for _, address := range rec.AddressesThere() {
		out.Addresses = append(out.Addresses, address.Address.Addr())
	}
	var published []firewall.Port
	if rec.Endpoint != nil {
		published = rec.Endpoint.Ports
	}
	out.Exposed = firewall.ExposedPorts(rec.Exposed, published)
	if c, err := a.store.Container(rec.Container); err == nil { // another runtime's: only the network is known
		out.Hostname, out.Env = c.Hostname, c.Env
	}
	return out
}

// followAllLinks is followLinks for all containers. What can't be done is a warning.
func (a *app) followAllLinks() {
	list, err := a.store.Containers()
	if err == nil {
		err = a.followLinks(list)
	}
	if err != nil {
		a.warn("links: %v", err)
	}
}

// followLinks writes the addresses into the hosts files of containers of dnet's that those have
// now which they link to. One that is gone keeps its line.
func (a *app) followLinks(list []*records.Container) error {
	linking := slices.DeleteFunc(slices.Clone(list), func(c *records.Container) bool {
		return len(c.Links) == 0 || c.Stage != records.Running
	})
	if len(linking) == 0 {
		return nil
	}
	there, err := a.store.List(defaultNetwork)
	errs := []error{err}
	for _, c := range linking {
		errs = append(errs, a.followLinksOf(c, there))
	}
	return errors.Join(errs...)
}

func (a *app) followLinksOf(c *records.Container, there []*records.Record) error {
	lock, err := a.store.LockConnections(c.ID)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	was, err := a.containerFile(c, hostsFile)
	if err != nil {
		return err
	}
	own, err := a.ownAddresses(c)
	if err != nil {
		return err
	}
	text := was
	for _, l := range a.linkedNow(c, there) {
		text = container.ReplaceLinked(text, l, own)
	}
	if text == was {
		return nil
	}
	_, err = a.store.WriteContainerFile(c.ID, "hosts", text)
	return err
}

// linkedNow returns what is known now of those containers that one of dnet's links to and that are
// on the default bridge. there are the records of that.
func (a *app) linkedNow(c *records.Container, there []*records.Record) (list []container.Linked) {
	for _, l := range c.Links {
		i := slices.IndexFunc(there, func(r *records.Record) bool {
			return r.State == records.Up && r.IPAM.Type != "" && firewall.IsTarget(l.Target, r.Name, r.Container)
		})
		if i >= 0 {
			list = append(list, a.linked(l, there[i]))
		}
	}
	return list
}

// variablesNow returns the variables by which a container's further commands know those that it
// links to, as they are now. Docker's exec fails where one of them is gone.
func (a *app) variablesNow(c *records.Container) (list []string) {
	if len(c.Links) == 0 {
		return nil
	}
	there, err := a.store.List(defaultNetwork)
	if err != nil { // the other records were read all the same
		a.warn("%v", err)
	}
	for _, l := range a.linkedNow(c, there) {
		list = append(list, l.Variables(c.Name)...)
	}
	return list
}
