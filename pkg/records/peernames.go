package records

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"dcni/pkg/names"
	"dcni/pkg/records/disk"
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
