package parity

import (
	"os"
	"strings"
	"testing"
)

// TestDocument wants docs/parity.md to be what the scenarios say.
func TestDocument(t *testing.T) {
	list, err := Load("scenarios")
	if err != nil {
		t.Fatal(err)
	}
	const fewest = 80
	if len(list) < fewest {
		t.Errorf("%d scenarios, want at least %d", len(list), fewest)
	}
	reasons, err := ParseReasons(Reasons)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := os.ReadFile("scenarios/engine")
	if err != nil {
		t.Fatal(err)
	}
	want, err := Document(list, reasons, strings.TrimSpace(string(engine)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../docs/parity.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/parity.md is not what the scenarios say: run `make parity`")
	}
}

// TestScenarioFiles wants each file to be as it would be written, and each difference to be one.
func TestScenarioFiles(t *testing.T) {
	list, err := Load("scenarios")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		text, err := os.ReadFile("scenarios/" + s.Name + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		if s.String() != string(text) {
			t.Errorf("%s.txt is not as it would be written", s.Name)
		}
		for _, step := range s.Steps {
			if step.Reason != "" && step.DCNI == step.Docker {
				t.Errorf("%s: %s: the reason %s is for what is the same", s.Name, step.Command, step.Reason)
			}
		}
	}
}

const session = `# Default bridge: what a scenario looks like.

# a comment
docker run -d busybox true
    ID
lookup c1 c2
    c2: no such name
differs why
    c2: 172.17.0.3
    exit 1
true
`

func TestParse(t *testing.T) {
	s, err := Parse("x", session)
	if err != nil {
		t.Fatal(err)
	}
	if s.String() != session {
		t.Errorf("printed again:\n%s", s)
	}
	if s.Chapter != "Default bridge" || s.Title != "what a scenario looks like." || len(s.Steps) != 3 {
		t.Errorf("parsed %+v", s)
	}
	want := Step{Command: "lookup c1 c2", Docker: "c2: no such name\n", Reason: "why", DCNI: "c2: 172.17.0.3\nexit 1\n"}
	if s.Steps[1] != want {
		t.Errorf("got %+v\nwant %+v", s.Steps[1], want)
	}
	if s.Steps[1].Want() != want.DCNI || s.Steps[0].Want() != "ID\n" {
		t.Error("Want is not what dcni is to say")
	}
	for text, words := range map[string]string{
		"docker run\n":                   "first line",
		"# No sentence\ntrue\n":          "first line",
		"# A: b.\n":                      "no command",
		"# A: b.\n    text\n":            "x:2",
		"# A: b.\ndiffers why\n":         "x:2",
		"# A: b.\ntrue\ndiffers a\n x\n": "x:4",
	} {
		if _, err := Parse("x", text); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: got %v, want %s", text, err, words)
		}
	}
}

func TestDifferences(t *testing.T) {
	s, err := Parse("x", session)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		seen  []string
		words string // of the answer, "": none
	}{
		{"as the file has it", []string{"ID\n", "c2: 172.17.0.3\nexit 1\n", ""}, ""},
		{"another answer", []string{"else\n", "c2: 172.17.0.3\nexit 1\n", ""}, "docker run -d busybox true"},
		{"nothing differs any more", []string{"ID\n", "c2: no such name\n", ""}, `remove "differs why"`},
		{"another difference", []string{"ID\n", "c2: refused\n", ""}, "got\n    c2: refused"},
		{"a status more", []string{"ID\n", "c2: 172.17.0.3\nexit 1\n", "exit 1\n"}, "exit 1"},
	} {
		got := s.Differences(c.seen)
		if (got == "") != (c.words == "") || !strings.Contains(got, c.words) {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func TestNormalize(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for _, c := range []struct{ command, output, status, want string }{
		{"x", "docker: Error response from daemon: network a not found.\nSee 'docker run --help'.\n", "125", "network a not found\nexit 125\n"},
		{"x", "Error response from daemon: network a not found\n", "1", "network a not found\nexit 1\n"},
		{"x", "dnet: network a not found\n", "1", "network a not found\nexit 1\n"},
		{"x", id + "\n" + id[:12] + " br-" + id[:12], "0", "ID\nID br-ID\n"},
		{"x", "02:42:ac:11:00:02\n", "0", "MAC\n"},
		{"run --mac-address 02:42:ac:11:00:02", "02:42:ac:11:00:02\n", "0", "02:42:ac:11:00:02\n"},
		{"x", "NAME      ID\nc1  \t x  \n", "0", "NAME ID\nc1 x\n"},
		{"x", "0.0.0.0:49153->80/tcp, 0.0.0.0:8080->81/tcp", "0", "0.0.0.0:PORT->80/tcp, 0.0.0.0:8080->81/tcp\n"},
		{"x", "Up 3 seconds, About a minute ago, 2026-11-30T01:02:03.4Z\n", "0", "Up TIME, TIME, TIME\n"},
		{"x", `"docker network create" requires`, "0", "\"dnet create\" requires\n"},
		{"x", "", "0", ""},
	} {
		if got := Normalize(c.command, c.output, c.status); got != c.want {
			t.Errorf("%q: got %q, want %q", c.output, got, c.want)
		}
	}
}

func TestParseReasons(t *testing.T) {
	list, err := ParseReasons("# comment\n\na: Since b.\n")
	if err != nil || len(list) != 1 || list[0] != (Reason{"a", "Since b."}) {
		t.Errorf("%v, %v", list, err)
	}
	for _, text := range []string{"a\n", "a b: c.\n", "a: c\n"} {
		if _, err := ParseReasons(text); err == nil {
			t.Errorf("%q is no error", text)
		}
	}
}

func TestDocumentErrors(t *testing.T) {
	s, err := Parse("x", session)
	if err != nil {
		t.Fatal(err)
	}
	for words, reasons := range map[string][]Reason{
		"reason why is not": nil,
		"no scenario's":     {{"why", "Since."}, {"other", "Since."}},
	} {
		if _, err := Document([]*Scenario{s}, reasons, "1"); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("got %v, want %s", err, words)
		}
	}
	text, err := Document([]*Scenario{s}, []Reason{{"why", "Since."}}, "1")
	if err != nil || !strings.Contains(text, "| [x](../integration/parity/scenarios/x.txt) | what a scenario looks like. | differs: why |") {
		t.Errorf("%v\n%s", err, text)
	}
	s.Chapter = "Nosuch"
	if _, err := Document([]*Scenario{s}, nil, "1"); err == nil {
		t.Error("a chapter that there is not is no error")
	}
}
