package graph

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// A style is what the lines of a tree are drawn with.
type style struct{ fork, last, bar, arrow string }

var (
	unicodeStyle = style{"├─ ", "└─ ", "│  ", "→"}
	asciiStyle   = style{"|- ", "`- ", "|  ", "->"}
)

// Text draws the graph as a tree for a terminal: the host, its networks, their containers.
// ascii: with nothing but ASCII.
func (g Graph) Text(ascii bool) string {
	s := unicodeStyle
	if ascii {
		s = asciiStyle
	}
	var b strings.Builder
	fmt.Fprint(&b, g.Host)
	if g.Uplink != "" {
		fmt.Fprintf(&b, " (%s leads out)", g.Uplink)
	}
	b.WriteByte('\n')
	for i, n := range g.Networks {
		branch, below := s.fork, s.bar
		if i == len(g.Networks)-1 {
			branch, below = s.last, "   "
		}
		b.WriteString(branch + n.line() + "\n")
		g.containers(&b, n, s, below)
	}
	return b.String()
}

// line describes a network in one line.
func (n Network) line() string {
	parts := []string{n.Name + " (" + n.kind() + ")"}
	if n.Link != "" {
		parts = append(parts, n.Link)
	}
	parts = append(parts, n.Subnets...)
	if len(n.Nodes) > 0 {
		parts = append(parts, "nodes "+strings.Join(n.Nodes, ", "))
	}
	parts = append(parts, n.Services...)
	return strings.Join(parts, "; ")
}

// containers draws a network's containers, in columns.
func (g Graph) containers(b *strings.Builder, n Network, s style, below string) {
	list, places := g.on(n.Name)
	names, addresses := 0, 0
	for i, c := range list {
		names = max(names, utf8.RuneCountInString(c.Name))
		addresses = max(addresses, len(strings.Join(places[i].Addresses, ", ")))
	}
	for i, c := range list {
		branch := s.fork
		if i == len(list)-1 {
			branch = s.last
		}
		p := places[i]
		line := fmt.Sprintf("%s%s%s%s  %-*s", below, branch, c.Name, strings.Repeat(" ", names-utf8.RuneCountInString(c.Name)),
			addresses, strings.Join(p.Addresses, ", "))
		for _, port := range p.Ports {
			line += "  " + strings.Replace(port, " to ", s.arrow, 1)
		}
		if others := c.others(n.Name); len(others) > 0 {
			if p.Gateway {
				line += "  gateway network"
			}
			line += "  also on " + strings.Join(others, ", ")
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
}
