package network

import (
	"encoding/json"
	"testing"
)

func TestValidName(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "Z": true, "0": true, "9": true, "z": true, "A": true, "a_b.c-d": true, "a--": true,
		"": false, "_a": false, ".a": false, "-a": false, "a/b": false, "a:b": false, "a@b": false, "a[b": false, "a`b": false, "a{b": false, "a b": false, "ä": false,
		"/": false, ":": false, "@": false, "[": false, "`": false, "{": false,
	} {
		if ValidName(name) != ok {
			t.Errorf("%q: want %t", name, ok)
		}
	}
}

func TestValidLink(t *testing.T) {
	for name, ok := range map[string]bool{
		"br-a": true, "a": true, "a.b": true, "fifteen-letters": true, "~!": true, "a\x7e": true,
		"sixteen-letters-": false, "": false, ".": false, "..": false, "all": false, "default": false,
		"a b": false, "a\tb": false, "a\x7f": false, "ä": false, "a/": false, "a:": false, `a"`: false, "a%": false, "a*": false,
	} {
		if ValidLink(name) != ok {
			t.Errorf("%q: want %t", name, ok)
		}
	}
}

func TestDNSGiven(t *testing.T) {
	for _, d := range []*DNS{{Domain: "x"}, {Nameservers: []string{"x"}}, {Search: []string{"x"}}, {Options: []string{"x"}}} {
		if !d.Given() {
			t.Errorf("%+v says something", *d)
		}
	}
	if (&DNS{}).Given() || (*DNS)(nil).Given() {
		t.Error("nothing is given")
	}
}

func TestPlain(t *testing.T) {
	for value, want := range map[string]string{`"a"`: "a", `["a", "b"]`: "a:b", `true`: "true", `5`: "5", `{"a": 1}`: `{"a": 1}`} {
		if got := plain(json.RawMessage(value)); got != want {
			t.Errorf("%s is shown as %s, want %s", value, got, want)
		}
	}
}
