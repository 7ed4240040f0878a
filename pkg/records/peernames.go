package records

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"dcni/pkg/names"
	"dcni/pkg/records/disk"
	"dcni/pkg/records/filecache"
	"dcni/pkg/service"
)

// peerNamesPath is where the names are that an overlay network's containers on other
// nodes have. The network's name is one of the CNI's, without a slash.
func (s Store) peerNamesPath(network string) string {
	return filepath.Join(s.Run, "overlay", network+".json")
}

// PutPeerNames keeps these names until the host boots: a dnetd that starts while the
// cluster's store is away answers to them.
func (s Store) PutPeerNames(network string, list []names.Entry) error {
	data, err := json.Marshal(list)
	if err != nil {
		return err
	}
	path := s.peerNamesPath(network)
	return s.Root(s.Run).Replace(path, data, false)
}

// PeerNames returns them; fs.ErrNotExist where there are none.
func (s Store) PeerNames(network string) (list []names.Entry, err error) {
	data, err := disk.ReadFile(s.peerNamesPath(network))
	if err == nil {
		err = json.Unmarshal(data, &list)
	}
	return list, err
}

// DeletePeerNames deletes them. It is no error if there are none.
func (s Store) DeletePeerNames(network string) error {
	err := os.Remove(s.peerNamesPath(network))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// servedPath is where a node keeps what it knows of an overlay network's services: two lines of
// JSON, the services and their tasks. The file is there as long as dnetd follows the network, and
// empty if that has no services.
func (s Store) servedPath(network string) string {
	return filepath.Join(s.Run, "served", network+".json")
}

// PutServed keeps what the cluster's store says of a network's services until the host boots:
// plugins and dnetd have it from here, also while the store is away. What was known of checks
// of services that are gone goes.
func (s Store) PutServed(p service.Picture) error {
	var file bytes.Buffer
	checked := map[string]bool{}
	if len(p.Services) > 0 {
		first := p
		first.Endpoints = nil
		values := json.NewEncoder(&file)
		if err := errors.Join(values.Encode(first), values.Encode(p.Endpoints)); err != nil {
			return err
		}
	}
	for _, v := range p.Services {
		checked[v.Name] = v.Health != ""
	}
	errs := []error{s.Root(s.Run).Replace(s.servedPath(p.Name), file.Bytes(), false)}
	for name := range s.marks(s.healthyDir(p.Name)) {
		if !checked[name] {
			errs = append(errs, s.forgetChecks(p.Name, name))
		}
	}
	return errors.Join(errs...)
}

// Served returns it; fs.ErrNotExist where nothing is known.
func (s Store) Served(network string) (service.Picture, error) {
	w := s.Cache.Walk("served " + network)
	defer w.End()
	return filecache.Remember(w, s.servedPath(network), func() (service.Picture, error) { return s.served(network, true) })
}

// ServedAlone is Served without the tasks, which it does not read: they may be a thousand.
func (s Store) ServedAlone(network string) (service.Picture, error) { return s.served(network, false) }

func (s Store) served(network string, tasks bool) (p service.Picture, err error) {
	data, err := disk.ReadFile(s.servedPath(network))
	if err == nil && len(data) > 0 {
		values := json.NewDecoder(bytes.NewReader(data))
		if err = values.Decode(&p); err == nil && tasks {
			err = values.Decode(&p.Endpoints)
		}
	}
	p.Name = network
	return p, err
}

// KnowsServices reports whether it is known which services an overlay network has, be it none.
func (s Store) KnowsServices(network string) bool { return disk.Exists(s.servedPath(network)) }

// DeleteServed deletes it, when dnetd follows the network no more. It is no error if there is
// nothing.
func (s Store) DeleteServed(network string) error {
	errs := []error{os.RemoveAll(s.healthyDir(network))}
	_ = unix.Rmdir(filepath.Dir(s.healthyDir(network))) // not empty: of other networks
	if err := os.Remove(s.servedPath(network)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	_ = unix.Rmdir(filepath.Dir(s.servedPath(network)))
	return errors.Join(errs...)
}
