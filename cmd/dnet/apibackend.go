package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"dcni/pkg/cni"
	"dcni/pkg/container"
	"dcni/pkg/engineapi"
	"dcni/pkg/firewall"
	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
	"dcni/pkg/records"
	"dcni/pkg/records/output"
	"dcni/pkg/wire"
)

// An apiBackend does what clients of the API ask for, as the commands do it.
type apiBackend struct{ *app }

// Networks returns all networks.
func (b apiBackend) Networks() ([]engineapi.Network, error) {
	list, _, err := b.readNetworks()
	if err != nil {
		return nil, err
	}
	configurations, _, err := b.configurations()
	list = append(list, configurations...)
	var out []engineapi.Network
	for _, n := range list {
		out = append(out, engineapi.Network{
			Conflist: n.Conflist,
			InUse: func() bool {
				attached, err := b.store.Attached(n.Name)
				return err != nil || attached
			},
			Describe: func(detail bool) (out *catalog.Inspection, err error) {
				if detail {
					out, err = b.inspect(n)
				} else {
					f, _ := n.Facts(b.registered(n)) // inspect and ADD report the error
					out = n.Inspect(n.Created, f, nil, nil)
				}
				if err == nil {
					hideGateways(n, out)
				}
				return out, err
			},
		})
	}
	return out, err
}

// hideGateways leaves out the gateways that were not asked for, as a Docker engine does: Terraform's
// provider replaces a network at each apply if it has one that the configuration does not name.
func hideGateways(n Network, out *catalog.Inspection) {
	for i := range out.IPAM.Config {
		if c := &out.IPAM.Config[i]; slices.Contains(n.NoGateway, c.Subnet.String()) {
			c.Gateway = catalog.ShownAddr{}
		}
	}
}

// Create creates a network.
func (b apiBackend) Create(c engineapi.Create) (string, error) {
	swarm := swarmFlags{scope: c.Scope, configOnly: c.ConfigOnly, ingress: c.Ingress}
	if err := swarm.check(c.Driver); err != nil {
		return "", network.Refused(network.InvalidParameter, err)
	}
	create := b.createNetwork
	if c.ConfigOnly {
		create = b.createConfiguration
	}
	c.Options.ConfigFrom = c.ConfigFrom
	id, err := create(c.Options)
	return id, classified(err)
}

// Remove removes a network.
func (b apiBackend) Remove(word string) error {
	b.heal() // a container whose dnet was killed must not count as attached
	m, err := b.openHost(b.store)
	if err != nil {
		return err
	}
	defer m.Close()
	return classified(b.remove(m, word))
}

// Prune removes networks that no container is on. Those that others made are left.
func (b apiBackend) Prune(passes func(*catalog.Conflist, time.Time) bool) (removed []string, err error) {
	removed, failed, err := b.pruneNetworks(passes)
	for _, e := range failed {
		b.warn("%v", e)
	}
	return removed, err
}

// Connect connects a container to a network.
func (b apiBackend) Connect(n container.Network, word string) error {
	return classified(b.connectNetwork(n, word, ""))
}

// Disconnect disconnects a container from a network.
func (b apiBackend) Disconnect(word, name string, force bool) error {
	return classified(b.disconnect(&disconnectOptions{force: force}, word, name))
}

// classes are those of what plugins answer.
var classes = map[wire.Code]network.Class{
	wire.CodeUnsupported: network.InvalidParameter, wire.CodeConfig: network.InvalidParameter, wire.CodeSandbox: network.InvalidParameter,
	wire.CodeAddressTaken: network.Forbidden, wire.CodeForbidden: network.Forbidden,
}

// classified gives an error the class that its CNI code has.
func classified(err error) error {
	if own, is := errors.AsType[*wire.Error](err); is && classes[own.Code] != 0 {
		return network.Refused(classes[own.Code], err)
	}
	if printed, is := errors.AsType[*types.Error](err); is && classes[wire.Code(printed.Code)] != 0 {
		return network.Refused(classes[wire.Code(printed.Code)], err)
	}
	return err
}

// Watch tells of networks that come and go, as `dnet events` does. Docker has no events of
// what starts and ends of itself.
func (b apiBackend) Watch() func() ([]engineapi.Event, error) {
	store := records.NewCachedStore(b.store)
	var before scene
	return func() (list []engineapi.Event, err error) {
		now, err := b.scene(store, before)
		if err != nil {
			return nil, err
		}
		if before != nil {
			for _, e := range changes(before, now, time.Now()) {
				if e.Type == "network" {
					list = append(list, engineapi.Event(e))
				}
			}
		}
		before = now
		return list, nil
	}
}

