package network

import (
	"slices"
	"strings"
	"testing"
)

// A container is found by ID, by name, by the beginning of its ID, in this order. Errors
// are Docker's.
func TestFindDonor(t *testing.T) {
	list := []Donor{
		{Container: "abc123", Names: []string{"web"}, State: Exited},
		{Container: "abd456", Names: []string{"db"}, State: Exited},
		{Container: "web", State: Created},
		{Container: "default-fff000", ID: "fff000", Names: []string{"cache"}, State: Exited},
		{Container: "e1", Names: []string{"pod"}, State: Exited},
		{Container: "e2", Names: []string{"pod"}, State: Exited},
		{Container: "moby-fff0002", ID: "fff0002", State: Exited},
		{Container: "moby-fff0001", ID: "fff0001", State: Exited},
		{Container: "self99", Names: []string{"me"}},
	}
	const (
		none    = "joining network namespace of container: No such container: "
		stopped = "cannot join network namespace of a non running container: container "
	)
	for _, c := range []struct {
		word, runs string // the IDs of those that run
		want, err  string
	}{
		{"abc123", "abc123", "abc123", ""},
		{"abc", "abc123", "abc123", ""},
		{"db", "abd456", "abd456", ""},
		{"/db", "abd456", "abd456", ""},
		{"web", "abc123 web", "web", ""},                                // an ID comes before a name
		{"fff000", "default-fff000 moby-fff0001", "default-fff000", ""}, // a whole ID comes before the beginning of one
		{"fff0", "moby-fff0002 moby-fff0001", "", "joining network namespace of container: Multiple IDs found with provided prefix: fff0: moby-fff0001, moby-fff0002"},
		{"fff0", "default-fff000", "default-fff000", ""},
		{"default-fff", "default-fff000", "default-fff000", ""},
		{"cache", "default-fff000", "default-fff000", ""},
		{"pod", "e2", "e2", ""},
		{"pod", "e1 e2", "", "joining network namespace of container: Multiple IDs found with provided prefix: pod: e1 (pod), e2 (pod)"},
		{"ab", "abc123 abd456", "", "joining network namespace of container: Multiple IDs found with provided prefix: ab: abc123 (web), abd456 (db)"},
		{"nosuch", "", "", none + "nosuch"},
		{"c123", "", "", none + "c123"},
		{"abc123", "", "", stopped + "web is exited"},
		{"web", "abc123", "", stopped + "web is created"},
		{"e1", "", "", stopped + "pod is exited"},
		{"self99", "self99", "", "cannot join own network namespace"},
		{"me", "self99", "", "cannot join own network namespace"},
	} {
		running := func(d *Donor) bool {
			return slices.Contains(strings.Fields(c.runs), d.Container)
		}
		d, err := FindDonor(list, c.word, "self99", running)
		switch {
		case c.err != "" && (err == nil || err.Error() != c.err):
			t.Errorf("%s: %v, want %s", c.word, err, c.err)
		case c.err == "" && (err != nil || d.Container != c.want):
			t.Errorf("%s: %v, %v; want %s", c.word, d, err, c.want)
		}
	}
}
