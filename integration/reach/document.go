package reach

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
)

//go:embed head.md
var head string

// Firewalls are the values of dbridge's key "firewall", for all of which the table is the same.
var Firewalls = []string{"nftables", "iptables"}

// Document returns docs/reachability.md.
func (t *Table) Document() string {
	var b strings.Builder
	cells, otherwise, asked, engine := t.counts()
	b.WriteString(strings.NewReplacer(
		"CELLS", fmt.Sprint(cells), "NETWORKS", fmt.Sprint(len(t.Networks)), "OTHERWISE", fmt.Sprint(otherwise),
		"FIREWALLS", strings.Join(Firewalls, " and "), "ASKED", fmt.Sprint(asked), "ENGINE", fmt.Sprint(engine)).Replace(head))
	for _, s := range t.sections() {
		s.write(&b)
	}
	b.WriteString("\n## Where dcni does otherwise than Docker\n\n")
	t.differences(&b, t.dcni, "dcni")
	b.WriteString("\n## Where Docker 20.10 does otherwise\n\n")
	t.differences(&b, t.engine, "Docker 20.10")
	return b.String()
}

// counts returns how many cells there are, in how many dcni does otherwise, how many the
// engine is asked, and in how many that does otherwise.
func (t *Table) counts() (cells, otherwise, asked, engine int) {
	for _, n := range t.Networks {
		for _, c := range n.Cells() {
			cells++
			if t.DCNI(n, c) != n.Docker(c) {
				otherwise++
			}
			if n.Engine == nil || c.Netfilter != netfilter[0] || t.Engine(n, c) == NotAsked {
				continue
			}
			asked++
			if t.Engine(n, c) != n.Docker(c) {
				engine++
			}
		}
	}
	return cells, otherwise, asked, engine
}

// A section is about networks that are the same, or that differ from the one that each is like
// in the same way: in grids, which are "" where there is no difference.
type section struct {
	networks []*Network
	grids    string
}

// sections returns those of all networks. What makes no difference comes last.
func (t *Table) sections() []*section {
	var list []*section
	same := &section{}
	for _, n := range t.Networks {
		grids := t.grid(n, Targets[:inbound]) + t.grid(n, Targets[inbound:])
		i := slices.IndexFunc(list, func(s *section) bool { return s.grids == grids })
		switch {
		case grids == "":
			same.networks = append(same.networks, n)
		case i >= 0:
			list[i].networks = append(list[i].networks, n)
		default:
			list = append(list, &section{[]*Network{n}, grids})
		}
	}
	return append(list, same)
}

func (s *section) write(b *strings.Builder) {
	heading, but := s.networks[0].Title, ", but:"
	if s.grids == "" {
		heading, but = "No difference", "."
	}
	fmt.Fprintf(b, "\n## %s\n\n", heading)
	for i, n := range s.networks {
		if len(s.networks) > 1 {
			b.WriteString("- " + n.Title + ": ")
		}
		if n.Family != "" {
			fmt.Fprintf(b, "IPv%s alone, ", n.Family)
		}
		if n.Keys != "" {
			fmt.Fprintf(b, "`%s`, ", n.Keys)
		}
		end := ";"
		if i == len(s.networks)-1 {
			end = but
		}
		if n.like != nil {
			fmt.Fprintf(b, "as *%s*%s\n", n.like.Title, end)
		}
	}
	b.WriteString(strings.TrimPrefix(s.grids, map[bool]string{true: "\n"}[s.networks[0].like == nil]))
}

// A row is one of a grid, with the askers that it is for.
type row struct {
	askers []string
	cells  []string
}

