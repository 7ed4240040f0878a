package network

import (
	"encoding/json"
	"fmt"
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
}

// ID returns the network's ID, see [ID].
func (c *Conflist) ID() string { return ID(c.Name) }

// rawConflist mirrors the JSON of a list, and of a single plugin's
// configuration, which the older files have.
type rawConflist struct {
	CNIVersion string            `json:"cniVersion"`
	Name       string            `json:"name"`
	Type       string            `json:"type"`
	Plugins    []json.RawMessage `json:"plugins"`
	// Args is for programs like this one; a runtime passes it by.
	Args struct {
		// Labels are where Podman has those of a network: so it shows ours, and
		// dnet shows its.
		Labels map[string]string `json:"podman_labels"`
	} `json:"args"`
}

// ParseConflist reads a network's file: a list of plugins, or one plugin. What
// a plugin's own configuration says is not looked at.
func ParseConflist(data []byte) (*Conflist, error) {
	var raw rawConflist
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, err
	}
	switch {
	case raw.Name == "":
		return nil, fmt.Errorf("no name")
	case !ValidName(raw.Name):
		return nil, fmt.Errorf("name %q: must be %s", raw.Name, NameRule)
	}
	if raw.Type != "" && raw.Plugins == nil {
		list, err := listOf(raw, data)
		if err != nil {
			return nil, err
		}
		data, raw.Plugins = list, []json.RawMessage{data}
	}
	if len(raw.Plugins) == 0 {
		return nil, fmt.Errorf("network %s has no plugins", raw.Name)
	}
	c := &Conflist{Name: raw.Name, Labels: raw.Args.Labels, Plugins: raw.Plugins, Raw: data}
	if c.Labels == nil {
		c.Labels = map[string]string{}
	}
	var first struct {
		Type string `json:"type"`
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

// listOf returns a single plugin's configuration as a list.
func listOf(raw rawConflist, plugin []byte) ([]byte, error) {
	return json.MarshalIndent(map[string]any{
		"cniVersion": raw.CNIVersion, "name": raw.Name, "plugins": []json.RawMessage{plugin},
	}, "", "  ")
}
