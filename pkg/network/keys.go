package network

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"dcni/pkg/wire"
)

// Object is a JSON object with its keys in the case of the known ones.
type Object map[string]json.RawMessage

// standard are the keys that any plugin's configuration may have (CNI
// specification, "Plugin configuration objects"), and ours for remarks.
var standard = []string{
	"cniVersion", "cniVersions", "name", "type", "capabilities", "args", "runtimeConfig",
	"prevResult", "ipam", "dns", "comment",
}

// StandardKeys are the keys that any plugin's configuration may have.
func StandardKeys() []string { return slices.Clone(standard) }

// Keys splits a JSON object into its keys and refuses those that are neither
// known nor under "cni.dev/": a mistyped "internal" must not silently publish
// a container. Case folds as in encoding/json. The path is what errors call
// the object: "" for the configuration itself, else "ipam".
func Keys(raw []byte, path string, known []string) (Object, error) {
	all, err := split(raw)
	if err != nil {
		return nil, DecodeError(wire.CodeConfig, path, err)
	}
	return all.keys(path, known)
}

// parts are the values of a JSON object, by the keys as they are written.
type parts map[string]json.RawMessage

func split(raw []byte) (all parts, err error) {
	err = json.Unmarshal(raw, &all)
	return all, err
}

// A Conf is the configuration of a plugin, split into its keys once for all readers.
type Conf struct{ all parts }

// ReadConf splits a configuration. The error has code 6.
func ReadConf(raw []byte) (Conf, error) {
	all, err := split(raw)
	if err != nil {
		return Conf{}, DecodeError(wire.CodeDecode, "", err)
	}
	return Conf{all}, nil
}

// Keys is [Keys] of the configuration.
func (c Conf) Keys(known []string) (Object, error) { return c.all.keys("", known) }

// Name returns the name of the network, "" where none is given.
func (c Conf) Name() string {
	var name string
	_ = json.Unmarshal(c.all.pick([]string{"name"})["name"], &name) // the engine refuses a name that is no string
	return name
}

// Pick is [Pick] of the configuration.
func (c Conf) Pick(keys ...string) Object { return c.all.pick(keys) }

func (have parts) keys(path string, known []string) (Object, error) {
	out := Object{}
	for _, key := range slices.Sorted(maps.Keys(have)) {
		if strings.HasPrefix(key, "cni.dev/") {
			continue
		}
		i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, key) })
		if i < 0 {
			return nil, UnknownKey(path, key, known)
		}
		if _, twice := out[known[i]]; twice {
			return nil, wire.Errorf(wire.CodeConfig, "%s: given twice, in different case", join(path, known[i]))
		}
		out[known[i]] = have[key]
	}
	return out, nil
}

// Pick returns some keys of a JSON object and ignores the others, which are for other
// plugins. Case folds as in encoding/json. A missing object, or null, has no keys. The
// path is as for [Keys].
func Pick(raw []byte, path string, keys ...string) (Object, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	all, err := split(raw)
	if err != nil {
		return nil, DecodeError(wire.CodeConfig, path, err)
	}
	return all.pick(keys), nil
}

func (have parts) pick(keys []string) Object {
	out := Object{}
	for key, value := range have {
		i := slices.IndexFunc(keys, func(k string) bool { return strings.EqualFold(k, key) })
		if i < 0 || string(value) == "null" {
			continue
		}
		if _, twice := out[keys[i]]; !twice || key == keys[i] {
			out[keys[i]] = value
		}
	}
	return out
}