// grid is a table of askers and targets, without what is as in the network that n is like. Askers
// with the same answers share a row.
func (t *Table) grid(n *Network, targets []Place) string {
	var askers, columns []Place
	for _, a := range Askers {
		if slices.ContainsFunc(targets, func(p Place) bool { return t.shown(n, a, p) }) {
			askers = append(askers, a)
		}
	}
	for _, p := range targets {
		if slices.ContainsFunc(askers, func(a Place) bool { return t.shown(n, a, p) }) {
			columns = append(columns, p)
		}
	}
	if len(askers) == 0 {
		return ""
	}
	var rows []*row
	for _, a := range askers {
		r := &row{askers: []string{a.Title}}
		for _, p := range columns {
			r.cells = append(r.cells, t.text(n, a.Name, p.Name))
		}
		if i := slices.IndexFunc(rows, func(o *row) bool { return slices.Equal(o.cells, r.cells) }); i >= 0 {
			rows[i].askers = append(rows[i].askers, a.Title)
			continue
		}
		rows = append(rows, r)
	}
	var b strings.Builder
	b.WriteString("\n|")
	for _, p := range columns {
		b.WriteString(" | " + p.Title)
	}
	b.WriteString(" |\n|---" + strings.Repeat("|---", len(columns)) + "|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s |\n", strings.Join(r.askers, "; "), strings.Join(r.cells, " | "))
	}
	return b.String()
}

// shown reports whether a network's table has to show what an asker gets from a target: where it is
// asked at all, and is not as in the network that n is like.
func (t *Table) shown(n *Network, asker, target Place) bool {
	text := t.text(n, asker.Name, target.Name)
	return text != wordFor(NotAsked) && (n.like == nil || text != t.text(n.like, asker.Name, target.Name))
}

// text is what dcni answers, with the numbers of reasons where that is not what Docker does.
func (t *Table) text(n *Network, asker, target string) string {
	cells := n.cells(asker, target)
	text := merge(cells, func(c Cell) string { return t.DCNI(n, c) })
	for i, r := range t.dcni {
		if slices.ContainsFunc(cells, func(c Cell) bool {
			_, why := answerOf(t.dcni, c, n.Docker(c))
			return why == r && t.DCNI(n, c) != NotAsked
		}) {
			text += fmt.Sprintf(" (%d)", i+1)
		}
	}
	return text
}

// differences writes reasons, and the answers that each is for, as a table.
func (t *Table) differences(b *strings.Builder, reasons []*Reason, program string) {
	fmt.Fprintf(b, "| | why | network | what asks | for what | %s | Docker |\n|---|---|---|---|---|---|---|\n", program)
	for i, r := range reasons {
		mark, why := fmt.Sprint(i+1), r.Why
		for _, l := range r.lines {
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", mark, why, t.question(l), wordFor(l.answer), t.docker(l))
			mark, why = "", ""
		}
	}
}

// question is what a line is about, in words.
func (t *Table) question(l line) string {
	networks, targets := []string{}, []string{}
	if l.networks == nil {
		networks = append(networks, "all")
	}
	for _, n := range t.Networks {
		if slices.Contains(l.networks, n.Name) {
			networks = append(networks, n.Title)
		}
	}
	for _, p := range l.targets {
		text := title(Targets, p.target)
		for _, q := range p.only {
			text += " " + map[string]string{"4": "IPv4", "6": "IPv6", "nf1": "with bridge netfilter", "nf0": "without bridge netfilter"}[q]
			if slices.Contains(protos, q) {
				text += strings.ToUpper(q)
			}
		}
		targets = append(targets, text)
	}
	var askers []string
	for _, a := range l.askers {
		askers = append(askers, title(Askers, a))
	}
	return fmt.Sprintf("*%s* | %s | %s", strings.Join(networks, "*, *"), strings.Join(askers, ", "), strings.Join(targets, ", "))
}

func title(list []Place, name string) string {
	return list[slices.IndexFunc(list, func(p Place) bool { return p.Name == name })].Title
}

// docker is what Docker's rules give for the cells of a line.
func (t *Table) docker(l line) string {
	var found []string
	for _, n := range t.Networks {
		for _, c := range n.Cells() {
			if text := wordFor(n.Docker(c)); l.matches(c) && n.Docker(c) != l.answer && !slices.Contains(found, text) {
				found = append(found, text)
			}
		}
	}
	return strings.Join(found, " or ")
}
