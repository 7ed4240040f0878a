package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dcni/pkg/cni"
	"dcni/pkg/mode/bridge"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
	"dcni/pkg/records"
	"dcni/pkg/records/disk"
	"dcni/pkg/records/registry"
	"dcni/pkg/wire"
)

// createFlags are the flags whose values have to be converted to options of a
// network.
type createFlags struct {
	driverOptions, ipamOptions, aux, labels []string
	ranges                                  []net.IPNet
	gateways                                []net.IP
	ipv4, ipv6                              bool
	swarm                                   swarmFlags
}

// swarmFlags are the flags that Docker has for swarms.
type swarmFlags struct {
	scope               string
	configOnly, ingress bool
}

func newCreateCommand(a *app) *cobra.Command {
	var f createFlags
	o := &catalog.Options{}
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] NETWORK",
		Short: "Create a network",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Name = args[0]
			if cmd.Flag("ipv4").Changed {
				o.IPv4 = &f.ipv4
			}
			if cmd.Flag("ipv6").Changed {
				o.IPv6 = &f.ipv6
			}
			if err := f.fill(o); err != nil {
				return err
			}
			create := a.createNetwork
			if f.swarm.configOnly {
				create = a.createConfiguration
			}
			id, err := create(o)
			if err == nil {
				fmt.Fprintln(a.out(true), id)
			}
			return err
		},
		DisableFlagsInUseLine: true,
	}
	f.declare(cmd, o)
	return cmd
}

// declare declares Docker's flags. Flags with K=V values take commas as part of
// the value.
func (f *createFlags) declare(cmd *cobra.Command, o *catalog.Options) {
	flags := cmd.Flags()
	flags.StringVarP(&o.Driver, "driver", "d", "bridge", "Driver to manage the network: bridge, macvlan, ipvlan, overlay, or any CNI plugin's type")
	flags.StringArrayVarP(&f.driverOptions, "opt", "o", nil, "Set driver specific options")
	flags.StringArrayVar(&f.labels, "label", nil, "Set metadata on a network")
	flags.BoolVar(&o.Internal, "internal", false, "Restrict external access to the network")
	flags.BoolVar(&f.ipv4, "ipv4", true, "Enable or disable IPv4 address assignment")
	flags.BoolVar(&f.ipv6, "ipv6", false, "Enable or disable IPv6 address assignment")
	flags.BoolVar(&o.Attachable, "attachable", false, "Accepted: every network is")
	flags.StringSliceVar(&o.Subnets, "subnet", nil, "Subnet in CIDR format that represents a network segment")
	flags.IPNetSliceVar(&f.ranges, "ip-range", nil, "Allocate container IP from a sub-range")
	flags.IPSliceVar(&f.gateways, "gateway", nil, "IPv4 or IPv6 gateway for the subnet")
	flags.StringArrayVar(&f.aux, "aux-address", nil, "Auxiliary IPv4 or IPv6 addresses, NAME=ADDRESS: given to no container")
	flags.StringVar(&o.IPAMDriver, "ipam-driver", "default", "IP address management driver: default, null, or any CNI IPAM plugin's type")
	flags.StringArrayVar(&f.ipamOptions, "ipam-opt", nil, "Set IPAM options: allocation=lowest, sticky=true; of another IPAM plugin its keys")
	flags.StringVar(&f.swarm.scope, "scope", "", "Accepted: local, of overlay networks global")
	flags.BoolVar(&f.swarm.ingress, "ingress", false, "Refused: there is no swarm")
	flags.BoolVar(&f.swarm.configOnly, "config-only", false, "Create a configuration only network")
	flags.StringVar(&o.ConfigFrom, "config-from", "", "The network from which to copy the configuration")
}

