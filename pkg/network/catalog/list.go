package catalog

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ScopeOf returns the scope of a driver's networks: one host, "local", or all nodes of the
// cluster. Docker's words are local, global and swarm. An overlay network on a key-value
// store was global with Docker, before swarm mode had its own; there is no swarm here.
func ScopeOf(driver string) string {
	if driver == "overlay" {
		return "global"
	}
	return "local"
}

// Filters are the values of --filter by name.
type Filters map[string][]string

// Add reads NAME=VALUE. The error is Docker's.
func (f Filters) Add(word string) error {
	if word == "" {
		return nil
	}
	name, value, ok := strings.Cut(word, "=")
	if !ok {
		return fmt.Errorf("bad format of filter (expected name=value)")
	}
	name = strings.ToLower(strings.TrimSpace(name))
	f[name] = append(f[name], strings.TrimSpace(value))
	return nil
}

// Validate checks names and values, with Docker's errors.
func (f Filters) Validate() error {
	known := []string{"dangling", "driver", "id", "label", "name", "scope", "type"}
	for name := range f {
		if !slices.Contains(known, name) {
			return fmt.Errorf("invalid filter '%s'", name)
		}
	}
	for _, t := range f["type"] {
		if t != "builtin" && t != "custom" {
			return fmt.Errorf("invalid filter: 'type'='%s'", t)
		}
	}
	for _, d := range f["dangling"] {
		if !slices.Contains([]string{"true", "false", "1", "0"}, d) {
			return fmt.Errorf("invalid filter 'dangling=%s'", d)
		}
	}
	return nil
}

// ValidatePrune checks the names of the filters of prune, with Docker's error.
func (f Filters) ValidatePrune() error {
	for name := range f {
		if !slices.Contains([]string{"label", "label!", "until"}, name) {
			return fmt.Errorf("invalid filter '%s': must be label, label! or until", name)
		}
	}
	if len(f["until"]) > 1 {
		return fmt.Errorf("more than one until filter specified")
	}
	return nil
}

// MatchLabels reports whether a network has all labels of the filter label, and none of
// those of label!.
func (f Filters) MatchLabels(labels map[string]string) bool {
	return !slices.ContainsFunc(f["label"], func(v string) bool { return !HasLabel(labels, v) }) &&
		!slices.ContainsFunc(f["label!"], func(v string) bool { return HasLabel(labels, v) })
}

// Match reports whether a network passes: one value of each filter, and all
// labels. Names and IDs match as regular expressions, anywhere. inUse is
// called only if it matters.
func (f Filters) Match(c *Conflist, inUse func() bool) bool {
	like := func(s string) func(string) bool {
		return func(pattern string) bool {
			re, err := regexp.Compile(pattern)
			return err == nil && re.MatchString(s)
		}
	}
	is := func(s string) func(string) bool { return func(v string) bool { return v == s } }
	kind := "custom"
	if Predefined(c.Name) {
		kind = "builtin"
	}
	return f.any("name", like(c.Name)) && f.any("id", like(c.ID())) &&
		f.any("driver", is(c.Driver)) && f.any("scope", is(ScopeOf(c.Driver))) && f.any("type", is(kind)) &&
		!slices.ContainsFunc(f["label"], func(v string) bool { return !HasLabel(c.Labels, v) }) &&
		f.any("dangling", func(v string) bool {
			want, _ := strconv.ParseBool(v)
			return want == (kind == "custom" && !inUse())
		})
}

func (f Filters) any(name string, match func(string) bool) bool {
	values, asked := f[name]
	return !asked || slices.ContainsFunc(values, match)
}

// HasLabel reports whether labels have what a filter says, KEY or KEY=VALUE.
func HasLabel(labels map[string]string, filter string) bool {
	key, want, valued := strings.Cut(filter, "=")
	have, ok := labels[key]
	return ok && (!valued || have == want)
}

// Natural compares names as people sort them: net2 before net10.
func Natural(a, b string) int {
	for a != "" && b != "" {
		x, restA := chunk(a)
		y, restB := chunk(b)
		if c := compareChunks(x, y); c != 0 {
			return c
		}
		a, b = restA, restB
	}
	return strings.Compare(a, b)
}

// chunk cuts off the digits that a string begins with, or the part before the first
// digit.
func chunk(s string) (first, rest string) {
	digits := isDigit(s[0])
	for i := range len(s) {
		if isDigit(s[i]) != digits {
			return s[:i], s[i:]
		}
	}
	return s, ""
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// compareChunks compares numbers by value, and the shorter text of one first.
func compareChunks(a, b string) int {
	if !isDigit(a[0]) || !isDigit(b[0]) {
		return strings.Compare(a, b)
	}
	x, y := strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(x) != len(y) {
		return len(x) - len(y)
	}
	if c := strings.Compare(x, y); c != 0 {
		return c
	}
	return len(a) - len(b)
}
