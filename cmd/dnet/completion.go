package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dcni/pkg/mode"
	"dcni/pkg/network/catalog"
	"dcni/pkg/records"
)

// A completer returns the words that may stand in a place, with a description behind a
// tab, as cobra has them.
type completer func() []string

// addCompletions has shells complete the names of networks and containers, and the values
// of flags. What can't be read completes to nothing: the command itself will say why.
func (a *app) addCompletions(root *cobra.Command) {
	none := func() []string { return nil }
	for name, places := range map[string][]completer{ // the last one is that of all further words
		"inspect": {a.namesOfNetworks}, "rm": {a.namesOfNetworks}, "graph": {a.namesOfNetworks},
		"connect": {a.namesOfNetworks, a.namesOfContainers, none}, "disconnect": {a.namesOfNetworks, a.namesOfContainers, none},
		"ports": {a.namesOfContainers}, "stats": {a.namesOfContainers},
		"exec": {a.runNames, none}, "start": {a.runNames}, "restart": {a.runNames}, "stop": {a.runNames}, "logs": {a.runNames, none}, "wait": {a.runNames}, "port": {a.namesOfContainers, none}, "prune": {none}, "export": {a.namesOfNetworks},
		"ls": {none}, "ps": {none}, "doctor": {none}, "events": {none}, "create": {none},
	} {
		if c, _, err := root.Find([]string{name}); err == nil && c.Name() == name {
			c.ValidArgsFunction = inPlaces(places)
		}
	}
	for _, c := range root.Commands() {
		for flag, words := range map[string]completer{
			"driver": driverNames, "network": a.namesOfNetworks, "link": a.namesOfContainers, "format": func() []string { return []string{"table", "raw", "json"} },
			"filter": func() []string { return filterNames[c.Name()] },
			"type":   func() []string { return []string{"network", "container"} },
			"scope":  func() []string { return []string{"local", "global"} }, "restart": func() []string { return []string{"no"} },
			"ipam-driver": func() []string { return []string{"default", "null", "host-local", "static", "dhcp"} },
			"config-from": a.namesOfConfigurations,
			"opt":         func() []string { return optionNames(c.Flag("driver").Value.String()) },
		} {
			if c.Flags().Lookup(flag) != nil {
				_ = c.RegisterFlagCompletionFunc(flag, inPlaces([]completer{words})) // the flag is there
			}
		}
	}
}

// filterNames are the beginnings of filters by command.
var filterNames = map[string][]string{
	"ls": {"driver=", "id=", "label=", "name=", "scope=", "type=", "dangling="},
	"ps": {"id=", "name=", "network=", "label=", "publish=", "expose=", "status=", "exited="},

	"prune":  {"until=", "label=", "label!="},
	"events": {"type=", "event=", "network=", "container="},
}

// inPlaces completes each word by its place.
func inPlaces(places []completer) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		var fit []string
		for _, word := range places[min(len(args), len(places)-1)]() {
			name, _, _ := strings.Cut(word, "\t")
			if strings.HasPrefix(name, begun) && !slices.Contains(args, name) {
				fit = append(fit, word)
			}
		}
		directive := cobra.ShellCompDirectiveNoFileComp
		if len(fit) == 1 && strings.HasSuffix(fit[0], "=") {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
		return fit, directive
	}
}

func (a *app) namesOfNetworks() (names []string) {
	list, _, _ := a.readNetworks()
	for _, n := range list {
		names = append(names, n.Name+"\t"+n.Driver)
	}
	return byName(names)
}

// namesOfContainers are those of containers that are attached, by whichever runtime.
func (a *app) namesOfContainers() (names []string) {
	list, _ := a.store.List("")
	for _, r := range records.Interfaces(list) {
		name := containerName(r) + "\ton " + r.Network
		if !slices.ContainsFunc(names, func(have string) bool { return strings.HasPrefix(have, containerName(r)+"\t") }) {
			names = append(names, name)
		}
	}
	return byName(names)
}

// namesOfConfigurations are those of configuration networks.
func (a *app) namesOfConfigurations() (names []string) {
	list, _, _ := a.configurations()
	for _, n := range list {
		names = append(names, n.Name)
	}
	return byName(names)
}

// byName sorts completions.
func byName(names []string) []string {
	slices.SortFunc(names, func(a, b string) int {
		a, _, _ = strings.Cut(a, "\t")
		b, _, _ = strings.Cut(b, "\t")
		return catalog.Natural(a, b)
	})
	return names
}

// runNames are those of containers of run.
func (a *app) runNames() (names []string) {
	list, _ := a.store.Containers()
	for _, c := range list {
		names = append(names, c.Name+"\t"+string(c.Stage))
	}
	return names
}

// optionNames are the beginnings of a driver's options.
func optionNames(driver string) (names []string) {
	for _, p := range mode.All {
		if optioned, has := p.Driver.(catalog.Optioned); has && optioned.Name() == driver {
			for _, name := range optioned.OptionNames() {
				names = append(names, name+"=")
			}
		}
	}
	return names
}

func driverNames() (names []string) {
	for _, p := range mode.All {
		if creator, ok := p.Driver.(catalog.Creator); ok {
			names = append(names, creator.Name())
		}
	}
	return names
}