// fill puts the flags' values into the options.
func (f *createFlags) fill(o *catalog.Options) error {
	if err := f.swarm.check(o.Driver); err != nil {
		return err
	}
	for _, label := range f.labels {
		key, _, _ := strings.Cut(label, "=")
		switch trimmed := strings.TrimLeft(key, " \t"); {
		case trimmed == "":
			return fmt.Errorf("invalid label '%s': empty name", label)
		case strings.ContainsAny(trimmed, " \t"):
			return fmt.Errorf("label '%s' contains whitespaces", trimmed)
		}
	}
	o.Labels, o.DriverOptions, o.IPAMOptions, o.Aux = pairs(f.labels), pairs(f.driverOptions), pairs(f.ipamOptions), pairs(f.aux)
	for _, word := range f.aux {
		if name, address, _ := strings.Cut(word, "="); name == "" || address == "" {
			return fmt.Errorf("invalid auxiliary address %s: must be NAME=ADDRESS, as host=10.1.0.5", word)
		}
	}
	for _, r := range f.ranges {
		ip, _ := netip.AddrFromSlice(r.IP)
		bits, _ := r.Mask.Size()
		o.Ranges = append(o.Ranges, netip.PrefixFrom(ip, bits))
	}
	for _, g := range f.gateways {
		ip, _ := netip.AddrFromSlice(g)
		o.Gateways = append(o.Gateways, ip.Unmap())
	}
	return nil
}

// check refuses flags that dnet can't honour.
func (s swarmFlags) check(driver string) error {
	scope := catalog.ScopeOf(driver)
	switch {
	case s.scope != "" && s.scope != scope:
		return fmt.Errorf("--scope %s: must be %s: there is no swarm", s.scope, scope)
	case s.ingress:
		return fmt.Errorf("--ingress: there is no swarm that it could route for")
	case s.scope != "" && s.configOnly:
		return fmt.Errorf("--scope: must not be given with --config-only")
	}
	return nil
}

// pairs reads K=V words. The last one of a key counts.
func pairs(words []string) map[string]string {
	out := map[string]string{}
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		out[key] = value
	}
	return out
}

// createNetwork creates a network, of this host or of the cluster, and returns its ID.
func (a *app) createNetwork(o *catalog.Options) (id string, err error) {
	a.waiting("creating network %s", o.Name)
	unlock, err := a.configureFrom(o)
	if err != nil {
		return "", err
	}
	defer unlock()
	create := a.create
	if o.Driver == overlayDriver {
		create = a.createOverlay
	}
	if err := create(o); err != nil {
		return "", err
	}
	if lower := strings.ToLower(o.Name); lower != o.Name && hasNomad() {
		a.warn("network %s: Nomad's jobs can't name it: its client looks for cni/%s, in lower case", o.Name, lower)
	}
	return network.ID(o.Name), nil
}

// hasNomad reports whether Nomad is on this host, which puts the mode of a job's network into lower
// case (client/allocrunner/network_manager_linux.go).
func hasNomad() bool {
	_, err := exec.LookPath("nomad")
	return err == nil
}

// create creates a network: it chooses and registers the subnets, and writes the
// file. The kernel's objects are made when the first container is attached.
func (a *app) create(o *catalog.Options) error {
	draft, err := a.draft(o)
	if err != nil {
		return network.Refused(network.InvalidParameter, err)
	}
	m, err := a.openHost(a.store)
	if err != nil {
		return err
	}
	defer m.Close()
	for _, object := range draft.Probes() {
		if err := m.Probe(object); err != nil {
			return err
		}
	}
	if err := a.parentFree(draft.Description); err != nil {
		return err
	}
	lock, err := a.store.LockNetwork(o.Name)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := a.removeLeftovers(m, o.Name); err != nil {
		return err
	}
	c := creation{app: a, draft: draft, name: o.Name, registry: registry.Of(a.store, "")}
	if err := c.run(m); err != nil {
		return err
	}
	if err := a.showDocker(m, o.Name); err != nil {
		a.warn("network %s: dockerd does not see its subnet until a container is on it: %v", o.Name, err)
	}
	return nil
}

// dockerBridge is the link by which a Docker engine on this host is known.
const dockerBridge = "docker0"

