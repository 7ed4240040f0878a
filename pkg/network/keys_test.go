package network

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
)

func TestPick(t *testing.T) {
	for name, test := range map[string]struct {
		raw  string
		want map[string]string
		bad  bool
	}{
		"no object":          {raw: ``},
		"null":               {raw: `null`},
		"others left alone":  {raw: `{"ips":["10.1.0.2"],"mine":1}`, want: map[string]string{"ips": `["10.1.0.2"]`}},
		"null is not given":  {raw: `{"ips":null}`},
		"case folds":         {raw: `{"IPs":1}`, want: map[string]string{"ips": "1"}},
		"the very same wins": {raw: `{"IPS":1,"ips":2,"Ips":3}`, want: map[string]string{"ips": "2"}},
		"a list":             {raw: `[]`, bad: true},
		"a string":           {raw: `"x"`, bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := Pick([]byte(test.raw), "args.cni", "ips", "mac")
			if (err != nil) != test.bad {
				t.Fatalf("error %v", err)
			}
			have := map[string]string{}
			for k, v := range o {
				have[k] = string(v)
			}
			if !maps.Equal(have, test.want) {
				t.Errorf("got %v, want %v", have, test.want)
			}
		})
	}
}

// TestStrict: an error names the value, however deep it is.
func TestStrict(t *testing.T) {
	long := strings.Repeat("x", 58)
	for raw, want := range map[string]string{
		`{"on": null, "word": null, "words": null, "list": null, "one": null}`: "",
		`{"words": ["a"], "list": [{"word": "a"}, {}], "one": {"word": "b"}}`:  "",
		`{"words": ["a", 5]}`:                 `x.words ["a", 5]: must be a list of strings`,
		`{"words": {}}`:                       `x.words {}: must be a list of strings`,
		`{"list": {}}`:                        `x.list {}: must be a list of objects`,
		`{"list": [{}, {"word": 5}]}`:         `x.list[1].word 5: must be a string`,
		`{"list": [{"wrd": 5}]}`:              `unknown key "x.list[0].wrd": did you mean "x.list[0].word"?`,
		`{"one": {"word": 5}}`:                `x.one.word 5: must be a string`,
		`{"one": []}`:                         `x.one []: must be an object`,
		`{"on": "` + long + `"}`:              `x.on "` + long + `": must be true or false`,
		`{"on": "` + long + `x"}`:             `x.on "` + long + `x...: must be true or false`,
		`{"hidden": 1}`:                       `unknown key "x.hidden": known are list, on, one, word, words`,
		`{"-": 1, "on": true}`:                `unknown key "x.-": known are list, on, one, word, words`,
		`{"": 1}`:                             `unknown key "x.": known are list, on, one, word, words`,
		`{"Word": "a", "word": "b"}`:          `x.word: given twice, in different case`,
		`{"cni.dev/anything": 1, "word": ""}`: "",
	} {
		type part struct {
			Word string `json:"word"`
		}
		var into struct {
			On     *bool    `json:"on"`
			Word   string   `json:"word"`
			Words  []string `json:"words"`
			List   []part   `json:"list"`
			One    *part    `json:"one"`
			Hidden string   `json:"-"`
			Bare   string
		}
		got := ""
		if err := Strict([]byte(raw), "x", &into); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %s\nwant %s", raw, got, want)
		}
		if strings.Contains(raw, "null") && (into.On != nil || into.One != nil) {
			t.Errorf("null was taken for a value: %+v", into)
		}
	}
}

func TestNearest(t *testing.T) {
	for word, want := range map[string]string{"bat": "cat", "CAT": "cat", "rats": "rat", "xyz": "", "internl": "internal"} {
		if got := Nearest(word, []string{"cat", "rat", "internal"}); got != want {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
}

// TestReplace puts Docker's options in place of the key that they are under.
func TestReplace(t *testing.T) {
	options := DockerOptions{"a.mtu": NumberOption("mtu"), "b.icc": BoolOption("icc"), "c.prefix": PrefixOption(), "d.hosts": ListOption("hosts")}
	for keys, want := range map[string]string{
		`{"mtu": 5}`: "map[mtu:5]",
		`{"options": {"a.mtu": "5", "b.icc": "true", "c.prefix": "lan"}}`: "map[icc:true mtu:5]",
		`{"mtu": 5, "options": {"a.mtu": "05"}}`:                          "map[mtu:5]",
		`{"hosts": ["a",  "b"], "options": {"d.hosts": "a:b"}}`:           `map[hosts:["a","b"]]`,
		`{"mtu": 6, "options": {"a.mtu": "5"}}`:                           "options.a.mtu 5: differs from mtu 6; give one of them",
		`{"options": {"a.mtu": "x"}}`:                                     `options.a.mtu "x": must be a whole number`,
		`{"options": {"a.mtv": "5"}}`:                                     `unknown key "options.a.mtv": did you mean "options.a.mtu"?`,
		`{"options": ["a.mtu"]}`:                                          "options: must be an object of strings, as in docker network create -o",
		`{"options": {"a.mtu": 5}}`:                                       "options.a.mtu 5: must be a string",
		`{"options": {"b.icc": null}}`:                                    `options.b.icc "": must be true or false`,
		`{"options": {"c.prefix": ""}}`:                                   "map[]",
		`{"options": {"c.prefix": "a/b"}}`:                                `options.c.prefix "a/b": must be the beginning of a link name`,
		`{"options": {"c.prefix": "abcdefghijklm"}}`:                      "map[]",
		`{"options": {"c.prefix": "abcdefghijklmn"}}`:                     `options.c.prefix "abcdefghijklmn": must be the beginning of a link name`,
	} {
		o := Object{}
		err := json.Unmarshal([]byte(keys), &o)
		if err == nil {
			err = options.Replace(o)
		}
		texts := map[string]string{}
		for k, v := range o {
			texts[k] = string(v)
		}
		got := fmt.Sprint(texts)
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", keys, got, want)
		}
	}
}
