// Package oncejson writes JSON as encoding/json does, for a process that writes a
// value of each type once.
//
// encoding/json studies a type first and keeps what it found for the next value. A
// plugin ends before there is a next one: studying the record and the result was a
// tenth of what an ADD took. This package walks the value and notes little.
package oncejson

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Marshal returns v as [json.MarshalIndent] does with the given indentation, or
// with "" as [json.Marshal] does. It takes what dcni's types are made of: structs
// with `json` tags (omitempty, omitzero, embedding), pointers, slices, maps with
// string keys, strings, numbers, booleans, [json.RawMessage], and what marshals
// itself as text. Anything else is an error: json.Marshaler too, which would go
// the long way.
//
// A [json.RawMessage] is written as it is, and must be JSON: the configuration of
// a plugin, which has been read before, is most of what an ADD writes.
func Marshal(v any, indent string) ([]byte, error) {
	const usual = 2048 // bytes: a record
	w := &writer{b: make([]byte, 0, usual), indent: indent}
	err := w.value(reflect.ValueOf(v))
	return w.b, err
}

// A writer has written b so far.
type writer struct {
	b      []byte
	indent string // "": all in one line
	depth  int    // of lists and objects that are open
}

// begin begins a list or an object.
func (w *writer) begin(bracket byte) {
	w.b = append(w.b, bracket)
	w.depth++
}

// item begins an item of one.
func (w *writer) item() {
	if last := w.b[len(w.b)-1]; last != '[' && last != '{' {
		w.b = append(w.b, ',')
	}
	w.line()
}

// key begins an item of an object.
func (w *writer) key(name string) {
	w.item()
	w.text(name)
	w.b = append(w.b, ':')
	if w.indent != "" {
		w.b = append(w.b, ' ')
	}
}

// end ends what began with the other bracket.
func (w *writer) end(bracket byte) {
	w.depth--
	if last := w.b[len(w.b)-1]; last != bracket-2 { // '[' and ']', '{' and '}' have one between them
		w.line()
	}
	w.b = append(w.b, bracket)
}

func (w *writer) line() {
	if w.indent == "" {
		return
	}
	w.b = append(w.b, '\n')
	for range w.depth {
		w.b = append(w.b, w.indent...)
	}
}

func (w *writer) null() { w.b = append(w.b, "null"...) }

func (w *writer) value(v reflect.Value) error {
	if !v.IsValid() {
		w.null()
		return nil
	}
	if v.Type().NumMethod() > 0 { // the others need no copy made
		switch text := v.Interface().(type) {
		case json.RawMessage:
			w.raw(text)
			return nil
		case encoding.TextMarshaler:
			return w.marshaler(v, text)
		}
	}
	switch v.Kind() {
	case reflect.String:
		w.text(v.String())
	case reflect.Bool:
		w.b = strconv.AppendBool(w.b, v.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		w.b = strconv.AppendInt(w.b, v.Int(), 10)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		w.b = strconv.AppendUint(w.b, v.Uint(), 10)
	case reflect.Pointer:
		return w.value(v.Elem())
	case reflect.Slice:
		return w.list(v)
	case reflect.Map:
		return w.mapping(v)
	case reflect.Struct:
		w.begin('{')
		err := w.fields(v)
		w.end('}')
		return err
	default:
		return fmt.Errorf("oncejson: no way to write a %s", v.Type())
	}
	return nil
}

func (w *writer) raw(text json.RawMessage) {
	if len(text) == 0 {
		w.null()
		return
	}
	w.b = append(w.b, text...)
}

func (w *writer) marshaler(v reflect.Value, text encoding.TextMarshaler) error {
	if v.Kind() == reflect.Pointer && v.IsNil() {
		w.null()
		return nil
	}
	s, err := text.MarshalText()
	w.text(string(s))
	return err
}

func (w *writer) list(v reflect.Value) error {
	if v.IsNil() {
		w.null()
		return nil
	}
	w.begin('[')
	for i := range v.Len() {
		w.item()
		if err := w.value(v.Index(i)); err != nil {
			return err
		}
	}
	w.end(']')
	return nil
}

func (w *writer) mapping(v reflect.Value) error {
	if v.IsNil() {
		w.null()
		return nil
	}
	values := map[string]reflect.Value{}
	for _, key := range v.MapKeys() {
		values[key.String()] = v.MapIndex(key)
	}
	w.begin('{')
	for _, key := range slices.Sorted(maps.Keys(values)) {
		w.key(key)
		if err := w.value(values[key]); err != nil {
			return err
		}
	}
	w.end('}')
	return nil
}

// fields writes the fields of a struct, those of an embedded one among them.
func (w *writer) fields(v reflect.Value) error {
	list, err := fieldsOf(v.Type())
	if err != nil {
		return err
	}
	for i, field := range list {
		value := v.Field(i)
		switch {
		case field.embedded:
			err = w.fields(value)
		case field.name != "-" && !left(field.options, value):
			w.key(field.name)
			err = w.value(value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A field of a struct, as its tag has it.
type field struct {
	name, options string
	embedded      bool
}

// seen are the fields of the structs that were written: dnetd writes the same ones
// for each ADD. It is a small part of what encoding/json notes.
var seen sync.Map // []field by reflect.Type

func fieldsOf(t reflect.Type) ([]field, error) {
	if list, ok := seen.Load(t); ok {
		return list.([]field), nil
	}
	list := make([]field, t.NumField())
	for i := range list {
		of := t.Field(i)
		f := field{embedded: of.Anonymous && of.Type.Kind() == reflect.Struct}
		f.name, f.options, _ = strings.Cut(of.Tag.Get("json"), ",")
		if f.name == "" && !f.embedded {
			return nil, fmt.Errorf("oncejson: field %s of %s has no name", of.Name, t)
		}
		list[i] = f
	}
	seen.Store(t, list)
	return list, nil
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

// text quotes a string. What needs an escape goes the long way, which is short
// for a string.
func (w *writer) text(s string) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || strings.IndexByte(`"\<>&`, c) >= 0 {
			quoted, _ := json.Marshal(s) // a string always marshals
			w.b = append(w.b, quoted...)
			return
		}
	}
	w.b = append(w.b, '"')
	w.b = append(w.b, s...)
	w.b = append(w.b, '"')
}
