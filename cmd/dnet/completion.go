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
		"inspect": {a.namesOfNetworks}, "rm": {a.removableNames}, "graph": {a.namesOfNetworks}, "export": {a.namesOfNetworks},
		"connect": {a.namesOfNetworks, a.anyNames, none}, "disconnect": {a.namesOfNetworks, a.anyNames, none},
		"ports": {a.namesOfContainers}, "stats": {a.namesOfContainers}, "port": {a.namesOfContainers, none},
		"exec": {a.runNames, none}, "start": {a.runNames}, "restart": {a.runNames}, "stop": {a.runNames}, "logs": {a.runNames, none}, "wait": {a.runNames},
		"prune": {none}, "ls": {none}, "ps": {none}, "doctor": {none}, "events": {none}, "create": {none},
		"container exec": {a.runNames, none}, "container start": {a.runNames}, "container restart": {a.runNames}, "container stop": {a.runNames},
		"container logs": {a.runNames, none}, "container wait": {a.runNames}, "container rm": {a.runNames}, "container inspect": {a.anyNames},
		"container port": {a.namesOfContainers, none}, "container prune": {none}, "container ls": {none},
		"service rm": {a.namesOfServices}, "service ps": {a.namesOfServices}, "service inspect": {a.namesOfServices}, "service drain": {a.namesOfContainers},
		"service ls": {none}, "service create": {none},
	} {
		if c := subcommand(root, strings.Fields(name)); c != nil {
			c.ValidArgsFunction = inPlaces(places)
		}
	}
	a.completeFlags(root)
}

// subcommand returns the command of a name below another one, nil if there is none. (cobra's own Find
// gives each command that it passes the flags of all.)
func subcommand(c *cobra.Command, name []string) *cobra.Command {
	for _, word := range name {
		i := slices.IndexFunc(c.Commands(), func(one *cobra.Command) bool { return one.Name() == word })
		if i < 0 {
			return nil
		}
		c = c.Commands()[i]
	}
	return c
}

// completeFlags has shells complete the values of a command's flags, and of those below it.
func (a *app) completeFlags(c *cobra.Command) {
	for flag, words := range map[string]completer{
		"driver": func() []string { return append(driverNames(), overlayDriver) }, "network": a.namesOfNetworks, "link": a.namesOfContainers, "format": fixed("table", "raw", "json"),
		"filter": func() []string { return slices.Concat(filterNames[c.Name()], a.filterValues(c.Name())) },
		"type":   fixed("network", "container"), "scope": fixed("local", "global"), "restart": fixed("no"),
		"ipam-driver": fixed("default", "null", "host-local", "static", "dhcp"), "ipam-opt": fixed("allocation=", "allocation=lowest", "allocation=next-fit", "sticky=", "sticky=true"),
		"config-from": a.namesOfConfigurations, "service": a.namesOfServices,
		"mode": fixed("vip", "dnsrr"), "affinity": fixed("none", "client"), "health": fixed("tcp:", "http:"),
		"opt":        func() []string { return optionNames(c.Flag("driver").Value.String()) },
		"driver-opt": fixed("com.docker.network.endpoint.ifname=", "com.docker.network.endpoint.sysctls="),
	} {
		if c.Flags().Lookup(flag) != nil {
			_ = c.RegisterFlagCompletionFunc(flag, inPlaces([]completer{words})) // the flag is there
		}
	}
	for _, below := range c.Commands() {
		a.completeFlags(below)
	}
}

// fixed completes to words that are always the same.
func fixed(words ...string) completer { return func() []string { return words } }

// filterNames are the beginnings of filters by command.
var filterNames = map[string][]string{
	"ls": {"driver=", "id=", "label=", "name=", "scope=", "type=", "dangling="},
	"ps": {"id=", "name=", "network=", "label=", "publish=", "expose=", "status=", "exited="},

	"prune":  {"until=", "label=", "label!="},
	"events": {"type=", "event=", "network=", "container="},
}

