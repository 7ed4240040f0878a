package parity

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
)

// Reasons is reasons.txt.
//
//go:embed reasons.txt
var Reasons string

// chapters of Docker's manual, in its order.
var chapters = []string{
	"Default bridge", "User-defined bridges", "Embedded DNS", "Files of a container", "Several networks", "Connect and disconnect",
	"Static addresses", "Published ports", "Isolation", "Internal networks", "IPv6", "Links", "None", "Host", "Container", "Macvlan", "Drivers",
	"network create", "network ls", "network inspect", "network rm", "network prune", "Errors of run", "Containers",
}

const head = `# dcni beside Docker

<!-- Written by "make parity" from integration/parity. -->

%d sessions from Docker's manual, %d commands, each run on a Docker engine (%s) and on dcni by the same script: ` + "`docker network X`" + `
is ` + "`dnet X`, `docker run IMAGE COMMAND` is `dnet run COMMAND`" + `. What is compared is all that a command prints, errors and exit status
included, and by further commands who reaches whom, addresses, routes, names, /etc/hosts and /etc/resolv.conf. IDs, MACs, times and
ports that were chosen are left out, and so is the name of the program that speaks.

**%d sessions are the same; %d differ in %d commands, all on purpose:** the reasons are [below](#reasons).

` + "`make parity`" + ` runs both and writes this page; ` + "`make test`" + ` runs dcni's side against what the engine said, and fails where
anything else differs. The sessions are in [integration/parity/scenarios](../integration/parity/scenarios), with what was said.
`

// Document returns docs/parity.md.
func Document(list []*Scenario, reasons []Reason, engine string) (string, error) {
	var b strings.Builder
	where := map[string][]string{}
	steps, differing, commands := 0, 0, 0
	for _, s := range list {
		steps += len(s.Steps)
		if !slices.Contains(chapters, s.Chapter) {
			return "", fmt.Errorf("%s: no chapter %q, want one of %q", s.Name, s.Chapter, chapters)
		}
		for _, r := range s.reasons() {
			where[r] = append(where[r], s.Name)
		}
		if s.Differs() {
			differing++
		}
		for _, step := range s.Steps {
			if step.Reason != "" {
				commands++
			}
		}
	}
	fmt.Fprintf(&b, head, len(list), steps, engine, len(list)-differing, differing, commands)
	for _, chapter := range chapters {
		if !slices.ContainsFunc(list, func(s *Scenario) bool { return s.Chapter == chapter }) {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n| session | shows | dcni |\n|---|---|---|\n", chapter)
		for _, s := range list {
			if s.Chapter == chapter {
				fmt.Fprintf(&b, "| [%s](../integration/parity/scenarios/%s.txt) | %s | %s |\n", s.Name, s.Name, cell(s.Title), result(s))
			}
		}
	}
	b.WriteString("\n## Reasons\n\n| name | why dcni says something else | sessions |\n|---|---|---|\n")
	for _, r := range reasons {
		if len(where[r.Name]) == 0 {
			return "", fmt.Errorf("reasons.txt: %s is no scenario's reason", r.Name)
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r.Name, cell(r.Why), strings.Join(where[r.Name], ", "))
		delete(where, r.Name)
	}
	for name, scenarios := range where {
		return "", fmt.Errorf("%s: reason %s is not in reasons.txt", scenarios[0], name)
	}
	return b.String(), nil
}

// cell escapes what would end a cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

func result(s *Scenario) string {
	if r := s.reasons(); len(r) > 0 {
		return "differs: " + strings.Join(r, ", ")
	}
	return "same"
}

// Differs reports whether dcni says something else on purpose.
func (s *Scenario) Differs() bool { return len(s.reasons()) > 0 }

// reasons returns the reasons of a scenario, each once.
func (s *Scenario) reasons() []string {
	var list []string
	for _, step := range s.Steps {
		if step.Reason != "" && !slices.Contains(list, step.Reason) {
			list = append(list, step.Reason)
		}
	}
	return list
}
