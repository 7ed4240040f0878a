package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"dcni/pkg/graph"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
	"dcni/pkg/records"
)

// graphForms are the values of graph's flag --output.
var graphForms = []string{"text", "svg", "mermaid", "dot"}

func newGraphCommand(a *app) *cobra.Command {
	var form string
	cmd := &cobra.Command{
		Use:   "graph [OPTIONS] [NETWORK...]",
		Short: "Draw networks with their containers, addresses and published ports",
		Long: "Draw the networks of this host, or those that are named, with their containers, addresses, published ports, services and gateway networks. " +
			"Networks that have neither a file nor containers are left out.",
		Example: "  dnet graph\n" +
			"  dnet graph -o svg >networks.svg\n" +
			"  dnet graph -o dot web lab | dot -Tpng >networks.png",
		RunE:                  func(_ *cobra.Command, args []string) error { return a.graph(args, form) },
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().StringVarP(&form, "output", "o", "text", "Form: "+strings.Join(graphForms, ", "))
	_ = cmd.RegisterFlagCompletionFunc("output", inPlaces([]completer{func() []string { return graphForms }})) // the flag is there
	return cmd
}

// graph draws the networks that words name, or all.
func (a *app) graph(words []string, form string) error {
	list, err := a.networks()
	if err != nil {
		return err
	}
	if len(words) > 0 {
		if list, err = pick(list, words); err != nil {
			return err
		}
	}
	g, err := a.drawn(list, len(words) > 0)
	if err != nil {
		return err
	}
	out := ""
	switch form {
	case "text":
		out = g.Text(!a.hasUnicode())
	case "svg":
		out = g.SVG()
	case "mermaid":
		out = g.Mermaid()
	case "dot":
		out = g.DOT()
	default:
		return &statusErr{statusUsage, fmt.Errorf("invalid argument %q for \"-o, --output\" flag: must be one of %s", form, strings.Join(graphForms, ", "))}
	}
	_, err = a.stdout.WriteString(out)
	return err
}

// pick returns the networks that words name.
func pick(list []Network, words []string) (out []Network, err error) {
	seen := map[string]bool{}
	for _, word := range words {
		n, err := find(list, word)
		if err != nil {
			return nil, err
		}
		if !seen[n.Name] {
			out = append(out, n)
		}
		seen[n.Name] = true
	}
	return out, nil
}

// drawn inspects networks to be drawn, all of them or those that are in use.
func (a *app) drawn(list []Network, all bool) (graph.Graph, error) {
	var found []*catalog.Inspection
	links := map[string]string{}
	for _, n := range list {
		one, err := a.inspect(n)
		if err != nil {
			return graph.Graph{}, err
		}
		if !all && n.Path == "" && len(one.Containers) == 0 {
			continue
		}
		found = append(found, one)
		f, _ := n.Facts(nil) // inspect has warned
		links[n.Name] = f.Link
		if f.Parent != nil {
			links[n.Name] = f.Parent.Name
		}
	}
	gateways, err := a.gateways()
	if err != nil {
		return graph.Graph{}, err
	}
	g := graph.Of(found, links, gateways)
	for i := range g.Networks {
		g.Networks[i].Services = a.serviceWords(g.Networks[i].Name)
	}
	if g.Host, err = os.Hostname(); err != nil {
		g.Host = "host"
	}
	facts, err := a.condition()
	if err != nil {
		a.warn("not all could be looked at: %v", err)
	}
	g.Uplink = facts.Uplink.Name
	return g, nil
}

// serviceWords describes a network's services, each in a few words.
func (a *app) serviceWords(name string) (list []string) {
	n, err := a.store.ServicesOf(name)
	if err != nil {
		a.warn("%v", err)
	}
	for _, s := range n.Services {
		if s.Removing {
			continue
		}
		ready, all := readyOf(n.Tasks(s))
		words := append([]string{fmt.Sprintf("%d/%d ready", ready, all)}, strings.Fields(strings.ReplaceAll(addressWords(s.VIPs), ",", " "))...)
		if ports := portWords(s.Ports); ports != "" {
			words = append(words, ports)
		}
		list = append(list, "service "+s.Name+": "+strings.Join(words, ", "))
	}
	return list
}

// gateways returns the gateway networks of each container, one for each family: often one
// for both.
func (a *app) gateways() (map[string][]string, error) {
	attached, err := a.store.List("")
	if err != nil { // the others were read, and inspect has warned
		err = nil
	}
	candidates := map[string][]network.Candidate{}
	for _, r := range records.Interfaces(attached) {
		if r.State == records.Up {
			candidates[r.Container] = append(candidates[r.Container], r.Candidate())
		}
	}
	out := map[string][]string{}
	for container, list := range candidates {
		for _, v6 := range []bool{false, true} {
			if i := network.GatewayOf(list, v6); i >= 0 {
				out[container] = append(out[container], list[i].Name)
			}
		}
	}
	return out, err
}

// hasUnicode reports whether the terminal shows more than ASCII, by the locale.
func (a *app) hasUnicode() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := a.getenv(name); v != "" {
			v = strings.ToLower(v)
			return strings.HasSuffix(v, "utf-8") || strings.HasSuffix(v, "utf8")
		}
	}
	return false
}