// filterValues are whole filters of a command.
func (a *app) filterValues(command string) (list []string) {
	for filter, words := range map[string]map[string]completer{
		"ls": {
			"driver=": a.driversOfNetworks, "name=": a.namesOfNetworks, "scope=": fixed("local", "global"), "type=": fixed("builtin", "custom"),
			"dangling=": fixed("true", "false"),
		},
		"ps":     {"network=": a.namesOfNetworks, "name=": a.runNames, "status=": fixed("created", "running", "exited")},
		"events": {"type=": fixed("network", "daemon"), "network=": a.namesOfNetworks, "container=": a.namesOfContainers},
	}[command] {
		for _, word := range words() {
			list = append(list, filter+word)
		}
	}
	slices.Sort(list)
	return list
}

// inPlaces completes each word by its place. Values of NAME=VALUE are shown once NAME= is typed.
func inPlaces(places []completer) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		var fit []string
		for _, word := range places[min(len(args), len(places)-1)]() {
			name, _, _ := strings.Cut(word, "\t")
			_, value, _ := strings.Cut(name, "=")
			early := value != "" && !strings.Contains(begun, "=") || value == "" && name == begun && strings.HasSuffix(name, "=")
			if strings.HasPrefix(name, begun) && !early && !slices.Contains(args, name) {
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

// removableNames are those of networks that rm removes: not of the predefined ones.
func (a *app) removableNames() []string {
	return slices.DeleteFunc(a.namesOfNetworks(), func(word string) bool {
		name, _, _ := strings.Cut(word, "\t")
		return catalog.Predefined(name)
	})
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

// anyNames are those of containers that are attached, and of those of run that have ended.
func (a *app) anyNames() []string {
	names := a.namesOfContainers()
	for _, word := range a.runNames() {
		name, _, _ := strings.Cut(word, "\t")
		if !slices.ContainsFunc(names, func(have string) bool { return strings.HasPrefix(have, name+"\t") }) {
			names = append(names, word)
		}
	}
	return byName(names)
}

// namesOfServices are those of all networks' services.
func (a *app) namesOfServices() (names []string) {
	networks, _ := a.store.ServiceNetworks()
	for _, network := range networks {
		list, _ := a.store.Services(network)
		for _, s := range list {
			names = append(names, s.Name+"\ton "+network)
		}
	}
	return byName(names)
}

// optionValues are those that options take which take no others.
var optionValues = map[string][]string{
	"gateway_mode_ipv4": {"nat", "nat-unprotected", "routed", "isolated"}, "gateway_mode_ipv6": {"nat", "nat-unprotected", "routed", "isolated"},
	"firewall": {"nftables", "iptables"}, "macvlan_mode": {"bridge", "private", "vepa", "passthru"},
	"ipvlan_mode": {"l2", "l3", "l3s"}, "ipvlan_flag": {"bridge", "private", "vepa"},
	"enable_icc": yesOrNo, "enable_ip_masquerade": yesOrNo, "default_bridge": yesOrNo, "inhibit_ipv4": yesOrNo, "enable_ipv4": yesOrNo, "enable_ipv6": yesOrNo,
	"antiSpoof": yesOrNo, "encrypted": yesOrNo, "flood": yesOrNo, "nodeAddresses": yesOrNo,
}

var yesOrNo = []string{"true", "false"}

// optionNames are the beginnings of a driver's options, and whole ones where few values are taken.
func optionNames(driver string) (names []string) {
	for _, p := range mode.All {
		optioned, has := p.Driver.(catalog.Optioned)
		if !has || optioned.Name() != driver {
			continue
		}
		for _, name := range optioned.OptionNames() {
			names = append(names, name+"=")
			for _, value := range optionValues[name[strings.LastIndexByte(name, '.')+1:]] {
				names = append(names, name+"="+value)
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

// driversOfNetworks are those of the networks that there are.
func (a *app) driversOfNetworks() (names []string) {
	list, _, _ := a.readNetworks()
	for _, n := range list {
		if !slices.Contains(names, n.Driver) {
			names = append(names, n.Driver)
		}
	}
	return names
}
