package graph

import (
	"fmt"
	"strings"
)

// Mermaid draws the graph as a Mermaid flowchart. A thick line leads to a container's
// gateway network, an arrow from the host to what is published.
func (g Graph) Mermaid() string {
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	fmt.Fprintf(&b, "    host{{\"%s\"}}\n", mermaidText(g.hostLines()...))
	for i, n := range g.Networks {
		fmt.Fprintf(&b, "    n%d([\"%s\"])\n", i, mermaidText(n.lines()...))
		if n.Internal {
			fmt.Fprintf(&b, "    host -. internal .- n%d\n", i)
		} else {
			fmt.Fprintf(&b, "    host --- n%d\n", i)
		}
	}
	for i, c := range g.Containers {
		fmt.Fprintf(&b, "    c%d[\"%s\"]\n", i, mermaidText(append([]string{c.Name}, c.ports()...)...))
		for _, p := range c.Places {
			line := "---"
			if p.Gateway {
				line = "==="
			}
			label := ""
			if len(p.Addresses) > 0 {
				label = `|"` + mermaidText(p.Addresses...) + `"|`
			}
			fmt.Fprintf(&b, "    n%d %s%s c%d\n", g.index(p.Network), line, label, i)
		}
	}
	return b.String()
}

// mermaidText is lines within quotes.
func mermaidText(lines ...string) string {
	for i, l := range lines {
		lines[i] = strings.NewReplacer("&", "#amp;", `"`, "#quot;", "<", "#lt;", ">", "#gt;", "#", "#35;").Replace(l)
	}
	return strings.Join(lines, "<br>")
}

// DOT draws the graph in Graphviz's language. A thick line leads to a container's gateway
// network.
func (g Graph) DOT() string {
	var b strings.Builder
	b.WriteString("graph dcni {\n    rankdir=LR\n    node [fontname=\"sans-serif\", fontsize=11]\n    edge [fontname=\"sans-serif\", fontsize=9]\n")
	fmt.Fprintf(&b, "    host [shape=hexagon, label=%s]\n", dotText(g.hostLines()...))
	for i, n := range g.Networks {
		fmt.Fprintf(&b, "    n%d [shape=ellipse, style=filled, fillcolor=%q, label=%s]\n", i, colour(i).light, dotText(n.lines()...))
		style := ""
		if n.Internal {
			style = ` [style=dashed, label="internal"]`
		}
		fmt.Fprintf(&b, "    host -- n%d%s\n", i, style)
	}
	for i, c := range g.Containers {
		fmt.Fprintf(&b, "    c%d [shape=box, label=%s]\n", i, dotText(append([]string{c.Name}, c.ports()...)...))
		for _, p := range c.Places {
			width := ""
			if p.Gateway {
				width = ", penwidth=2.5"
			}
			fmt.Fprintf(&b, "    n%d -- c%d [label=%s%s]\n", g.index(p.Network), i, dotText(p.Addresses...), width)
		}
	}
	b.WriteString("}\n")
	return b.String()
}

// dotText is lines as a quoted string.
func dotText(lines ...string) string {
	quoted := make([]string, len(lines))
	for i, l := range lines {
		quoted[i] = strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(l)
	}
	return `"` + strings.Join(quoted, `\n`) + `"`
}

func (g Graph) hostLines() []string {
	if g.Uplink == "" {
		return []string{g.Host}
	}
	return []string{g.Host, g.Uplink}
}

// lines describe a network.
func (n Network) lines() []string {
	lines := []string{n.Name, n.kind()}
	if n.Link != "" {
		lines = append(lines, n.Link)
	}
	lines = append(lines, n.Subnets...)
	if len(n.Nodes) > 0 {
		lines = append(lines, "nodes "+strings.Join(n.Nodes, ", "))
	}
	return append(lines, n.Services...)
}

// ports are all that a container publishes.
func (c Container) ports() (list []string) {
	for _, p := range c.Places {
		list = append(list, p.Ports...)
	}
	return list
}

// index is a network's place in the graph.
func (g Graph) index(name string) int {
	for i, n := range g.Networks {
		if n.Name == name {
			return i
		}
	}
	return -1
}
