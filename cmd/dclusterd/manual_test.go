package main

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestFlagsTable compares the manual's flags with those of the usage.
func TestFlagsTable(t *testing.T) {
	var usage strings.Builder
	_, _ = parse([]string{"-h"}, &usage) // flag.ErrHelp
	manual, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	find := func(text, pattern string) []string {
		found := map[string]bool{}
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			found[m[1]] = true
		}
		return slices.Sorted(maps.Keys(found))
	}
	ours := find(usage.String(), `(?m)^ +--?([a-z-]+)`)
	theirs := slices.DeleteFunc(find(string(manual), `--([a-z][a-z-]+)`), func(f string) bool { return f == "etcd" || f == "advertise" }) // dnet's
	if !slices.Equal(ours, theirs) {
		t.Errorf("the manual has %v, the program %v", theirs, ours)
	}
}

func TestParse(t *testing.T) {
	for line, want := range map[string]string{
		"":                       "",
		"--conf-dir /x":          "",
		"--log-level loud":       "invalid value",
		"--nosuch":               "flag provided but not defined",
		"member":                 `unknown argument "member": dclusterd takes flags only`,
		"--log-level debug what": `unknown argument "what"`,
	} {
		_, err := parse(strings.Fields(line), os.Stderr)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", line, err, want)
		}
	}
}
