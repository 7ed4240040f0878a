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

// libcniResults is where libcni keeps the list of plugins of each ADD and what
// came of it. dnet and runtimes read their networks from [DefaultConfDir].
const libcniResults = "/var/lib/cni/results"

// Kept returns what libcni keeps of an attachment that a runtime made, with what DEL needs to
// be told but for where the plugins are; nil where that is not kept.
func (s Store) Kept(a wire.Attachment) *Connection { return keptIn(libcniResults, DefaultConfDir(), a) }

func keptIn(results string, lists ConfDir, a wire.Attachment) *Connection {
	var kept keptAttachment
	var list struct {
		CNIVersion string `json:"cniVersion"`
	}
	data, err := disk.ReadLimited(keptFile(results, a), 0, maxKept)
	if err != nil || json.Unmarshal(data, &kept) != nil || json.Unmarshal(kept.Config, &list) != nil {
		return nil
	}
	if kept.NetworkName != a.Network || kept.ContainerID != a.Container || kept.IfName != a.IfName {
		return nil
	}
	conf, _ := lists.WithSidePlugins(kept.Config) // one that can't be read has no DEL
	return &Connection{
		Container:  a.Container,
		Attachment: Attachment{Network: a.Network, IfName: a.IfName, Conf: conf, Args: kept.Args, Values: kept.Values},
		CNIVersion: list.CNIVersion, NetNS: kept.NetNS, Result: kept.Result,
	}
}

// ChainOf returns the list of plugins of an attachment, nothing where none is found.
func (s Store) ChainOf(a wire.Attachment) network.Chain {
	return chainIn(libcniResults, string(DefaultConfDir()), a)
}

func chainIn(results, lists string, a wire.Attachment) network.Chain {
	var kept struct {
		Config  []byte          `json:"config"`
		Result  json.RawMessage `json:"result"`
		Values  json.RawMessage `json:"capabilityArgs"`
		Network string          `json:"networkName"`
		ID      string          `json:"containerId"`
		IfName  string          `json:"ifName"`
	}
	data, err := disk.ReadFile(keptFile(results, a))
	if err == nil && json.Unmarshal(data, &kept) == nil && len(kept.Config) > 0 &&
		(wire.Attachment{Network: kept.Network, Container: kept.ID, IfName: kept.IfName}) == a {
		list, _ := ConfDir(lists).WithSidePlugins(kept.Config)
		return network.Chain{List: list, Result: kept.Result, Values: kept.Values}
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
			data, _ = ConfDir(lists).WithSidePlugins(data)
			return network.Chain{List: data}
		}
	}
	return network.Chain{}
}

// keptFile is where libcni keeps an attachment. Names that have a "-" in them can make one name of
// a file: the network web with the container default-db, and web-default with db. The file says whose it is.
func keptFile(results string, a wire.Attachment) string {
	return filepath.Join(results, strings.Join([]string{a.Network, a.Container, a.IfName}, "-"))
}
