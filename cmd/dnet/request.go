package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"dcni/pkg/container"
	"dcni/pkg/firewall"
	"dcni/pkg/mode"
	joined "dcni/pkg/mode/container"
	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
	"dcni/pkg/records"
	"dcni/pkg/service"
)

// A networkRequest is a network that a container is to be attached to, and how.
type networkRequest struct {
	container.Network
	list    Network
	found   Network             // what list was before it got a priority
	ports   []container.Publish // what the container publishes, where the network can
	exposed []firewall.Exposed
	// notGateway has the families in which another network is the container's gateway network.
	notGateway []firewall.Family
	services   []string           // that the container is a task of
	linked     []container.Linked // on the default bridge, of a container that runs
	dns        container.DNS
	candidate  network.Candidate
	prefix     string // of the interface's name
}

// ifNames returns the names of a container's interfaces: what was asked for, or each
// network's prefix with the next number that is free. taken reports whether the sandbox has a
// link of a name already.
func ifNames(requests []networkRequest, taken func(name string) (bool, error)) ([]string, error) {
	names := make([]string, len(requests))
	for i, r := range requests {
		if names[i] = r.IfName; r.IfName != "" && slices.Contains(names[:i], r.IfName) {
			return nil, fmt.Errorf("interface name %q is asked for twice: give each network another one", r.IfName)
		}
	}
	for i, r := range requests {
		for n := 0; names[i] == ""; n++ {
			name := r.prefix + strconv.Itoa(n)
			there, err := taken(name)
			if err != nil {
				return nil, err
			}
			if !there && !slices.Contains(names, name) {
				names[i] = name
			}
		}
	}
	return names, nil
}

// none reports that a new sandbox has no link yet that could be in the way.
func none(string) (bool, error) { return false, nil }

// networkRequests finds the networks of a container. The network host needs no
// plugin, so there is no request for it.
func (a *app) networkRequests(spec *container.Spec) ([]networkRequest, error) {
	var lists []Network
	if !spec.HostNetwork() {
		var err error
		if lists, err = a.resolve(spec); err != nil {
			return nil, err
		}
	}
	if spec.HostNetwork() { // resolve may have put that name in place of an ID
		if len(spec.Ports) > 0 {
			fmt.Fprintln(a.stderr, "WARNING: Published ports are discarded when using host network mode")
		}
		return nil, nil
	}
	requests := make([]networkRequest, len(lists))
	candidates := make([]network.Candidate, len(lists))
	for i, n := range spec.Networks {
		requests[i] = networkRequest{Network: n, list: lists[i], dns: spec.DNS}
		if err := errors.Join(requests[i].read(), checkInstalled(lists[i], a.pluginPath())); err != nil {
			return nil, err
		}
		candidates[i] = requests[i].candidate
	}
	if len(requests) == 0 { // it has left all
		return nil, nil
	}
	gateway := &requests[network.Gateway(candidates)]
	gateway.ports = spec.Ports
	for i := range requests { // that network lacks a family, or is internal
		r := &requests[i]
		r.notGateway = network.NotGateway(candidates, i)
		if r != gateway && gateway.list.Main != nil && isGateway(candidates, i) && r.publishes() {
			r.ports = slices.Clone(spec.Ports)
		}
	}
	if len(spec.Ports) > 0 && !gateway.hasCapability("portMappings") {
		why := fmt.Sprintf("no plugin of network %s has the capability portMappings", gateway.list.Name)
		if gateway.list.Driver == "null" {
			why = fmt.Sprintf("network %s has none", gateway.list.Name)
		}
		fmt.Fprintln(a.stderr, "WARNING: Published ports are discarded: "+why)
	}
	return requests, nil
}

// isGateway reports whether the i-th of a container's networks is its gateway network of a family.
func isGateway(list []network.Candidate, i int) bool {
	return network.GatewayOf(list, false) == i || network.GatewayOf(list, true) == i
}

