package records

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"

	"dcni/pkg/records/disk"
)

// underlayPath is the file with the addresses of the cluster's nodes, as dnetd put them
// into the rules last: /run/dcni/nodes.json, a list. Who lays the rules again has them.
func (s Store) underlayPath() string { return filepath.Join(s.Run, "nodes.json") }

// PutUnderlayNodes writes the addresses of the cluster's nodes.
func (s Store) PutUnderlayNodes(nodes []netip.Addr) error {
	data, err := json.Marshal(nodes)
	if err != nil {
		return fmt.Errorf("nodes: %w", err)
	}
	return s.writeFile(s.underlayPath(), data)
}

// UnderlayNodes reads them. There are none where the file can't be read: dnetd writes it
// again.
func (s Store) UnderlayNodes() (nodes []netip.Addr, err error) {
	data, err := disk.ReadFile(s.underlayPath())
	if errors.Is(err, fs.ErrNotExist) || disk.IsUnreadable(err) {
		err = nil
	}
	if err == nil && json.Unmarshal(data, &nodes) != nil {
		nodes = nil
	}
	return nodes, err
}
