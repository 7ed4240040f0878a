package main

import (
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// matches returns what a pattern finds in a file, as a set of its first groups.
func matches(t *testing.T, path, pattern string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
		found[m[1]] = true
	}
	return found
}

// same expects a document to have what the program has.
func same(t *testing.T, document string, has, want map[string]bool) {
	t.Helper()
	if !maps.Equal(has, want) {
		t.Errorf("%s has\n%s\nand dnetd\n%s", document, strings.Join(slices.Sorted(maps.Keys(has)), "\n"), strings.Join(slices.Sorted(maps.Keys(want)), "\n"))
	}
}

// TestMetricsTable compares the table of metrics with those that are registered.
func TestMetricsTable(t *testing.T) {
	descs := make(chan *prometheus.Desc)
	go func() { collector(nil).Describe(descs); close(descs) }()
	want := map[string]bool{}
	shape := regexp.MustCompile(`fqName: "(\w+)".*variableLabels: (\{[^}]*\})`)
	for d := range descs {
		m := shape.FindStringSubmatch(d.String())
		want[strings.TrimSuffix(m[1]+m[2], "{}")] = true
	}
	const document = "../../docs/operations.md"
	same(t, document, matches(t, document, "`(dcni_\\w+(?:\\{[^}=]*\\})?)`"), want)
}

// TestFlagsTable compares the manual's flags with those of the usage, but for
// what only a plugin says.
func TestFlagsTable(t *testing.T) {
	var usage strings.Builder
	_, _ = parse([]string{"-h"}, &usage) // flag.ErrHelp
	want := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^ +--?([a-z-]+)`).FindAllStringSubmatch(usage.String(), -1) {
		want[m[1]] = true
	}
	delete(want, "on-demand")
	same(t, "README.md", matches(t, "README.md", `--([a-z][a-z-]+)`), want)
}

// TestServesWhenTold has dnetd serve by the word only. Without any it says its version.
func TestServesWhenTold(t *testing.T) {
	for args, want := range map[string]string{
		"": "", "--version": "", "--once": "", "serve": "", "serve --log-level debug": "",
		"--metrics 127.0.0.1:9273": "say dnetd serve", "--on-demand": "say dnetd serve",
		"work": `unknown argument "work"`, "--metrics= serve": `unknown argument "serve"`,
	} {
		o, err := parse(strings.Fields(args), io.Discard)
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
		if serves := err == nil && !o.once && !o.version; serves != strings.HasPrefix(args, "serve") {
			t.Errorf("%q: serves: %v", args, serves)
		}
	}
}