// resolve finds the networks that a container's words name, and replaces the
// words by the networks' names: the rules for a name hold for the ID as well.
func (a *app) resolve(spec *container.Spec) ([]Network, error) {
	known, err := a.networks()
	if err != nil {
		return nil, err
	}
	lists := make([]Network, len(spec.Networks))
	for i := range spec.Networks {
		n := &spec.Networks[i]
		if lists[i], err = find(known, n.Name); err != nil {
			return nil, a.noEndpoints(n.Name, err)
		}
		n.Name = lists[i].Name
	}
	if spec.Again {
		return lists, nil
	}
	return lists, container.CheckNetworks(spec.Networks)
}

// read reads what the gateway network is chosen by from the network's first
// plugin, and writes the priority that was asked for into the configuration.
func (r *networkRequest) read() error {
	if r.list.Main == nil && r.GwPriority != nil {
		return fmt.Errorf("network %s: gw-priority needs a network of dcni, not of %s", r.list.Name, r.list.Type)
	}
	var conf struct {
		Internal   bool   `json:"internal"`
		GwPriority int    `json:"gwPriority"`
		Container  string `json:"container"`
	}
	if err := json.Unmarshal(r.list.Plugins[0], &conf); err != nil {
		return fmt.Errorf("network %s: %w", r.list.Name, err)
	}
	if r.list.Type == joined.Plugin.Type {
		return fmt.Errorf("network %s is that of another container: use dnet run --network container:%s", r.list.Name, cmp.Or(conf.Container, "NAME"))
	}
	r.found = r.list
	facts, _ := r.list.Facts(nil) // what of it is wrong, ADD will say
	r.prefix = cmp.Or(facts.Options[network.IfacePrefix], "eth")
	r.candidate = network.Candidate{
		Name: r.list.Name, Internal: conf.Internal, Priority: conf.GwPriority, IPv4: facts.IPv4, IPv6: facts.IPv6,
		NoRoute4: facts.NoRoute(false), NoRoute6: facts.NoRoute(true),
	}
	if r.GwPriority == nil {
		return nil
	}
	r.candidate.Priority = *r.GwPriority
	raw, err := catalog.WithPriority(r.list.Raw, *r.GwPriority)
	if err != nil {
		return fmt.Errorf("network %s: %w", r.list.Name, err)
	}
	r.list.Conflist, err = catalog.ParseConflist(raw, mode.All)
	return err
}

// hasCapability reports whether a plugin of the network takes a capability's
// value.
func (r *networkRequest) hasCapability(capability string) bool {
	for _, plugin := range r.list.Plugins {
		var conf struct {
			Capabilities map[string]bool `json:"capabilities"`
		}
		if json.Unmarshal(plugin, &conf) == nil && conf.Capabilities[capability] {
			return true
		}
	}
	return false
}

// argsOf returns what a plugin is told of a container of dnet's.
func argsOf(c *records.Container, by records.Creator) [][2]string {
	return [][2]string{
		{"IgnoreUnknown", "1"}, {"DNET_CREATOR", string(by)}, {"DNET_NAME", c.Name}, {"DNET_HOSTNAME", c.Hostname},
	}
}

// attachment returns all that the plugins are given. A value that no plugin takes
// as a capability is passed in CNI_ARGS, as Podman does.
func (r *networkRequest) attachment(args [][2]string, ifname string, path []string) (records.Attachment, error) {
	at := records.Attachment{Network: r.list.Name, IfName: ifname, Path: path, Values: map[string]any{}, Args: slices.Clone(args)}
	var conf bytes.Buffer
	if err := json.Compact(&conf, r.list.Raw); err != nil {
		return at, err
	}
	at.Conf, at.DriverOpts = conf.Bytes(), r.DriverOpts()
	if len(r.Links) > 0 {
		at.Args = append(at.Args, [2]string{names.ArgLinks, names.JoinLinks(r.Links)})
	}
	if len(r.Sysctls) > 0 {
		at.Args = append(at.Args, [2]string{network.ArgSysctls, network.JoinSettings(r.Sysctls)})
	}
	if len(r.exposed) > 0 {
		at.Args = append(at.Args, [2]string{names.ArgExpose, firewall.JoinExposed(r.exposed)})
	}
	if len(r.notGateway) > 0 && len(r.ports) > 0 {
		at.Args = append(at.Args, [2]string{network.ArgNotGateway, network.JoinFamilies(r.notGateway)})
	}
	if len(r.services) > 0 {
		at.Args = append(at.Args, [2]string{service.ArgService, strings.Join(r.services, ",")})
	}
	var ips []string
	for _, ip := range []netip.Addr{r.IPv4, r.IPv6} {
		if ip.IsValid() {
			ips = append(ips, ip.String())
		}
	}
	r.addValues(&at, "ips", "IP", ips)
	if r.MAC != "" {
		r.addValues(&at, "mac", "MAC", []string{r.MAC})
		at.Values["mac"] = r.MAC
	}
	if len(r.Aliases) > 0 {
		at.Values["aliases"] = map[string][]string{r.list.Name: r.Aliases}
	}
	if dns := r.dns; len(dns.Servers)+len(dns.Search)+len(dns.Options) > 0 {
		at.Values["dns"] = dnsConfig{dns.Servers, dns.Search, dns.Options}
	}
	at.Values["portMappings"] = firewall.PortMappings(container.Ports(r.ports))
	return at, checkArgs(at)
}

