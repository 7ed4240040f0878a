package network

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"dcni/pkg/wire"
)

// DockerOptions are a driver's options of `docker network create -o`, by name.
type DockerOptions map[string]DockerOption

// A DockerOption says which key of a plugin's configuration an option means, and how
// its string reads as JSON. An option without a key is accepted and means nothing
// to the plugin.
type DockerOption struct {
	Key     string
	JSON    func(value string) (json.RawMessage, error) // the error is strconv's
	Allowed string                                      // for errors
}

// StringOption is an option whose value is a string.
func StringOption(key string) DockerOption {
	return DockerOption{key, func(v string) (json.RawMessage, error) { return Quote(v), nil }, ""}
}

// BoolOption is an option whose value is true or false.
func BoolOption(key string) DockerOption {
	return DockerOption{key, func(v string) (json.RawMessage, error) {
		b, err := strconv.ParseBool(v)
		return strconv.AppendBool(nil, b), err
	}, "must be true or false"}
}

// FlagOption is a BoolOption that is true by being there.
func FlagOption(key string) DockerOption {
	o := BoolOption(key)
	read := o.JSON
	o.JSON = func(v string) (json.RawMessage, error) { return read(cmp.Or(v, "true")) }
	return o
}

// NumberOption is an option whose value is a whole number.
func NumberOption(key string) DockerOption {
	return DockerOption{key, func(v string) (json.RawMessage, error) {
		n, err := strconv.Atoi(v)
		return strconv.AppendInt(nil, int64(n), 10), err
	}, "must be a whole number"}
}

// ListOption is an option whose value is a list with colons between.
func ListOption(key string) DockerOption {
	return DockerOption{key, func(v string) (json.RawMessage, error) { return json.Marshal(strings.Split(v, ":")) }, ""}
}

// IfacePrefix is Docker's option for the names of a network's interfaces in containers:
// "lan" for lan0. The runtime chooses these names: dnet does as the option says, and
// where another runtime does not, ADD says so.
const IfacePrefix = "com.docker.network.container_iface_prefix"

// PrefixOption is IfacePrefix, which has no key of its own.
func PrefixOption() DockerOption {
	return DockerOption{"", func(v string) (json.RawMessage, error) {
		if !ValidLink(v + "00") {
			return nil, strconv.ErrSyntax
		}
		return Quote(v), nil
	}, "must be the beginning of " + LinkRule + ", and leave room for two digits"}
}

// Names returns the names of the options, sorted.
func (t DockerOptions) Names() []string { return slices.Sorted(maps.Keys(t)) }

// PrefixOf returns IfacePrefix as a configuration's key "options" has it, "" if it has none.
func PrefixOf(keys Object) string {
	var given map[string]string
	_ = json.Unmarshal(keys["options"], &given) // Replace refuses what is none
	return given[IfacePrefix]
}

// Replace replaces the key "options" of a configuration, which has Docker's names,
// by the plugin's own keys.
func (t DockerOptions) Replace(keys Object) error {
	raw, ok := keys["options"]
	if !ok {
		return nil
	}
	delete(keys, "options")
	given, err := split(raw)
	if err != nil {
		return wire.Errorf(wire.CodeConfig, "options: must be an object of strings, as in docker network create -o")
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		option, ok := t[name]
		if !ok {
			return UnknownKey("options", name, slices.Sorted(maps.Keys(t)))
		}
		var text string
		if err := decodeValue(given[name], "options."+name, reflect.ValueOf(&text).Elem()); err != nil {
			return err
		}
		value, err := option.JSON(text)
		if err != nil {
			return wire.Invalid("options."+name, text, option.Allowed)
		}
		if option.Key == "" {
			continue
		}
		if err := keys.Merge(option.Key, value, "options."+name); err != nil {
			return err
		}
	}
	return nil
}

// Check reads the values as Docker does, with Docker's errors. A name that is not
// known is no error here: [DockerOptions.Replace] says which one is near.
func (t DockerOptions) Check(given map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(given)) {
		option, known := t[name]
		if !known {
			continue
		}
		if _, err := option.JSON(given[name]); err != nil {
			return fmt.Errorf("failed to parse %s value: %s (%w)", name, given[name], err)
		}
	}
	return nil
}

// Show returns what a configuration says under Docker's names: what is in its key
// "options", and what is under keys of the plugin. A key that no option means keeps
// its name.
func (t DockerOptions) Show(keys Object) (map[string]string, error) {
	names := map[string]string{}
	for name, option := range t {
		names[option.Key] = name
	}
	out := map[string]string{}
	for key, value := range keys {
		if key == "options" {
			continue
		}
		name := names[key]
		if name == "" {
			name = key
		}
		out[name] = plain(value)
	}
	var given map[string]string
	if raw, ok := keys["options"]; ok {
		if err := json.Unmarshal(raw, &given); err != nil {
			return out, err
		}
	}
	maps.Copy(out, given)
	return out, nil
}

// plain returns a JSON value as Docker shows an option: strings without quotes,
// lists with colons between.
func plain(value json.RawMessage) string {
	var list []string
	if json.Unmarshal(value, &list) == nil {
		return strings.Join(list, ":")
	}
	var one string
	if json.Unmarshal(value, &one) == nil {
		return one
	}
	return string(value)
}
