package migrate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// interpolated returns a Compose file whose strings, where they are of networks or the project's
// name, are as Compose has them: $$ is one dollar sign. A variable is refused, for its value is
// known to Compose only.
func interpolated(data []byte) ([]byte, error) {
	var file map[string]any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&file); err != nil {
		return data, nil //nolint:nilerr // what reads it next says what is wrong
	}
	for _, key := range []string{"name", "networks"} {
		value, is := file[key]
		if !is {
			continue
		}
		var err error
		if file[key], err = interpolate(key, value); err != nil {
			return nil, err
		}
	}
	return json.Marshal(file)
}

// interpolate does so with the strings of a value. path is where that is in the file.
func interpolate(path string, value any) (any, error) {
	var err error
	switch v := value.(type) {
	case string:
		return dollars(path, v)
	case []any:
		for i := range v {
			if v[i], err = interpolate(fmt.Sprintf("%s[%d]", path, i), v[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if v[key], err = interpolate(path+"."+key, v[key]); err != nil {
				return nil, err
			}
		}
	}
	return value, nil
}

func dollars(path, text string) (string, error) {
	if rest := strings.ReplaceAll(text, "$$", ""); strings.Contains(rest, "$") {
		return "", fmt.Errorf("has a variable in %s: %q: give what docker compose config prints, which has its value; a dollar sign is $$", path, text)
	}
	return strings.ReplaceAll(text, "$$", "$"), nil
}
