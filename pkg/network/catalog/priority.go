package catalog

import "encoding/json"

// WithPriority returns a list whose first plugin has another gwPriority.
func WithPriority(list []byte, priority int) ([]byte, error) {
	var conf map[string]json.RawMessage
	if err := json.Unmarshal(list, &conf); err != nil {
		return nil, err
	}
	var plugins []map[string]json.RawMessage
	if err := json.Unmarshal(conf["plugins"], &plugins); err != nil {
		return nil, err
	}
	value, err := json.Marshal(priority)
	if err != nil {
		return nil, err
	}
	plugins[0]["gwPriority"] = value
	if conf["plugins"], err = json.Marshal(plugins); err != nil {
		return nil, err
	}
	return json.Marshal(conf)
}
