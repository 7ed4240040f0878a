package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"text/template"

	"dcni/pkg/host/sandbox"
)

// functions are those that Docker's templates have.
var functions = template.FuncMap{
	"json":  toJSON,
	"split": strings.Split,
	"join":  join,
	"lower": strings.ToLower,
	"upper": strings.ToUpper,
	"title": title,
	"pad": func(s string, before, after int) string {
		if s == "" {
			return s
		}
		return strings.Repeat(" ", before) + s + strings.Repeat(" ", after)
	},
	"truncate": func(s string, n int) string { return s[:min(n, len(s))] },
}

// headings are the same functions for the first line of a table, which is words.
var headings = template.FuncMap{
	"json":     func(s string) string { return s },
	"split":    func(s, _ string) string { return s },
	"join":     func(s, _ string) string { return s },
	"lower":    func(s string) string { return s },
	"upper":    func(s string) string { return s },
	"title":    func(s string) string { return s },
	"truncate": func(s string, _ int) string { return s },
}

func toJSON(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return strings.TrimSpace(b.String()), err
}

// join joins the elements of a list, or the values of a map in their order.
func join(v any, separator string) (string, error) {
	var words []string
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Invalid:
	case reflect.Slice, reflect.Array:
		for i := range r.Len() {
			words = append(words, fmt.Sprint(r.Index(i).Interface()))
		}
	case reflect.Map:
		for _, key := range r.MapKeys() {
			words = append(words, fmt.Sprint(r.MapIndex(key).Interface()))
		}
		slices.Sort(words)
	default:
		return "", fmt.Errorf("expected slice, got %T", v)
	}
	return strings.Join(words, separator), nil
}

// title makes the first letter of each word a capital one.
func title(s string) string {
	words := strings.Split(s, " ")
	for i, w := range words {
		if w != "" {
			words[i] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, " ")
}

// parseTemplate reads a template. The error begins as Docker's does.
func parseTemplate(text string) (*template.Template, error) {
	t, err := template.New("").Funcs(functions).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("template parsing error: %w", err)
	}
	return t, nil
}

// A listing is rows to be printed as --format says.
type listing struct {
	heads      headers // of each field, for tables
	table, raw string  // the templates of --format table and raw
	rows       []any   // what a template is about
}

// headers are what a table's first line has for each field.
type headers map[string]string

// Label is what it has for one label: the last part of the label's name.
func (headers) Label(name string) string {
	last := name[strings.LastIndexByte(name, '.')+1:]
	return strings.NewReplacer("-", " ", "_", " ").Replace(last)
}

// print prints the rows: as a table ("table", or a template behind that word),
// "raw", "json" or by a template.
func (l listing) print(w io.Writer, format string) error {
	format, isTable := l.template(format)
	t, err := parseTemplate(format)
	if err != nil {
		return err
	}
	var body bytes.Buffer
	for _, row := range l.rows {
		if err := t.Execute(&body, row); err != nil {
			return l.fieldError(row, err)
		}
		body.WriteByte('\n')
	}
	if !isTable {
		_, err := body.WriteTo(w)
		return err
	}
	const width, tab, padding = 10, 1, 3 // Docker's columns
	var text bytes.Buffer                // tabwriter writes each cell by itself
	columns := tabwriter.NewWriter(&text, width, tab, padding, ' ', 0)
	if err := t.Funcs(headings).Execute(columns, l.heads); err != nil {
		return fmt.Errorf("template parsing error: %w", err)
	}
	_, newline := columns.Write([]byte{'\n'})
	_, rest := body.WriteTo(columns)
	err = errors.Join(newline, rest, columns.Flush())
	_, written := text.WriteTo(w)
	return errors.Join(err, written)
}

// fieldError says which fields a template may ask for, where it failed for one that a row lacks.
func (l listing) fieldError(row any, err error) error {
	_, text, found := strings.Cut(err.Error(), "can't evaluate field ")
	field, of, _ := strings.Cut(text, " in type ") // as text/template says it
	if !found || of != reflect.TypeOf(row).String() {
		return fmt.Errorf("template parsing error: %w", err)
	}
	fields := slices.Sorted(maps.Keys(l.heads))
	return fmt.Errorf("template parsing error: there is no field .%s, must be of .%s", field, strings.Join(fields, ", ."))
}

// template returns the template that a value of --format means.
func (l listing) template(format string) (text string, isTable bool) {
	switch format {
	case "", "table":
		return l.table, true
	case "raw":
		return l.raw, false
	case "json":
		return "{{json .}}", false
	}
	text, isTable = strings.CutPrefix(format, "table")
	return strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(strings.Trim(text, " ")), isTable
}

// bold returns what makes a word bold where standard output is a terminal that can do so and
// its user does not refuse it (https://no-color.org); elsewhere a word stays as it is.
func (a *app) bold() func(string) string {
	if a.getenv("NO_COLOR") != "" || a.getenv("TERM") == "dumb" || !sandbox.IsTerminal(a.stdout) {
		return func(word string) string { return word }
	}
	return func(word string) string { return "\x1b[1m" + word + "\x1b[0m" } // ECMA-48, SGR
}
