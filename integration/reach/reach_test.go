package reach

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/reachability.md")

// TestDocument compares docs/reachability.md with the table.
func TestDocument(t *testing.T) {
	table, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	const file = "../../docs/reachability.md"
	text := table.Document()
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil || string(have) != text {
		t.Errorf("error %v, %s is not of this table: go test ./integration/reach -update", err, file)
	}
	if lines := strings.Count(text, "\n"); lines > 330 {
		t.Errorf("%s has %d lines, want at most 330", file, lines)
	}
}

// TestReasons wants each line of a difference to make one.
func TestReasons(t *testing.T) {
	table, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range slices.Concat(table.dcni, table.engine) {
		for _, l := range r.lines {
			for _, name := range l.networks {
				if !table.differs(name, l) {
					t.Errorf("%s: a line gives %s in network %s, as Docker does", r.Name, l.answer, name)
				}
			}
		}
	}
}

// differs reports whether a line is about any cell of a network that Docker answers otherwise.
func (t *Table) differs(network string, l line) bool {
	n := t.Networks[slices.IndexFunc(t.Networks, func(n *Network) bool { return n.Name == network })]
	return slices.ContainsFunc(n.Cells(), func(c Cell) bool { return l.matches(c) && n.Docker(c) != l.answer })
}

func TestMerge(t *testing.T) {
	n := &Network{Name: "n"}
	for _, c := range []struct {
		want   string
		answer func(Cell) string
	}{
		{"yes", func(Cell) string { return Yes }},
		{"–", func(Cell) string { return NotAsked }},
		{"IPv4 no; IPv6 refused", func(c Cell) string { return map[string]string{"4": No, "6": Refused}[c.Family] }},
		{"TCP no; UDP yes", func(c Cell) string { return map[string]string{"tcp": No, "udp": Yes}[c.Proto] }},
		{"with bridge netfilter no; without bridge netfilter yes", func(c Cell) string { return map[string]string{"nf1": No, "nf0": Yes}[c.Netfilter] }},
		{"yes; IPv6 UDP no", func(c Cell) string { return map[bool]string{true: No, false: Yes}[c.Family+c.Proto == "6udp"] }},
		{"yes", func(c Cell) string { return map[string]string{"4": NotAsked, "6": Yes}[c.Family] }},
	} {
		if got := merge(n.cells("host", "h:90"), c.answer); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestParseLine(t *testing.T) {
	for _, c := range []struct{ askers, rest, problem string }{
		{"host,self", "c:80/4/tcp h:90 yes", ""},
		{"*", "c:80 no", ""},
		{"else", "c:80 no", `unknown asker "else"`},
		{"host", "c:80", "want ASKER TARGET... ANSWER"},
		{"host", "c:82 yes", `unknown target "c:82"`},
		{"host", "c:80/5 yes", `"5" is no family`},
		{"host", "c:80 maybe", `answer "maybe"`},
	} {
		_, err := parseLine(nil, c.askers, c.rest)
		if (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%s %s: error %v, want %q", c.askers, c.rest, err, c.problem)
		}
	}
}
