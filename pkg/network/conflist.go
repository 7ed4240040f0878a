package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"dcni/pkg/wire"
)

// A Conflist is a network as its file has it, whoever wrote that: the network
// configuration list of the CNI specification.
type Conflist struct {
	Name    string
	Driver  string            // Docker's word (bridge), or another suite's plugin type
	Type    string            // of the first plugin
	Ours    bool              // the first plugin is one of dcni's
	Labels  map[string]string // never nil
	Plugins []json.RawMessage // in the order of the chain
	Raw     []byte            // the list, as runtimes read it

	Attachable bool // as it was created with; no container is refused for it
}

// ID returns the network's ID, see [ID].
func (c *Conflist) ID() string { return ID(c.Name) }

// cniVersions are those that a file of ours names: the first is for runtimes
// that know one (containerd 1.6 refuses 1.1.0), the list for those that choose.
var cniVersions = []string{"1.0.0", "1.1.0"}

// conflistFile is the JSON of a list.
type conflistFile struct {
	CNIVersion  string            `json:"cniVersion"`
	CNIVersions []string          `json:"cniVersions,omitempty"`
	Name        string            `json:"name"`
	Args        json.RawMessage   `json:"args,omitempty"`
	Plugins     []json.RawMessage `json:"plugins"`
}

// conflistArgs is what a list says to programs like this one; runtimes pass it
// by.
type conflistArgs struct {
	Dnet struct {
		Attachable bool `json:"attachable,omitempty"`
	} `json:"dnet,omitzero"`
	// Labels are where Podman has those of a network: so it shows ours, and dnet
	// shows its.
	Labels map[string]string `json:"podman_labels,omitempty"`
}

// ParseConflist reads a network's file: a list of plugins, or one plugin. What
// a plugin's own configuration says is not looked at.
func ParseConflist(data []byte) (*Conflist, error) {
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
	if json.Unmarshal(raw.Args, &args) == nil { // whatever else others have there
		c.Attachable = args.Dnet.Attachable
		maps.Copy(c.Labels, args.Labels)
	}
	if err := json.Unmarshal(raw.Plugins[0], &first); err != nil {
		return nil, fmt.Errorf("plugins[0]: %w", err)
	}
	if first.Type == "" {
		return nil, fmt.Errorf("plugins[0]: no type")
	}
	c.Type = first.Type
	c.Driver, c.Ours = DriverOf(first.Type)
	return c, nil
}

// checkName says whether libcni takes a name for a network's.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("name: must be given")
	case !ValidName(name):
		return wire.Invalid("name", name, "must be "+NameRule)
	}
	return nil
}
