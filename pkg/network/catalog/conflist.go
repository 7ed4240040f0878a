// Package catalog is about the networks that a host has, as people see them: the files that
// runtimes keep in /etc/cni/net.d, and what Docker's command line does with networks: create,
// list, find, inspect. What a mode does for its own it says by [Creator], [Inspector] and
// [Remover].
package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// A Conflist is a network as its file describes it: the network configuration list of
// the CNI specification. Any program may have written the file.
type Conflist struct {
	Name    string
	Driver  string            // Docker's word (bridge), or another suite's plugin type
	Type    string            // of the first plugin
	Main    *network.Plugin   // the first plugin, if it is one of dcni's, else nil
	Labels  map[string]string // never nil
	Plugins []json.RawMessage // in the order of the chain
	Raw     []byte            // the list, as runtimes read it

	Attachable bool // --attachable of `dnet create`; it has no effect
	// Configuration says that this is a configuration network, which has no plugins; nil for
	// all others.
	Configuration *Configuration
	ConfigFrom    string // the configuration network that it was made by; "" for none
	// NoGateway are subnets, "10.1.0.0/24", that a client of Docker's API gave without a gateway: it expects to
	// find none when it looks.
	NoGateway []string
}

// ID returns the network's ID, see [ID].
func (c *Conflist) ID() string { return network.ID(c.Name) }

// cniVersions are the versions in a file of ours. The first is its cniVersion, for
// runtimes that read only that (containerd 1.6 refuses 1.1.0); the list is for runtimes
// that choose.
var cniVersions = []string{"1.0.0", "1.1.0"}

// conflistFile is the JSON of a list.
type conflistFile struct {
	CNIVersion  string            `json:"cniVersion"`
	CNIVersions []string          `json:"cniVersions,omitempty"`
	Name        string            `json:"name"`
	Args        json.RawMessage   `json:"args,omitempty"`
	Plugins     []json.RawMessage `json:"plugins"`
}

// conflistArgs are the args of a list that dnet reads and writes; runtimes ignore them.
type conflistArgs struct {
	Dnet struct {
		Attachable bool   `json:"attachable,omitempty"`
		ConfigFrom string `json:"configFrom,omitempty"`

		NoGateway []string `json:"noGateway,omitempty"`
	} `json:"dnet,omitzero"`
	// Labels are where Podman keeps a network's labels: it shows dnet's, and dnet shows
	// Podman's.
	Labels map[string]string `json:"podman_labels,omitempty"`
}

// ParseConflist reads a network's file: a list of plugins, or one plugin. It does not
// check the plugins' own configurations. plugins is the table of ours.
func ParseConflist(data []byte, plugins []*network.Plugin) (*Conflist, error) {
	var raw conflistFile
	var first struct {
		Type string `json:"type"`
	}
	for _, into := range []any{&raw, &first} {
		if err := json.Unmarshal(data, into); err != nil {
			return nil, err
		}
	}
	if err := checkName(raw.Name); err != nil {
		return nil, err
	}
	if first.Type != "" && raw.Plugins == nil {
		raw.Plugins = []json.RawMessage{data}
		list, err := json.MarshalIndent(raw, "", "  ")
		if err != nil {
			return nil, err
		}
		data = list
	}
	if len(raw.Plugins) == 0 {
		return nil, fmt.Errorf("network %s has no plugins", raw.Name)
	}
	c := &Conflist{Name: raw.Name, Labels: map[string]string{}, Plugins: raw.Plugins, Raw: data}
	var args conflistArgs
	if json.Unmarshal(raw.Args, &args) == nil { // other programs may have anything there
		c.Attachable, c.ConfigFrom, c.NoGateway = args.Dnet.Attachable, args.Dnet.ConfigFrom, args.Dnet.NoGateway
		maps.Copy(c.Labels, args.Labels)
	}
	if err := json.Unmarshal(raw.Plugins[0], &first); err != nil {
		return nil, fmt.Errorf("plugins[0]: %w", err)
	}
	if first.Type == "" {
		return nil, fmt.Errorf("plugins[0]: no type")
	}
	c.Type, c.Driver = first.Type, first.Type
	if c.Main = pluginOf(plugins, c.Type); c.Main != nil {
		c.Driver = c.Main.Driver.Name()
	}
	return c, nil
}

// EncodeConflist returns a network's file as dcni writes it: a list of one plugin, whose
// configuration is encoded as JSON.
func EncodeConflist(name string, plugin any, labels map[string]string, attachable bool) ([]byte, error) {
	return encodeList(listing{name: name, plugins: []any{plugin}, labels: labels, attachable: attachable})
}

// A listing is what a list of plugins is written from.
type listing struct {
	name       string
	version    string // "": the versions of our plugins
	plugins    []any
	labels     map[string]string
	attachable bool
	configFrom string
	noGateway  []string
}

// encodeList writes a list.
func encodeList(l listing) ([]byte, error) {
	file := conflistFile{CNIVersion: cniVersions[0], CNIVersions: cniVersions, Name: l.name}
	if l.version != "" {
		file.CNIVersion, file.CNIVersions = l.version, nil
	}
	for _, plugin := range l.plugins {
		data, err := encode(plugin)
		if err != nil {
			return nil, err
		}
		file.Plugins = append(file.Plugins, data)
	}
	if args := (conflistArgs{Labels: l.labels}); len(l.labels) > 0 || l.attachable || l.configFrom != "" || len(l.noGateway) > 0 {
		var err error
		args.Dnet.Attachable, args.Dnet.ConfigFrom, args.Dnet.NoGateway = l.attachable, l.configFrom, l.noGateway
		if file.Args, err = encode(args); err != nil {
			return nil, err
		}
	}
	out, err := encode(file)
	if err != nil {
		return nil, err
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, out, "", "  "); err != nil {
		return nil, err
	}
	return append(pretty.Bytes(), '\n'), nil
}

// checkName returns an error if libcni refuses a network's name.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("name: must be given")
	case !network.ValidName(name):
		return wire.Invalid("name", name, "must be "+network.NameRule)
	}
	return nil
}