// Decode fills a struct from the object's keys. The path is as for [Keys].
//
// Each value is decoded by itself. So an error names that value, and a plugin, which
// decodes a handful of keys once, saves the time that encoding/json needs to inspect
// the whole struct.
func (o Object) Decode(path string, into any) error {
	v := reflect.ValueOf(into).Elem()
	for i := range v.NumField() {
		name := tag(v.Type().Field(i))
		if raw, ok := o[name]; ok && string(raw) != "null" {
			if err := decodeValue(raw, join(path, name), v.Field(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Strict decodes a JSON object into a struct, whose tags are the known keys.
// Objects within are read as strictly: a mistyped key does as much harm there.
func Strict(raw []byte, path string, into any) error {
	keys, err := Keys(raw, path, Known(into))
	if err != nil {
		return err
	}
	return keys.Decode(path, into)
}

// decodeValue decodes one value, into a field that can be set.
func decodeValue(raw json.RawMessage, path string, v reflect.Value) error {
	t := v.Type()
	switch {
	case t == reflect.TypeFor[json.RawMessage]():
		v.SetBytes(raw)
		return nil
	case t.Kind() == reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		return decodeValue(raw, path, v.Elem())
	case t.Kind() == reflect.Struct:
		if !bytes.HasPrefix(raw, []byte("{")) {
			return wrongType(raw, path, t)
		}
		return Strict(raw, path, v.Addr().Interface())
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		return decodeList(raw, path, v)
	}
	if json.Unmarshal(raw, v.Addr().Interface()) != nil {
		return wrongType(raw, path, t)
	}
	return nil
}

// decodeList decodes a list of objects.
func decodeList(raw json.RawMessage, path string, v reflect.Value) error {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return wrongType(raw, path, v.Type())
	}
	v.Set(reflect.MakeSlice(v.Type(), len(list), len(list)))
	for i, one := range list {
		if err := decodeValue(one, fmt.Sprintf("%s[%d]", path, i), v.Index(i)); err != nil {
			return err
		}
	}
	return nil
}

// wrongType is the error for a value of another type than its key's.
func wrongType(raw json.RawMessage, path string, t reflect.Type) error {
	const most = 60 // bytes of a value that an error quotes
	value := string(raw)
	if len(value) > most {
		value = value[:most] + "..."
	}
	return wire.Errorf(wire.CodeConfig, "%s %s: must be %s", path, value, kindName(t))
}

// Known returns the keys that a struct's JSON tags name.
func Known(of any) []string {
	t := reflect.TypeOf(of).Elem()
	var keys []string
	for i := range t.NumField() {
		if name := tag(t.Field(i)); name != "" && name != "-" {
			keys = append(keys, name)
		}
	}
	return keys
}

// tag returns the key that a field's JSON tag names.
func tag(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// DecodeError is the error for a text that is no JSON, is no object, or has a value of
// the wrong type. The path is as for [Keys].
func DecodeError(code wire.Code, path string, err error) error {
	wrong, must := (*json.UnmarshalTypeError)(nil), "an object"
	if errors.As(err, &wrong) && wrong.Field != "" {
		path, must = join(path, wrong.Field), kindName(wrong.Type)
	}
	if path == "" {
		path = "configuration"
	}
	if wrong != nil {
		return wire.Errorf(code, "%s: must be %s", path, must)
	}
	return &wire.Error{Code: code, Msg: path, Err: err}
}

// kindName says in JSON's words what a Go type takes.
func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice:
		return "a list of " + plural(t.Elem())
	case reflect.Map:
		return "an object of " + plural(t.Elem())
	case reflect.Struct:
		return "an object"
	case reflect.Pointer:
		return kindName(t.Elem())
	}
	return "a whole number"
}

func plural(t reflect.Type) string {
	_, noun, _ := strings.Cut(kindName(t), " ")
	return noun + "s"
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// UnknownKey is the error for a key of an object at a path, which names the nearest known one.
func UnknownKey(path, key string, known []string) error {
	if near := Nearest(key, known); near != "" {
		return wire.Errorf(wire.CodeConfig, "unknown key %q: did you mean %q?", join(path, key), join(path, near))
	}
	return wire.Errorf(wire.CodeConfig, "unknown key %q: known are %s", join(path, key),
		strings.Join(slices.Compact(slices.Sorted(slices.Values(known))), ", "))
}

// Nearest returns which of the known words a mistyped one may mean, "" if none is near.
func Nearest(word string, known []string) string {
	near, best := "", len(word)/2+1
	for _, k := range known {
		if d := distance(strings.ToLower(word), strings.ToLower(k)); d < best {
			near, best = k, d
		}
	}
	return near
}

// distance is the number of letters to insert, delete or change to make one
// word the other (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// same reports whether two JSON values are equal except for white space.
func same(a, b json.RawMessage) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

// Merge sets a key that another name may have set already. Two different values are an
// error.
func (o Object) Merge(key string, value json.RawMessage, name string) error {
	if have, ok := o[key]; ok && !same(have, value) {
		return wire.Errorf(wire.CodeConfig, "%s %s: differs from %s %s; give one of them", name, value, key, have)
	}
	o[key] = value
	return nil
}

// Quote returns a string as JSON.
func Quote(s string) json.RawMessage { return fmt.Appendf(nil, "%q", s) }

// Alias takes another word for a key, whose values are of the type that like points to. Both with different values are
// an error.
func (o Object) Alias(key, word string, like any) error {
	v, ok := o[word]
	if !ok {
		return nil
	}
	if err := decodeValue(v, word, reflect.ValueOf(like).Elem()); err != nil {
		return err
	}
	return o.Merge(key, v, word)
}
