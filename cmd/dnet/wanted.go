package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"dcni/pkg/container"
	"dcni/pkg/network"
	"dcni/pkg/records"
)

// wanted is a network that a container is to be on, and how.
type wanted struct {
	container.Network
	list  Network
	ports []container.Publish // on the way out only
	dns   container.DNS
	way   container.Way
}

// want finds the networks of a container. The host's own has no plugin: there
// is nothing to be attached.
func (a *app) want(spec *container.Spec) ([]wanted, error) {
	var lists []Network
	if !spec.HostNetwork() {
		var err error
		if lists, err = a.resolve(spec); err != nil {
			return nil, err
		}
	}
	if spec.HostNetwork() {
		if len(spec.Ports) > 0 {
			fmt.Fprintln(a.stderr, "WARNING: Published ports are discarded when using host network mode")
		}
		return nil, nil
	}
	nets := make([]wanted, len(lists))
	ways := make([]container.Way, len(lists))
	for i, n := range spec.Networks {
		nets[i] = wanted{Network: n, list: lists[i], dns: spec.DNS}
		if err := errors.Join(nets[i].read(), installed(lists[i], pluginPath())); err != nil {
			return nil, err
		}
		ways[i] = nets[i].way
	}
	way := &nets[container.Gateway(ways)]
	way.ports = spec.Ports
	if len(spec.Ports) > 0 && !way.can("portMappings") && way.list.Driver != "null" {
		fmt.Fprintf(a.stderr, "WARNING: Published ports are discarded: no plugin of network %s has the capability portMappings\n", way.list.Name)
	}
	return nets, nil
}

// resolve finds the networks that a container's words mean, and puts their names
// there: what holds for a name holds for the ID.
func (a *app) resolve(spec *container.Spec) ([]Network, error) {
	known, err := a.networks()
	if err != nil {
		return nil, err
	}
	lists := make([]Network, len(spec.Networks))
	for i := range spec.Networks {
		n := &spec.Networks[i]
		if lists[i], err = find(known, n.Name); err != nil {
			return nil, err
		}
		n.Name = lists[i].Name
	}
	return lists, container.CheckNetworks(spec.Networks)
}

// read looks at a network's first plugin, and gives it the priority that was
// asked for.
func (w *wanted) read() error {
	if !w.list.Ours && w.GwPriority != nil {
		return fmt.Errorf("network %s: gw-priority needs a network of dcni, not of %s", w.list.Name, w.list.Type)
	}
	var conf struct {
		Internal   bool `json:"internal"`
		GwPriority int  `json:"gwPriority"`
	}
	if err := json.Unmarshal(w.list.Plugins[0], &conf); err != nil {
		return fmt.Errorf("network %s: %w", w.list.Name, err)
	}
	w.way = container.Way{Name: w.list.Name, Internal: conf.Internal, Priority: conf.GwPriority}
	if w.GwPriority == nil {
		return nil
	}
	w.way.Priority = *w.GwPriority
	raw, err := network.WithPriority(w.list.Raw, *w.GwPriority)
	if err != nil {
		return fmt.Errorf("network %s: %w", w.list.Name, err)
	}
	w.list.Conflist, err = network.ParseConflist(raw)
	return err
}

// can reports whether a plugin of the network takes a capability's value.
func (w *wanted) can(capability string) bool {
	for _, plugin := range w.list.Plugins {
		var conf struct {
			Capabilities map[string]bool `json:"capabilities"`
		}
		if json.Unmarshal(plugin, &conf) == nil && conf.Capabilities[capability] {
			return true
		}
	}
	return false
}

// portMapping is a published port as the capability portMappings has it.
type portMapping struct {
	HostPort      uint16 `json:"hostPort"`
	ContainerPort uint16 `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP,omitempty"`
}

// attachment says all that the plugins are to be told. What they don't take as
// a capability they are told by CNI_ARGS, as Podman does.
func (w *wanted) attachment(c *records.Container, ifname string) (records.Attachment, error) {
	at := records.Attachment{
		Network: w.list.Name, IfName: ifname, Path: pluginPath(), Values: map[string]any{},
		Args: [][2]string{
			{"IgnoreUnknown", "1"}, {"DNET_CREATOR", string(records.ByDnet)}, {"DNET_NAME", c.Name}, {"DNET_HOSTNAME", c.Hostname},
		},
	}
	var conf bytes.Buffer
	if err := json.Compact(&conf, w.list.Raw); err != nil {
		return at, err
	}
	at.Conf = conf.Bytes()
	var ips []string
	for _, ip := range []netip.Addr{w.IPv4, w.IPv6} {
		if ip.IsValid() {
			ips = append(ips, ip.String())
		}
	}
	w.ask(&at, "ips", "IP", ips)
	if w.MAC != "" {
		w.ask(&at, "mac", "MAC", []string{w.MAC})
		at.Values["mac"] = w.MAC
	}
	if len(w.Aliases) > 0 {
		at.Values["aliases"] = map[string][]string{w.list.Name: w.Aliases}
	}
	if dns := w.dns; len(dns.Servers)+len(dns.Search)+len(dns.Options) > 0 {
		at.Values["dns"] = dnsConfig{dns.Servers, dns.Search, dns.Options}
	}
	at.Values["portMappings"] = portMappings(w.ports)
	return at, nil
}

// dnsConfig is how names are to be resolved as the capability dns has it (the
// CRI's DNSConfig, as containerd passes it on).
type dnsConfig struct {
	Servers  []string `json:"servers,omitempty"`
	Searches []string `json:"searches,omitempty"`
	Options  []string `json:"options,omitempty"`
}

func (w *wanted) ask(at *records.Attachment, capability, arg string, values []string) {
	switch {
	case len(values) == 0:
	case w.can(capability):
		at.Values[capability] = values
	default:
		for _, v := range values {
			at.Args = append(at.Args, [2]string{arg, v})
		}
	}
}

func portMappings(ports []container.Publish) []portMapping {
	list := []portMapping{}
	for _, p := range ports {
		m := portMapping{HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: p.Protocol}
		if p.HostIP.IsValid() {
			m.HostIP = p.HostIP.String()
		}
		list = append(list, m)
	}
	return list
}

// connect attaches the child to its i-th network. Where a host port may be one
// of several, those that are taken are passed over. A network that refused is
// the last of the container's, for its end calls DEL of all.
func (l *life) connect(i int) (*types100.Result, error) {
	at, n := &l.c.Networks[i], &l.nets[i]
	for {
		result, err := l.attach(l.c, *at, l.child.NetNSPath())
		if err == nil {
			return result, nil
		}
		if container.Next(n.ports, container.Taken(err)) {
			at.Values["portMappings"] = portMappings(n.ports)
			if err = l.store.PutContainer(l.c); err == nil {
				continue
			}
		}
		l.c.Networks = l.c.Networks[:i+1]
		return nil, err
	}
}