// showDocker makes a new network's bridge with its addresses where a Docker engine is on the host:
// that knows the routes of the host, and would else give the subnet to one of its own networks. The
// caller holds the network's lock.
func (a *app) showDocker(m machine, name string) error {
	if m.Check(&wire.Up{Dev: dockerBridge}) != nil {
		return nil //nolint:nilerr // no engine is here
	}
	list, _, err := a.readNetworks()
	if err != nil {
		return err
	}
	n, err := find(list, name)
	if err != nil || n.Main == nil {
		return err // another suite's plugin makes it
	}
	conf, err := network.Named(n.Name, n.Plugins[0])
	if err != nil {
		return err
	}
	mode, err := n.Main.Parse(conf)
	if err != nil {
		return err
	}
	f, err := n.Facts(a.registered(n))
	if bridge, is := mode.(*bridge.Bridge); is && err == nil {
		_, err = wire.Ensure(m, bridge.Seen(f.Subnets))
	}
	return err
}

// createConfiguration creates a configuration network, and returns its ID.
func (a *app) createConfiguration(o *catalog.Options) (id string, err error) {
	c, err := o.Configuration()
	if err != nil {
		return "", network.Refused(network.Forbidden, err)
	}
	a.waiting("creating configuration network %s", o.Name)
	lock, err := a.store.LockNetwork(o.Name)
	if err != nil {
		return "", err
	}
	defer lock.Unlock()
	if err := a.nameFree(o.Name); err != nil {
		return "", err
	}
	data, err := c.Encode()
	if err != nil {
		return "", err
	}
	return network.ID(o.Name), a.conf.WriteConfiguration(o.Name, data)
}

// configureFrom gives a network what the configuration network of --config-from says, and holds
// that one's lock: until unlock it can't be removed.
func (a *app) configureFrom(o *catalog.Options) (unlock func(), err error) {
	if o.ConfigFrom == "" {
		return func() {}, nil
	}
	n, err := a.configuration(o.ConfigFrom)
	if err != nil {
		return nil, err
	}
	if n.Name == o.Name { // whose lock is that of the configuration network
		return nil, alreadyExists(o.Name)
	}
	lock, err := a.store.LockNetwork(n.Name)
	if err != nil {
		return nil, err
	}
	if n, err = a.configuration(o.ConfigFrom); err == nil { // it may be gone, or another
		err = network.Refused(network.Forbidden, n.Configuration.Configure(o))
	}
	if err != nil {
		lock.Unlock()
		return nil, err
	}
	return lock.Unlock, nil
}

// configuration finds a configuration network.
func (a *app) configuration(word string) (Network, error) {
	list, _, err := a.configurations()
	if err != nil {
		return Network{}, err
	}
	n, err := find(list, word)
	if err != nil {
		return n, network.Refuse(network.NotFound, "configuration network %q not found: create it with --config-only", word)
	}
	return n, nil
}

// nameFree refuses the name of a network that is there.
func (a *app) nameFree(name string) error {
	list, _, err := a.readNetworks()
	if err != nil {
		return err
	}
	configurations, _, err := a.configurations()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(append(list, configurations...), func(n Network) bool { return n.Name == name }) {
		return alreadyExists(name)
	}
	return nil
}

// parentFree tells why a network can't have its parent: one that is configured has it,
// and can't share it.
func (a *app) parentFree(d network.Description) error {
	if d.Parent == nil {
		return nil
	}
	list, _, err := a.readNetworks()
	if err != nil {
		return err
	}
	for _, n := range list {
		f, err := n.Facts(nil)
		if err != nil || f.Parent == nil || n.Name == d.Name {
			continue // one that can't be read has no container either
		}
		if err := d.Parent.Beside(n.Name, *f.Parent); err != nil {
			return err
		}
	}
	return nil
}

