package integration

import (
	"encoding/json"
	"testing"
)

// TestNamesInBridge runs the scripts about names once more, with the key "names" of
// dbridge in place of a ddns behind it.
func TestNamesInBridge(t *testing.T) { run(t) }

// inBridge returns a configuration list in which dbridge sees to names itself where
// a ddns behind it did. A default bridge keeps its ddns: that one has no names
// unless they are asked for, and the key asks.
func inBridge(list []byte) ([]byte, error) {
	var conf map[string]json.RawMessage
	if err := json.Unmarshal(list, &conf); err != nil {
		return nil, err
	}
	if conf["plugins"] == nil {
		return list, nil // one plugin's configuration
	}
	var plugins []map[string]json.RawMessage
	if err := json.Unmarshal(conf["plugins"], &plugins); err != nil {
		return nil, err
	}
	if len(plugins) != 2 || string(plugins[0]["type"]) != `"dbridge"` || string(plugins[1]["type"]) != `"ddns"` || plugins[0]["defaultBridge"] != nil {
		return list, nil
	}
	bridge, ddns := plugins[0], plugins[1]
	capabilities := map[string]bool{}
	for _, plugin := range plugins {
		if raw := plugin["capabilities"]; raw != nil {
			if err := json.Unmarshal(raw, &capabilities); err != nil {
				return nil, err
			}
		}
	}
	if dns := ddns["dns"]; dns != nil {
		bridge["dns"] = dns
	}
	for _, key := range []string{"type", "capabilities", "dns", "comment", "names"} {
		delete(ddns, key)
	}
	var err error
	if bridge["capabilities"], err = json.Marshal(capabilities); err == nil {
		bridge["names"], err = json.Marshal(ddns)
	}
	if err == nil {
		conf["plugins"], err = json.Marshal(plugins[:1])
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(conf)
}