// maxArgs is how long CNI_ARGS may be, in bytes: the kernel takes no longer variable (execve(2),
// MAX_ARG_STRLEN), and then DEL would fail as ADD does.
const maxArgs = 128<<10 - len("CNI_ARGS=\x00")

// checkArgs refuses CNI_ARGS that no plugin could be started with.
func checkArgs(at records.Attachment) error {
	n := -1
	for _, kv := range at.Args {
		n += len(kv[0]+"="+kv[1]) + len(";")
	}
	if n > maxArgs {
		return network.Refuse(network.InvalidParameter,
			"network %s: CNI_ARGS would have %d bytes, at most %d are possible: give fewer links, or exposed ports that follow one another", at.Network, n, maxArgs)
	}
	return nil
}

// dnsConfig is how names are to be resolved as the capability dns has it (the
// CRI's DNSConfig, as containerd passes it on).
type dnsConfig struct {
	Servers  []string `json:"servers,omitempty"`
	Searches []string `json:"searches,omitempty"`
	Options  []string `json:"options,omitempty"`
}

// addValues passes values as a capability, or else in CNI_ARGS.
func (r *networkRequest) addValues(at *records.Attachment, capability, arg string, values []string) {
	switch {
	case len(values) == 0:
	case r.hasCapability(capability):
		at.Values[capability] = values
	default:
		for _, v := range values {
			at.Args = append(at.Args, [2]string{arg, v})
		}
	}
}

// connect attaches the child to its i-th network. If a published port was given
// as a range of host ports, connect goes on to the next one when a port is taken.
// If the network refuses, it is the last one in the record: the container's end
// runs DEL for all networks there.
func (r *containerRun) connect(i int, netns string) (*types100.Result, error) {
	at, request := &r.c.Networks[i], &r.requests[i]
	if err := r.takeNumbers(at, request); err != nil {
		return nil, err
	}
	for {
		result, err := r.attach(r.c, *at, netns)
		if err == nil {
			err = r.stillThere(request.found)
		}
		if err == nil {
			return result, nil
		}
		if container.Next(request.ports, container.Taken(err)) {
			r.c.Ports = container.Ports(request.ports)
			at.Values["portMappings"] = firewall.PortMappings(r.c.Ports)
			if err = r.store.PutContainer(r.c); err == nil {
				continue
			}
		}
		r.c.Networks = r.c.Networks[:i+1]
		return nil, err
	}
}

// takeNumbers has a network publish the ports by the numbers by which one before it does, those
// that were chosen too.
func (r *containerRun) takeNumbers(at *records.Attachment, request *networkRequest) error {
	if len(request.ports) == 0 || len(r.results) == 0 || !request.publishes() {
		return nil
	}
	list, err := r.store.OfContainer(r.c.ID)
	if err != nil {
		return err
	}
	ports, _ := publishedBy(list)
	if len(ports) == 0 {
		return nil
	}
	request.publish(ports)
	at.Values["portMappings"] = firewall.PortMappings(ports)
	return r.store.PutContainer(r.c)
}