// removeLeftovers removes what a killed `dnet rm` left of a network of that name.
// The caller holds the network's lock.
func (a *app) removeLeftovers(m machine, name string) error {
	if err := a.nameFree(name); err != nil {
		return err
	}
	attached, err := a.store.List(name)
	if err != nil {
		return err
	}
	if len(attached) > 0 {
		return fmt.Errorf("%w: no file in %s configures it, but it has active endpoints (%s)", alreadyExists(name), a.conf, endpointList(attached))
	}
	known, err := registry.Of(a.store, "").Get(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) || disk.IsUnreadable(err): // creating it sees to what can't be read
		return nil
	case err != nil:
		return err
	case configuredElsewhere(known):
		return fmt.Errorf("%w: %s", alreadyExists(name), known.Conf)
	}
	return a.dismantle(m, &removal{name: name, link: known.Bridge, removers: removers()})
}

func alreadyExists(name string) error {
	return network.Refuse(network.Conflict, "network with name %s already exists", name)
}

// A creation is a network being created.
type creation struct {
	*app
	draft    *catalog.Draft
	name     string
	registry registry.Registry
	others   []Network
	facts    []catalog.Facts // of the others
}

// run registers and writes the network.
func (c *creation) run(facts cni.Facts) error {
	reg := cni.Register(c.draft.Description, facts)
	reg.WantPool, reg.WantULA = c.draft.WantPool, c.draft.WantULA
	avoid := reg.Avoid
	reg.Avoid = func() ([]netip.Prefix, error) {
		list, err := avoid()
		return append(list, c.configured()...), err
	}
	return c.registry.Create(reg, c.conf.Path(c.name),
		func() error { return c.check(reg) },
		func(n registry.Network) error {
			data, err := c.draft.Conflist(n.Subnets)
			if err != nil {
				return err
			}
			return c.conf.Write(c.name, data)
		})
}

// check compares the network with all others. The registry is locked, so none is
// added at the same time.
func (c *creation) check(reg registry.Registration) error {
	files, err := c.conf.List()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(files, func(f records.ConfFile) bool { return f.Path == c.conf.Path(c.name) }) {
		return fmt.Errorf("%w: %s", alreadyExists(c.name), c.conf.Path(c.name))
	}
	if c.others, _, err = c.readNetworks(); err != nil {
		return err
	}
	for _, other := range c.others {
		if other.Name == c.name {
			return alreadyExists(c.name)
		}
		f, err := other.Facts(nil)
		if err != nil {
			f = catalog.Facts{} // no container can be attached to it
		}
		c.facts = append(c.facts, f)
		if err := c.conflict(other, f); err != nil {
			return err
		}
	}
	return c.registered(reg)
}

// conflict returns an error if another network's file has a subnet or the link
// of this one.
func (c *creation) conflict(other Network, f catalog.Facts) error {
	for _, s := range f.Subnets {
		for _, own := range c.draft.IPAM.Own.Subnets {
			onLAN := f.Parent != nil && c.draft.Parent != nil && own.Prefix == s.Prefix
			if own.Prefix.Overlaps(s.Prefix) && !(onLAN && !own.Range.Overlaps(s.Range)) {
				return catalog.Overlap(own.Prefix, c.name, s.Prefix, other.Name)
			}
		}
	}
	if f.Link == c.draft.Link && f.Link != "" {
		return c.sameLink(other.Name)
	}
	return nil
}

func (c *creation) sameLink(other string) error {
	link := c.draft.Link
	return network.Refuse(network.Forbidden, "cannot create network %s (%s): conflicts with network %s (%s): networks have same bridge name",
		network.ID(c.name), link, network.ID(other), link)
}

// registered looks for the link among networks that no file here configures.
func (c *creation) registered(reg registry.Registration) error {
	list, err := c.registry.List()
	if err != nil {
		return err
	}
	for _, n := range list {
		if n.Name != c.name && n.Bridge == reg.Bridge && n.Bridge != "" && reg.Alive(n) {
			return c.sameLink(n.Name)
		}
	}
	return nil
}

// configured returns the subnets of the others' files. A network that was never
// used is in no registry.
func (c *creation) configured() []netip.Prefix {
	var list []netip.Prefix
	for _, f := range c.facts {
		for _, s := range f.Subnets {
			list = append(list, s.Prefix)
		}
	}
	return list
}