// Host describes the host. What can't be read is empty.
func (b apiBackend) Host() (engineapi.Host, error) {
	h := engineapi.Host{Firewall: "nftables", StateDir: b.store.Lib, System: "Linux", Machine: runtime.GOARCH}
	if list, err := b.store.NetworksByIPTables(); err == nil && len(list) > 0 {
		h.Firewall += "+iptables" // which has its networks' addresses and ports; frames are nftables' always
	}
	h.Name, _ = os.Hostname() // uname(2) does not fail
	if machine := map[string]string{"amd64": "x86_64", "arm64": "aarch64", "386": "i686", "arm": "armv7l"}[runtime.GOARCH]; machine != "" {
		h.Machine = machine
	}
	text := func(path string) string {
		data, _ := b.hostFile(path)
		return strings.TrimSpace(string(data))
	}
	h.Kernel, h.Forwards = text("/proc/sys/kernel/osrelease"), text("/proc/sys/net/ipv4/ip_forward") == "1"
	for line := range strings.Lines(text("/etc/os-release")) {
		if name, is := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); is {
			h.System = strings.Trim(name, `"'`)
		}
	}
	if words := strings.Fields(text("/proc/meminfo")); len(words) > 1 { // MemTotal: N kB
		kilobytes, _ := strconv.ParseInt(words[1], 10, 64)
		h.Memory = kilobytes << 10
	}
	h.Drivers = driverNames()
	slices.Sort(h.Drivers)
	return h, nil
}

// Containers returns the containers of whichever runtime that are attached to networks, and
// those of `dnet run`.
func (b apiBackend) Containers() ([]engineapi.Container, error) {
	m, err := b.openHost(b.store)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	donors, err := m.Donors()
	if err != nil && len(donors) == 0 {
		return nil, err
	}
	attached, err := b.store.List("")
	if err != nil { // the other records were read all the same
		b.warn("%v", err)
	}
	up := map[string][]*records.Record{} // by container
	for _, r := range records.Interfaces(attached) {
		if r.State == records.Up {
			up[r.Container] = append(up[r.Container], r)
		}
	}
	containers, err := b.store.Containers()
	if err != nil {
		return nil, err
	}
	own := map[string]*records.Container{} // by ID
	for _, c := range containers {
		if c.Unreadable == nil { // of others no more is known than of another runtime's
			own[c.ID] = c
		}
	}
	var list []engineapi.Container
	for i := range donors {
		d := &donors[i]
		if c := own[d.Container]; c == nil || b.present(c) {
			list = append(list, b.describe(m, d, up[d.Container], c))
		}
	}
	slices.SortStableFunc(list, func(x, y engineapi.Container) int {
		return cmp.Or(y.Created.Compare(x.Created), cmp.Compare(x.Names[0], y.Names[0]))
	})
	return list, nil
}

// describe describes a container by its records. own is nil for another runtime's.
func (b apiBackend) describe(m machine, d *network.Donor, up []*records.Record, own *records.Container) engineapi.Container {
	c := engineapi.Container{ID: d.Container, Names: slices.Clone(d.Names), State: network.Exited}
	if len(c.Names) == 0 {
		c.Names = []string{d.Container}
	}
	if path, _ := m.NetNSOf(d); path != "" {
		c.State, c.NetNS = string(records.Running), path
	}
	for _, r := range up {
		if c.Created.IsZero() || r.Since.Before(c.Created) {
			c.Created = r.Since
		}
	}
	c.Started = c.Created
	var asked []records.Attachment
	if own != nil {
		b.describeOwn(&c, own)
		asked = own.Networks
	}
	switch { // one that joined another container has that one's networks and none of its own
	case own == nil || own.Donor == "" && own.Stage != records.Exited:
		there := *d
		there.Attachments = slices.DeleteFunc(slices.Clone(d.Attachments), func(at network.Donation) bool {
			return c.NetNS != "" && isLeft(m, c.NetNS, up, at)
		})
		c.Endpoints = endpointsOf(&there, up)
		b.asked(&c, asked)
	case own.Stage == records.Exited:
		c.Endpoints = wantedEndpoints(own)
	}
	if c.Mode == "" && len(c.Endpoints) > 0 {
		c.Mode = c.Endpoints[0].Network
	}
	return c
}

// describeOwn tells what is on record of a container of `dnet run`.
func (b apiBackend) describeOwn(c *engineapi.Container, own *records.Container) {
	c.Names, c.Hostname, c.Command, c.State = []string{own.Name}, own.Hostname, own.Command, string(own.Stage)
	c.Created, c.Started, c.Finished, c.ExitCode = own.Created, own.Started, own.Finished, own.ExitCode
	c.Files = b.store.ContainerDir(own.ID)
	c.Labels, c.User, c.Exposed, c.Env, c.Workdir, c.AutoRemove = own.Labels, own.User, own.Exposed, own.Env, own.Workdir, own.Remove
	c.PortBindings, c.PublishAll = askedPorts(own)
	if own.Output {
		c.Output = output.Path(c.Files)
	}
	if own.Stage != records.Exited {
		c.PID = own.Process.PID
	}
	switch names := b.networkNames(own); {
	case own.Donor != "":
		c.Mode = "container:" + own.Donor
	case len(names) > 0:
		c.Mode = names[0]
	}
	if c.Mode == "host" && c.State == string(records.Running) {
		c.NetNS = network.HostNetNS
	}
}

