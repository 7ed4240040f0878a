package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/network"
)

// ours is a table of plugins without modes.
var ours = []*network.Plugin{
	{Type: "dbridge", Driver: SingleDriver("bridge")}, {Type: "dhost", Driver: SingleDriver("host")}, {Type: "dnone", Driver: SingleDriver("null")},
	{Type: "ddns"},
}

func TestNatural(t *testing.T) {
	sorted := strings.Fields("a a1 a01 a2 a10 a10b a10c1 b 1 2 10 Net net net9 net2 net10 net2x x.9 x-10")
	want := strings.Fields("1 2 10 Net a a1 a01 a2 a10 a10b a10c1 b net net2 net2x net9 net10 x-10 x.9")
	slices.SortFunc(sorted, Natural)
	if !slices.Equal(sorted, want) {
		t.Errorf("sorted %v, want %v", sorted, want)
	}
}

func TestFind(t *testing.T) {
	// The IDs of web and b begin 4b5e57 and 3e23e8.
	names := []string{"web", "b", "c", "4b5e57", "bridge"}
	for word, want := range map[string]string{
		"web":             "web",
		network.ID("web"): "web",
		"4b5e57f":         "web",
		"4b5e57":          "4b5e57", // a name comes before the beginning of an ID
		"3e":              "b",
		"nosuch":          "network nosuch not found",
		"":                "network  not found",
	} {
		got, err := Find(names, word)
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%q is %q, want %q", word, got, want)
		}
	}
	var many []string
	for i := range 40 {
		many = append(many, fmt.Sprintf("n%d", i))
	}
	if _, err := Find(many, "1"); err == nil || !strings.HasPrefix(err.Error(), "network 1 is ambiguous (") ||
		!strings.HasSuffix(err.Error(), " matches found based on ID prefix): n8, n25, n36") {
		t.Errorf("the beginning of several: %v", err)
	}
}

