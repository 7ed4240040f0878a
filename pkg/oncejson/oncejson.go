// Package oncejson writes JSON as encoding/json does, for a process that
// writes a value of each type once.
//
// encoding/json studies a type first and keeps what it found for the next
// value. A plugin ends before there is a next one: studying the record and the
// result was a tenth of what an ADD took. This package walks the value and
// forgets. It is no faster at the second value, and reads nothing.
package oncejson

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Marshal returns v as [json.MarshalIndent] does with the given indentation, or
// with "" as [json.Marshal] does. It takes what dcni's types are made of: structs with `json` tags (omitempty,
// omitzero, embedding), pointers, slices, maps with string keys, strings,
// numbers, booleans, [json.RawMessage], and what marshals itself as text.
// Anything else is an error: json.Marshaler too, which would go the long way.
func Marshal(v any, indent string) ([]byte, error) {
	flat, err := appendValue(nil, reflect.ValueOf(v))
	if err != nil {
		return nil, err
	}
	if indent == "" {
		return flat, nil
	}
	var out bytes.Buffer
	out.Grow(2 * len(flat))
	if err := json.Indent(&out, flat, "", indent); err != nil {
		return nil, err // a json.RawMessage that is none
	}
	return out.Bytes(), nil
}

func appendValue(b []byte, v reflect.Value) ([]byte, error) {
	if !v.IsValid() {
		return append(b, "null"...), nil
	}
	switch text := v.Interface().(type) {
	case json.RawMessage:
		return append(b, orNull(text)...), nil
	case encoding.TextMarshaler:
		return appendText(b, v, text)
	}
	switch v.Kind() {
	case reflect.String:
		return appendString(b, v.String()), nil
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.AppendInt(b, v.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.AppendUint(b, v.Uint(), 10), nil
	case reflect.Pointer:
		return appendValue(b, v.Elem())
	case reflect.Slice:
		return appendSlice(b, v)
	case reflect.Map:
		return appendMap(b, v)
	case reflect.Struct:
		return appendStruct(b, v)
	}
	return nil, fmt.Errorf("oncejson: no way to write a %s", v.Type())
}

func orNull(raw json.RawMessage) json.RawMessage {
	if raw == nil {
		return json.RawMessage("null")
	}
	return raw
}

func appendText(b []byte, v reflect.Value, text encoding.TextMarshaler) ([]byte, error) {
	if v.Kind() == reflect.Pointer && v.IsNil() {
		return append(b, "null"...), nil
	}
	s, err := text.MarshalText()
	return appendString(b, string(s)), err
}

func appendSlice(b []byte, v reflect.Value) (_ []byte, err error) {
	if v.IsNil() {
		return append(b, "null"...), nil
	}
	b = append(b, '[')
	for i := range v.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendValue(b, v.Index(i)); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

func appendMap(b []byte, v reflect.Value) (_ []byte, err error) {
	if v.IsNil() {
		return append(b, "null"...), nil
	}
	values := map[string]reflect.Value{}
	for _, key := range v.MapKeys() {
		values[key.String()] = v.MapIndex(key)
	}
	b = append(b, '{')
	for i, key := range slices.Sorted(maps.Keys(values)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, key), ':')
		if b, err = appendValue(b, values[key]); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

func appendStruct(b []byte, v reflect.Value) ([]byte, error) {
	b = append(b, '{')
	empty := len(b)
	b, err := appendFields(b, empty, v)
	return append(b, '}'), err
}

// appendFields writes the fields of a struct, those of an embedded one among
// them; empty is the length of b while no field is written.
func appendFields(b []byte, empty int, v reflect.Value) (_ []byte, err error) {
	for i := range v.NumField() {
		field, value := v.Type().Field(i), v.Field(i)
		if field.Anonymous && field.Type.Kind() == reflect.Struct {
			if b, err = appendFields(b, empty, value); err != nil {
				return nil, err
			}
			continue
		}
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" {
			return nil, fmt.Errorf("oncejson: field %s of %s has no name", field.Name, v.Type())
		}
		if name == "-" || left(options, value) {
			continue
		}
		if len(b) > empty {
			b = append(b, ',')
		}
		b = append(appendString(b, name), ':')
		if b, err = appendValue(b, value); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// left reports whether a field's options leave its value out.
func left(options string, v reflect.Value) bool {
	switch options {
	case "omitzero":
		return v.IsZero()
	case "omitempty":
		switch v.Kind() {
		case reflect.Slice, reflect.Map:
			return v.Len() == 0
		case reflect.Struct:
			return false
		}
		return v.IsZero()
	}
	return false
}

// appendString quotes a string. What needs an escape goes the long way, which
// is short for a string.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || strings.IndexByte(`"\<>&`, c) >= 0 {
			quoted, _ := json.Marshal(s) // a string always marshals
			return append(b, quoted...)
		}
	}
	b = append(append(b, '"'), s...)
	return append(b, '"')
}
