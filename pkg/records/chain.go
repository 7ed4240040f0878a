package records

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"dcni/pkg/network"
	"dcni/pkg/records/disk"
	"dcni/pkg/wire"
)

// Where a network's list of plugins is found: libcni keeps the list of each ADD and what
// came of it, dnet and runtimes read their networks from the other.
const (
	libcniResults = "/var/lib/cni/results"
	networkLists  = "/etc/cni/net.d"
)

// Kept returns what libcni keeps of an attachment that a runtime made, with what DEL needs to
// be told but for where the plugins are; nil where that is not kept.
func (s Store) Kept(a wire.Attachment) *Connection { return keptIn(libcniResults, a) }

func keptIn(results string, a wire.Attachment) *Connection {
	var kept keptAttachment
	var list struct {
		CNIVersion string `json:"cniVersion"`
	}
	name := strings.Join([]string{a.Network, a.Container, a.IfName}, "-")
	data, err := disk.ReadLimited(filepath.Join(results, name), 0, maxKept)
	if err != nil || json.Unmarshal(data, &kept) != nil || json.Unmarshal(kept.Config, &list) != nil {
		return nil
	}
	if kept.NetworkName != a.Network || kept.ContainerID != a.Container || kept.IfName != a.IfName {
		return nil // names that have a "-" in them can make one name of a file
	}
	return &Connection{
		Container:  a.Container,
		Attachment: Attachment{Network: a.Network, IfName: a.IfName, Conf: kept.Config, Args: kept.Args, Values: kept.Values},
		CNIVersion: list.CNIVersion, NetNS: kept.NetNS, Result: kept.Result,
	}
}

// ChainOf returns the list of plugins of an attachment, nothing where none is found.
func (s Store) ChainOf(a wire.Attachment) network.Chain {
	return chainIn(libcniResults, networkLists, a)
}

func chainIn(results, lists string, a wire.Attachment) network.Chain {
	var kept struct {
		Config []byte          `json:"config"`
		Result json.RawMessage `json:"result"`
		Values json.RawMessage `json:"capabilityArgs"`
	}
	name := strings.Join([]string{a.Network, a.Container, a.IfName}, "-")
	if data, err := disk.ReadFile(filepath.Join(results, name)); err == nil && json.Unmarshal(data, &kept) == nil && len(kept.Config) > 0 {
		return network.Chain{List: kept.Config, Result: kept.Result, Values: kept.Values}
	}
	entries, _ := os.ReadDir(lists)
	for _, entry := range entries {
		path := filepath.Join(lists, entry.Name())
		info, err := os.Stat(path)
		if filepath.Ext(path) != ".conflist" || err != nil || !info.Mode().IsRegular() {
			continue
		}
		data, err := disk.ReadFile(path)
		var list struct {
			Name string `json:"name"`
		}
		if err == nil && json.Unmarshal(data, &list) == nil && list.Name == a.Network {
			return network.Chain{List: data}
		}
	}
	return network.Chain{}
}