// askedPorts returns the ports that -p of `dnet run` named, by container port: one that was to be
// chosen has no number, and a range is one. nil: that is not on record. all is that of -P.
func askedPorts(own *records.Container) (asked map[string][]catalog.InspectedPort, all bool) {
	var saved savedRun
	if json.Unmarshal(own.Options, &saved) != nil {
		return nil, false
	}
	asked = map[string][]catalog.InspectedPort{}
	for _, text := range saved.Publish {
		list, _ := container.ParsePublish(text) // dnet run has read it
		for _, p := range list {
			key, one := firewall.Exposed{Protocol: p.Protocol, Port: p.ContainerPort}.String(), catalog.InspectedPort{}
			if p.HostIP.IsValid() {
				one.HostIP = p.HostIP.String()
			}
			if p.HostPort != 0 {
				one.HostPort = strconv.Itoa(int(p.HostPort))
			}
			if p.Last != p.HostPort {
				one.HostPort += "-" + strconv.Itoa(int(p.Last))
			}
			asked[key] = append(asked[key], one)
		}
	}
	return asked, saved.PublishAll
}

// endpointsOf returns a container's attachments by interface. Of another suite's plugins,
// libcni keeps what they gave.
func endpointsOf(d *network.Donor, attached []*records.Record) (list []engineapi.Endpoint) {
	known := map[wire.Attachment]bool{}
	for i, e := range endpoints(attached) {
		r := attached[i]
		known[r.Attachment] = true
		list = append(list, engineapi.Endpoint{ShownEndpoint: e, DNSNames: r.Names, GwPriority: r.Info.Priority})
	}
	for _, at := range d.Attachments {
		id := wire.Attachment{Network: at.Network, Container: d.Container, IfName: at.IfName}
		if !known[id] && at.IfName != "lo" { // which containerd has a plugin for
			list = append(list, engineapi.Endpoint{ShownEndpoint: given(id, d.Title(), at)})
		}
	}
	slices.SortStableFunc(list, func(x, y engineapi.Endpoint) int { return catalog.Natural(x.IfName, y.IfName) })
	return list
}

// wantedEndpoints returns what a container that has ended is to have when it is started.
func wantedEndpoints(own *records.Container) (list []engineapi.Endpoint) {
	w, _, _ := wanted(own) // of what can't be read, nothing is known
	for _, n := range w {
		e := engineapi.Endpoint{IPv4: n.IPv4, IPv6: n.IPv6, Aliases: n.Aliases, DriverOpts: n.DriverOpts()}
		e.Attachment = wire.Attachment{Network: n.Name, Container: own.ID}
		for _, l := range n.Links {
			e.Links = append(e.Links, l.Target+":"+l.Alias)
		}
		if n.GwPriority != nil {
			e.GwPriority = *n.GwPriority
		}
		list = append(list, e)
	}
	return list
}

// given describes an attachment by the result of its ADD.
func given(id wire.Attachment, name string, at network.Donation) catalog.ShownEndpoint {
	e := catalog.ShownEndpoint{Attachment: id, Name: name}
	result, err := cni.ReadDonation(at.Result)
	if err != nil {
		return e // nothing more is known
	}
	for _, i := range result.Interfaces {
		if i.Sandbox != "" && e.MAC == "" {
			e.MAC = i.Mac
		}
	}
	for _, ip := range result.IPs {
		bits, _ := ip.Address.Mask.Size()
		if a, ok := netip.AddrFromSlice(ip.Address.IP); ok && inSandbox(result, ip) {
			gateway, _ := netip.AddrFromSlice(ip.Gateway) // zero: none
			e.Addresses = append(e.Addresses, ipam.Assigned{Address: netip.PrefixFrom(a.Unmap(), bits), Gateway: gateway.Unmap()})
		}
	}
	return e
}

// asked notes for each endpoint the addresses, aliases and options that dnet was asked for, at the
// container's start or later.
func (b apiBackend) asked(c *engineapi.Container, asked []records.Attachment) {
	asked = slices.Clone(asked)
	connected, _ := b.store.Connections(c.ID) // of one that can't be read heal warns
	for _, l := range connected {
		asked = append(asked, l.Attachment)
	}
	for _, at := range asked {
		for i := range c.Endpoints {
			if e := &c.Endpoints[i]; e.Network == at.Network && e.IfName == at.IfName {
				was := at.Asked()
				e.IPv4, e.IPv6, e.Aliases, e.Links, e.DriverOpts = was.IPv4, was.IPv6, was.Aliases, was.Links, was.DriverOpts
			}
		}
	}
}
