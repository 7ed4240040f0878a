package main

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"dcni/pkg/cni"
	"dcni/pkg/container"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// This file is about what is in the files of a container of dnet's when it is connected
// to a network later, or disconnected. Other runtimes' files are theirs.

// connectFiles adds a network's addresses to a container's hosts file, and has names asked for
// where the network says, if it is the first one that does.
func (a *app) connectFiles(c *records.Container, result *types100.Result) error {
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
