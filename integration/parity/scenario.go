// Package parity compares dcni with Docker: sessions from Docker's manual, each run on a
// Docker engine and on dcni by the same script.
//
// A scenario is a file scenarios/NAME.txt, whose first line says what it shows:
//
//	# Default bridge: containers know one another by address, not by name.
//	docker run -d --name c1 busybox talk serve c1 80
//	    ID
//	ask c2 172.17.0.2:80
//	    c1 from 172.17.0.3
//	lookup c2 c1
//	    c1: no such name
//	differs default-names
//	    c1: 172.17.0.2
//
// A line that is not indented is a command for sh, with the functions of prelude.sh. What
// Docker's engine says to it follows, with four spaces before each line: standard output and
// error, the exit status unless it is 0, and what differs from run to run (IDs, times)
// replaced, see [Normalize]. Where dcni says something else on purpose, "differs" has a name
// of reasons.txt, and what dcni says follows that. A line with "#" is a comment.
//
// `make parity` writes what the engine says, and docs/parity.md. The tests of the
// scenarios compare dcni with the files, without an engine.
package parity

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Scenario is a session of a file.
type Scenario struct {
	Name    string // of the file, without .txt
	Chapter string // of the manual: what precedes the colon in the first line
	Title   string // what follows it
	Steps   []Step
}

// A Step is a command of a scenario and what came of it. Texts are lines, each with its end,
// as [Normalize] returns them.
type Step struct {
	Comment string // the lines before it, with "#", or empty lines
	Command string
	Docker  string // what Docker's engine said
	Reason  string // why dcni says something else, a name of reasons.txt; "": it says the same
	DCNI    string // what dcni said, where there is a reason
}

// Want is what dcni is to say.
func (s Step) Want() string {
	if s.Reason != "" {
		return s.DCNI
	}
	return s.Docker
}

// Looks reports whether the command only looks, so that it can be run once more: a packet
// may be too early, or a name.
func (s Step) Looks() bool {
	word, _, _ := strings.Cut(s.Command, " ")
	return slices.Contains([]string{"ask", "ping", "lookup", "addresses", "routes"}, word)
}

const (
	indent  = "    "
	differs = "differs "
)

// Parse reads a scenario. name is its file's, without .txt.
func Parse(name, text string) (*Scenario, error) {
	first, rest, _ := strings.Cut(text, "\n")
	chapter, title, ok := strings.Cut(strings.TrimPrefix(first, "# "), ": ")
	if !ok || !strings.HasPrefix(first, "# ") || !strings.HasSuffix(title, ".") {
		return nil, fmt.Errorf(`%s: the first line must be "# CHAPTER: SENTENCE.", not %q`, name, first)
	}
	s := &Scenario{Name: name, Chapter: chapter, Title: title}
	var comment strings.Builder
	for i, line := range strings.SplitAfter(rest, "\n") {
		bare := strings.TrimSuffix(line, "\n")
		var last *Step
		if len(s.Steps) > 0 {
			last = &s.Steps[len(s.Steps)-1]
		}
		switch {
		case bare == "" || strings.HasPrefix(bare, "#"):
			comment.WriteString(line)
		case strings.HasPrefix(line, indent) && last != nil && last.Reason != "":
			last.DCNI += line[len(indent):]
		case strings.HasPrefix(line, indent) && last != nil:
			last.Docker += line[len(indent):]
		case strings.HasPrefix(line, differs) && last != nil && last.Reason == "":
			last.Reason = strings.TrimPrefix(bare, differs)
		case strings.HasPrefix(line, " ") || strings.HasPrefix(line, differs):
			return nil, fmt.Errorf("%s:%d: %q belongs to no command", name, i+2, bare)
		default:
			s.Steps = append(s.Steps, Step{Comment: comment.String(), Command: bare})
			comment.Reset()
		}
	}
	if len(s.Steps) == 0 {
		return nil, fmt.Errorf("%s: no command", name)
	}
	return s, nil
}

// String returns the scenario as its file has it.
func (s *Scenario) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s: %s\n", s.Chapter, s.Title)
	for _, step := range s.Steps {
		b.WriteString(step.Comment + step.Command + "\n" + indented(step.Docker))
		if step.Reason != "" {
			b.WriteString(differs + step.Reason + "\n" + indented(step.DCNI))
		}
	}
	return b.String()
}

func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(indent + line)
	}
	return b.String()
}

// Load reads the scenarios of a folder, by chapter and name.
func Load(dir string) ([]*Scenario, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	var list []*Scenario
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		s, err := Parse(strings.TrimSuffix(filepath.Base(file), ".txt"), string(text))
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	slices.SortStableFunc(list, func(a, b *Scenario) int {
		return cmp.Or(strings.Compare(a.Chapter, b.Chapter), strings.Compare(a.Name, b.Name))
	})
	return list, nil
}

// A Reason is why dcni says something else than Docker's engine.
type Reason struct{ Name, Why string }

// ParseReasons reads reasons.txt: "NAME: WHY", one a line, and comments.
func ParseReasons(text string) ([]Reason, error) {
	var list []Reason
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, why, ok := strings.Cut(line, ": ")
		if !ok || strings.ContainsAny(name, " \t") || !strings.HasSuffix(why, ".") {
			return nil, fmt.Errorf("reasons.txt:%d: want NAME: SENTENCE., not %q", n, line)
		}
		list = append(list, Reason{name, why})
	}
	return list, lines.Err()
}
