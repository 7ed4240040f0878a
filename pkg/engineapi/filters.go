package engineapi

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"dcni/pkg/network"
)

// filters returns the parameter filters, by name: {"name": {"web": true}}, or the form from
// before that, {"name": ["web"]}. Values are sorted.
func (c *call) filters() (map[string][]string, error) {
	text := c.query.Get("filters")
	if text == "" {
		return nil, nil
	}
	var now map[string]map[string]bool
	if json.Unmarshal([]byte(text), &now) == nil {
		out := map[string][]string{}
		for name, values := range now {
			out[name] = slices.Sorted(maps.Keys(values))
		}
		return out, nil
	}
	var before map[string][]string
	if json.Unmarshal([]byte(text), &before) != nil {
		return nil, network.Refuse(network.InvalidParameter, "invalid filter")
	}
	for _, values := range before {
		slices.Sort(values)
	}
	return before, nil
}

// knownFilters refuses filters of other names.
func knownFilters(f map[string][]string, known ...string) error {
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if !slices.Contains(known, name) {
			return network.Refuse(network.InvalidParameter, "invalid filter '%s'", name)
		}
	}
	return nil
}

// anyOf reports whether one of a filter's values matches. A filter without values lets all
// pass.
func anyOf(values []string, match func(v string) bool) bool {
	return len(values) == 0 || slices.ContainsFunc(values, match)
}

// is matches one value.
func is(s string) func(string) bool { return func(v string) bool { return v == s } }

// begins matches the beginning of a value.
func begins(s string) func(string) bool {
	return func(v string) bool { return strings.HasPrefix(s, v) }
}

// hasLabels reports whether labels have all that filters want: KEY or KEY=VALUE.
func hasLabels(labels map[string]string, filters []string) bool {
	return !slices.ContainsFunc(filters, func(f string) bool {
		key, want, valued := strings.Cut(f, "=")
		have, there := labels[key]
		return !there || valued && have != want
	})
}

// moment reads a time as /events takes it: seconds since 1970, with nanoseconds behind a
// point. "" is the zero Time.
func (c *call) moment(name string) (time.Time, error) {
	text := c.query.Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	t, err := parseMoment(text)
	if err != nil {
		return t, network.Refuse(network.InvalidParameter, "invalid value for '%s': invalid timestamp %q: must be seconds, or seconds.nanoseconds", name, text)
	}
	return t, nil
}

// parseMoment reads seconds since 1970, with nanoseconds behind a point.
func parseMoment(text string) (time.Time, error) {
	const digits = 9
	whole, part, _ := strings.Cut(text, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	part = (part + strings.Repeat("0", digits))[:digits]
	nanoseconds, bad := strconv.ParseUint(part, 10, 32)
	return time.Unix(seconds, int64(nanoseconds)), errors.Join(err, bad)
}

// flag reads a parameter as Docker's daemon reads most that are true or false.
func (c *call) flag(name string) bool {
	switch strings.ToLower(strings.TrimSpace(c.query.Get(name))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// timeForms are those in which the filter until may be a time.
var timeForms = []string{
	time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02Z07:00", "2006-01-02",
}

// untilOf reads the filter until: a duration before now, a time, or seconds since 1970. The
// zero Time means that it was not given.
func untilOf(values []string, now time.Time) (time.Time, error) {
	switch {
	case len(values) == 0:
		return time.Time{}, nil
	case len(values) > 1:
		return time.Time{}, network.Refuse(network.InvalidParameter, "more than one until filter specified")
	}
	text := values[0]
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	for _, form := range timeForms {
		if t, err := time.ParseInLocation(form, text, now.Location()); err == nil {
			return t, nil
		}
	}
	if t, err := parseMoment(text); err == nil {
		return t, nil
	}
	return time.Time{}, network.Refuse(network.InvalidParameter,
		"invalid filter 'until=%s': must be a duration, as 24h, a time, as 2006-01-02T15:04:05, or seconds since 1970", text)
}
