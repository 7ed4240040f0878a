package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"dcni/pkg/cni"
	"dcni/pkg/netns"
	"dcni/pkg/network"
	"dcni/pkg/records"
)

// A donor is the container whose network namespace another one joins.
type donor struct {
	*network.Donor
	ns  *netns.NS          // its network namespace; nil: the host's
	own *records.Container // nil: it is another runtime's
}

// close lets go of the donor's namespace. A nil donor has none.
func (d *donor) close() {
	if d != nil && d.ns != nil {
		d.ns.Close()
	}
}

// findDonor finds the container that is to be joined. self is the name of the container
// that is to join it.
func (a *app) findDonor(word, self string) (*donor, error) {
	machine, err := a.openHost(a.store)
	if err != nil {
		return nil, err
	}
	defer machine.Close()
	list, err := machine.Donors()
	if err != nil {
		return nil, err
	}
	if self != "" {
		list = append(list, network.Donor{Container: selfID, Names: []string{self}})
	}
	d := &donor{}
	d.Donor, err = network.FindDonor(list, word, selfID, func(n *network.Donor) bool {
		path, _ := machine.NetNSOf(n)
		return path != ""
	})
	if err != nil {
		return nil, err
	}
	if d.own, err = a.store.Container(d.Container); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	path, found := machine.NetNSOf(d.Donor)
	if found.Own && path != "" {
		return d, nil
	}
	return d, d.open(path, found.Cookie)
}

// selfID stands for the ID of a container that has none yet: no container has this one.
const selfID = "-"

// open opens the donor's network namespace, which lives from then on for as long as it is
// open.
func (d *donor) open(path string, cookie uint64) (err error) {
	var have uint64
	if d.ns, err = netns.Open(path); err == nil {
		have, err = d.ns.Cookie()
	}
	if err == nil && have == cookie {
		return nil
	}
	d.close()
	return fmt.Errorf("cannot join network namespace of a non running container: container %s is %s", d.Title(), network.Exited)
}

// results returns what the donor's networks gave it.
func (d *donor) results() []*types100.Result {
	var list []*types100.Result
	for _, one := range d.Attachments {
		if result, err := cni.ReadDonation(one.Result); err == nil {
			list = append(list, result)
		}
	}
	return list
}

// hostname returns the name of the host that the donor has, or what it is called where
// that is not known.
func (d *donor) hostname() string {
	if d.own != nil {
		return d.own.Hostname
	}
	return d.Title()
}

// linkFiles makes the donor's files those of the container, as in Docker: what changes in
// one changes in both. They are links, not mounts of the donor's: [sandbox.Sweep] knows a
// container's processes by the paths of its mounts.
func (a *app) linkFiles(d *records.Container, id string) (map[string]string, error) {
	files := map[string]string{}
	for _, target := range []string{resolvConf, hostsFile, hostname} {
		name := filepath.Base(target)
		path := filepath.Join(a.store.ContainerDir(id), name)
		if err := os.Link(filepath.Join(a.store.ContainerDir(d.ID), name), path); err != nil {
			return nil, err
		}
		files[target] = path
	}
	return files, nil
}