func TestFilters(t *testing.T) {
	web, err := ParseConflist([]byte(`{"name": "web-1", "args": {"podman_labels": {"tier": "front", "owner": ""}}, "plugins": [{"type": "dbridge"}]}`), ours)
	if err != nil {
		t.Fatal(err)
	}
	bridge, err := ParseConflist(BuiltInConflist("bridge"), ours)
	if err != nil {
		t.Fatal(err)
	}
	for filter, want := range map[string]string{
		"":                                "web-1 bridge",
		"name=web":                        "web-1",
		"name=b":                          "web-1 bridge",
		"name=^b":                         "bridge",
		"name=[":                          "",
		"name=x name=web":                 "web-1",
		"driver=bridge":                   "web-1 bridge",
		"driver=brid":                     "",
		"scope=local":                     "web-1 bridge",
		"scope=swarm":                     "",
		"type=custom":                     "web-1",
		"type=builtin":                    "bridge",
		"label=tier":                      "web-1",
		"label=tier=front":                "web-1",
		"label=tier=back":                 "",
		"label=owner=":                    "web-1",
		"label=tier label=nothing":        "",
		"dangling=true":                   "web-1",
		"dangling=false":                  "bridge",
		"Name=web driver=bridge":          "web-1",
		"id=" + network.ID("web-1")[3:20]: "web-1",
	} {
		f := Filters{}
		for _, word := range strings.Fields(filter) {
			if err := f.Add(word); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		for _, c := range []*Conflist{web, bridge} {
			if f.Match(c, func() bool { return false }) {
				got = append(got, c.Name)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q passes %v, want %s", filter, got, want)
		}
	}
	if (Filters{"dangling": {"true"}}).Match(web, func() bool { return true }) {
		t.Error("a network in use is dangling")
	}
}

func TestParseConflistErrors(t *testing.T) {
	for data, want := range map[string]string{
		``:                                       `unexpected end`,
		`[]`:                                     `cannot unmarshal array`,
		`{}`:                                     `name: must be given`,
		`{"name": "a/b"}`:                        `name "a/b": must be letters`,
		`{"name": "a"}`:                          `network a has no plugins`,
		`{"name": "a", "plugins": []}`:           `network a has no plugins`,
		`{"name": "a", "plugins": [5]}`:          `plugins[0]: `,
		`{"name": "a", "plugins": [{}]}`:         `plugins[0]: no type`,
		`{"name": "a", "plugins": [{"type":5}]}`: `plugins[0]: `,
	} {
		if _, err := ParseConflist([]byte(data), ours); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", data, err, want)
		}
	}
	// What is in args is anybody's.
	if c, err := ParseConflist([]byte(`{"name": "a", "args": [1], "plugins": [{"type": "x"}]}`), ours); err != nil || len(c.Labels) != 0 {
		t.Errorf("foreign args: %v, %v", c, err)
	}
	for _, name := range BuiltIn() {
		if c, err := ParseConflist(BuiltInConflist(name), ours); err != nil || c.Name != name || c.Main == nil {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

func TestFilterErrors(t *testing.T) {
	for filter, want := range map[string]string{
		"":               "",
		"type=custom":    "",
		"type=builtin":   "",
		"type=x":         "invalid filter: 'type'='x'",
		"dangling=1":     "",
		"dangling=false": "",
		"dangling=yes":   "invalid filter 'dangling=yes'",
		"x=y":            "invalid filter 'x'",
		"name":           "bad format of filter (expected name=value)",
		" ID = x":        "",
	} {
		f, got := Filters{}, ""
		if err := errors.Join(f.Add(filter), f.Validate()); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", filter, got, want)
		}
	}
}

func TestPredefined(t *testing.T) {
	for name, want := range map[string]bool{"default": true, "bridge": true, "host": true, "none": true, "web": false, "": false} {
		if Predefined(name) != want {
			t.Errorf("%q: want %t", name, want)
		}
	}
	if BuiltInConflist("default") != nil {
		t.Error("default is a word for bridge, and has no file")
	}
}

// TestParseConf has the file of a network with one plugin and no list.
func TestParseConf(t *testing.T) {
	c, err := ParseConflist([]byte(`{"cniVersion": "1.0.0", "name": "web", "type": "dbridge", "mtu": 1400}`), ours)
	if err != nil || c.Type != "dbridge" || len(c.Plugins) != 1 || !strings.Contains(string(c.Raw), `"plugins": [`) || !strings.Contains(string(c.Plugins[0]), "1400") {
		t.Errorf("%+v, %v", c, err)
	}
	// A list may have a type, which says nothing.
	c, err = ParseConflist([]byte(`{"name": "web", "type": "x", "plugins": [{"type": "dnone"}]}`), ours)
	if err != nil || c.Type != "dnone" {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestMainPlugin: of the plugins of ours, those that have a driver of Docker's make networks.
func TestMainPlugin(t *testing.T) {
	for kind, want := range map[string]string{"dbridge": "bridge", "dnone": "null", "ddns": "ddns", "bridge": "bridge"} {
		c, err := ParseConflist(fmt.Appendf(nil, `{"name": "web", "plugins": [{"type": %q}]}`, kind), ours)
		if err != nil || c.Driver != want || (c.Main != nil) != (kind == "dbridge" || kind == "dnone") {
			t.Errorf("%s: %+v, %v", kind, c, err)
		}
		if c.Remover() != nil {
			t.Errorf("%s leaves something", kind)
		}
	}
}

func TestEncodeConflist(t *testing.T) {
	for _, c := range []struct {
		labels     map[string]string
		attachable bool
		want       string
	}{
		{nil, false, ""}, {map[string]string{}, false, ""},
		{map[string]string{"a": "b"}, false, `{"podman_labels":{"a":"b"}}`},
		{nil, true, `{"dnet":{"attachable":true}}`},
		{map[string]string{"a": "b"}, true, `{"dnet":{"attachable":true},"podman_labels":{"a":"b"}}`},
	} {
		data, err := EncodeConflist("web", map[string]string{"type": "dbridge"}, c.labels, c.attachable)
		var file struct {
			Args json.RawMessage `json:"args"`
		}
		if err := errors.Join(err, json.Unmarshal(data, &file)); err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if len(file.Args) > 0 {
			_ = json.Compact(&got, file.Args)
		}
		if got.String() != c.want {
			t.Errorf("%v, %v: args %s, want %s", c.labels, c.attachable, &got, c.want)
		}
	}
}
