package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/spf13/cobra"

	"dcni/pkg/cni"
	"dcni/pkg/container"
	"dcni/pkg/firewall"
	"dcni/pkg/host"
	"dcni/pkg/mode"
	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// connectOptions are the flags of `dnet connect`.
type connectOptions struct {
	ip, ip6, mac, priority, netns string
	aliases, links, driverOpts    []string
	linkLocal                     []string
}

func newConnectCommand(a *app) *cobra.Command {
	o := &connectOptions{}
	cmd := &cobra.Command{
		Use:   "connect [OPTIONS] NETWORK CONTAINER",
		Short: "Connect a container to a network, whichever runtime's it is",
		Example: `  dnet connect lab shop
  dnet connect --ip 10.20.0.9 --alias db lab 3f2a
  dnet connect --link postgres:db lab shop
  dnet connect --netns /run/netns/c1 lab`,
		DisableFlagsInUseLine: true,
		Args:                  o.args,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.connect(o, args[0], strings.Join(args[1:], ""))
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.ip, "ip", "", `IPv4 address (e.g., "172.30.100.104")`)
	f.StringVar(&o.ip6, "ip6", "", `IPv6 address (e.g., "2001:db8::33")`)
	f.StringVar(&o.mac, "mac-address", "", "MAC address of the container on the network (e.g., 92:d0:c6:0a:29:33)")
	f.StringArrayVar(&o.aliases, "alias", nil, "Add network-scoped alias for the container")
	f.StringArrayVar(&o.links, "link", nil, "Add link to another container")
	f.StringArrayVar(&o.linkLocal, "link-local-ip", nil, "Refused: an interface has one link-local address of each family")
	f.StringArrayVar(&o.driverOpts, "driver-opt", nil, "driver options for the network")
	f.StringVar(&o.priority, "gw-priority", "", "Highest gw-priority provides the default gateway. Accepts positive and negative values.")
	f.StringVar(&o.netns, "netns", "", "Path of the container's network namespace; CONTAINER is then its name, if it has none yet, or left out")
	return cmd
}

// args wants a network and a container; with --netns the container may be left out.
func (o *connectOptions) args(cmd *cobra.Command, args []string) error {
	if o.netns != "" && len(args) == 1 {
		return nil
	}
	return exactly(2)(cmd, args)
}

// network reads the flags.
func (o *connectOptions) network(name string) (container.Network, error) {
	n := container.Network{Name: name, Aliases: o.aliases}
	var err error
	if len(o.linkLocal) > 0 {
		err = fmt.Errorf("--link-local-ip %s: is not supported: leave it out, IPv6 has such an address by itself", o.linkLocal[0])
	}
	if err == nil && o.ip != "" {
		n.IPv4, err = container.ParseIP(o.ip, false)
	}
	if err == nil && o.ip6 != "" {
		n.IPv6, err = container.ParseIP(o.ip6, true)
	}
	if err == nil && o.mac != "" {
		n.MAC, err = container.ParseMAC(o.mac)
	}
	for _, text := range o.links {
		if err == nil {
			var l names.Link
			l, err = names.ParseLink(text)
			n.Links = append(n.Links, l)
		}
	}
	if err == nil && o.priority != "" {
		n.GwPriority, err = container.ParseGwPriority(o.priority)
	}
	for _, opt := range o.driverOpts {
		if err == nil {
			err = n.SetDriverOpt(opt)
		}
	}
	return n, err
}

// connect reads the flags, and attaches a running container to one more network.
func (a *app) connect(o *connectOptions, word, name string) error {
	n, err := o.network(word)
	if err != nil {
		return &statusErr{statusUsage, err}
	}
	return a.connectNetwork(n, name, o.netns)
}

// connectNetwork attaches to one more network the container that a word means, or that whose
// network namespace is at a path. One of dnet's that has ended is attached when it is started.
func (a *app) connectNetwork(n container.Network, name, netns string) error {
	a.heal()
	m, err := a.openHost(a.store)
	if err != nil {
		return err
	}
	defer m.Close()
	return a.runningOrStopped("connect", func() error { return a.connectRunning(m, n, name, netns) },
		func(c *records.Container) (bool, error) { return a.connectStopped(c, n) })
}

// runningOrStopped does the one thing for a container that runs, and the other for one of dnet's
// that has ended. It may be started or end between the two.
func (a *app) runningOrStopped(verb string, running func() error, stopped func(*records.Container) (done bool, err error)) error {
	for {
		err := running()
		if err == nil {
			return nil
		}
		c, err := a.stopped(err)
		if err != nil {
			return notRunning(verb, err)
		}
		if done, err := stopped(c); done || err != nil {
			return err
		}
	}
}

// connectRunning attaches a running container to one more network.
func (a *app) connectRunning(m machine, n container.Network, name, netns string) error {
	t, err := a.findTarget(m, name, netns) // Docker looks for the container first
	if err != nil {
		return err
	}
	if err := a.connectLocked(m, t, n, netns); err != nil {
		return err
	}
	if isNamed(n.Name)(defaultNetwork) {
		a.followAllLinks() // of those that link to it
	}
	return nil
}

// connectLocked attaches a container under its lock of connections.
func (a *app) connectLocked(m machine, t *target, n container.Network, netns string) error {
	a.waiting("connecting container %s to network %s", t.Title(), n.Name)
	lock, err := a.store.LockConnections(t.Container)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	// Another connect may have come first, or the container's end.
	if t, err = a.findTarget(m, t.Container, t.again(netns)); err != nil {
		return err
	}
	request, err := a.connectRequest(t, n)
	if err != nil {
		return err
	}
	return a.connectTo(t, request)
}

// again returns the path by which a container is found again that only its namespace tells.
func (t *target) again(path string) string {
	if len(t.Namespaces) == 0 {
		return t.path
	}
	return path
}

// notRunning says what to do with a container that does not run: there is nothing yet that
// could be connected.
func notRunning(verb string, err error) error {
	stopped, is := errors.AsType[*network.NotRunningError](err)
	if !is {
		return err
	}
	return fmt.Errorf("cannot %s a container that does not run: %w; start it first", verb, stopped)
}

// connectRequest finds a network, and checks that the container can be connected to it.
func (a *app) connectRequest(t *target, n container.Network) (*networkRequest, error) {
	known, err := a.networks()
	if err != nil {
		return nil, err
	}
	list, err := find(known, n.Name)
	if err != nil {
		return nil, a.noEndpoints(n.Name, err)
	}
	n.Name = list.Name
	if err := t.checkOwnNamespace(); err != nil {
		return nil, err
	}
	if err := canConnect(t, list); err != nil {
		return nil, err
	}
	if err := container.CheckNetworks([]container.Network{n}); err != nil {
		return nil, network.Refused(network.InvalidParameter, err)
	}
	links, err := a.findLinks(t.machine, t.Title(), &n)
	if err != nil {
		return nil, network.Refused(network.InvalidParameter, err)
	}
	r := &networkRequest{Network: n, list: list, linked: links, exposed: t.exposed()}
	if err := errors.Join(r.read(), checkInstalled(list, a.pluginPath())); err != nil {
		return nil, err
	}
	a.addWantedServices(r, t.own)
	ports, _ := t.published()
	if len(ports) == 0 { // none of its networks publishes any
		ports = a.keptPorts(t)
	}
	if r.publishes() {
		r.publish(ports)
	}
	r.notGateway = t.notGatewayWith(r.candidate)
	return r, nil
}

// notGatewayWith returns the families in which a network that the container is connected to as well is not
// its gateway network.
func (t *target) notGatewayWith(c network.Candidate) []firewall.Family {
	list := []network.Candidate{c}
	for _, r := range records.Interfaces(t.records) {
		if r.State == records.Up {
			list = append(list, r.Candidate())
		}
	}
	return network.NotGateway(list, 0)
}

// keptPorts returns what a container published on the last network that did, or what one of dnet's
// was to publish.
func (a *app) keptPorts(t *target) []firewall.Port {
	switch {
	case t.own == nil:
		k, err := a.store.KeptPorts(t.Container)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			a.warn("container %s publishes no ports: %v", t.Title(), err)
		}
		if err != nil || k.Cookie != t.cookie { // or it is that of the container before it was started again
			return nil
		}
		return k.Ports
	case len(t.own.Kept) > 0:
		return t.own.Kept
	}
	return t.own.Ports
}

// publish has the network publish ports.
func (r *networkRequest) publish(ports []firewall.Port) {
	r.ports = nil
	for _, p := range ports {
		r.ports = append(r.ports, container.Publish{Port: p, Last: p.HostPort})
	}
}

// canConnect refuses what Docker refuses, in its words.
func canConnect(t *target, list Network) error {
	if _, is := t.on(list.Name); is {
		return network.Refuse(network.Forbidden, "endpoint with name %s already exists in network %s", t.Title(), list.Name)
	}
	var on []string
	for _, at := range t.Attachments {
		on = append(on, at.Network)
	}
	return canBeBeside(list, on)
}

// canBeBeside refuses a network that the container can't be on beside those that it is on.
func canBeBeside(list Network, on []string) error {
	switch {
	case list.Driver == "host":
		return network.Refuse(network.InvalidParameter, "cannot connect container to host network - container must be created in host network mode")
	case list.Driver == "null" && len(on) > 0, slices.Contains(on, "none"):
		return network.Refuse(network.InvalidParameter, "container cannot be connected to multiple networks with one of the networks in private (none) mode")
	}
	return nil
}

// publishes reports whether a network can have ports that the container has on another one:
// those of other suites would take them a second time.
func (r *networkRequest) publishes() bool {
	return (r.list.Driver == "bridge" || r.list.Driver == overlayDriver) && r.list.Main != nil && r.hasCapability("portMappings")
}

// connectTo attaches a container to a network. The caller holds the container's lock of
// connections.
func (a *app) connectTo(t *target, r *networkRequest) error {
	taken := t.hasLink
	if there, err := taken(r.IfName); r.IfName != "" && (err != nil || there) {
		return errors.Join(err, fmt.Errorf("interface name %q: container %s has an interface of that name", r.IfName, t.Title()))
	}
	ifNames, err := ifNames([]networkRequest{*r}, taken)
	if err != nil {
		return err
	}
	at, err := r.attachment(t.args(), ifNames[0], a.pluginPath())
	if err != nil {
		return err
	}
	if annotations := t.annotations(); annotations != nil {
		at.Values["io.kubernetes.cri.pod-annotations"] = annotations
	}
	list, err := libcni.NetworkConfFromBytes(at.Conf)
	if err != nil {
		return fmt.Errorf("network %s: %w", at.Network, err)
	}
	l := &records.Connection{
		Container: t.Container, Attachment: at, CNIVersion: list.CNIVersion, NetNS: t.path, Cookie: t.cookie, Moment: records.Now(),
	}
	if err := a.endFormer(t, at.Network); err != nil {
		return err
	}
	if err := a.store.PutConnection(l); err != nil {
		return err
	}
	if err := a.addConnection(t, l, r); err != nil {
		undone := a.undoConnection(t, l)
		if undone == nil && r.chooseAgain(t.own, container.Taken(err)) {
			return a.connectTo(t, r)
		}
		return errors.Join(err, undone, a.removeRemade(t.machine, err))
	}
	return a.connectLinks(t.own, r)
}

// chooseAgain has a port chosen once more whose number was not given but chosen, and which
// another container or program took while this container published nothing. It reports whether
// there is such a port.
func (r *networkRequest) chooseAgain(own *records.Container, taken uint16) bool {
	i := slices.IndexFunc(r.ports, func(p container.Publish) bool { return p.HostPort == taken })
	if taken == 0 || i < 0 || own == nil || slices.ContainsFunc(own.Ports, func(p firewall.Port) bool { return p.HostPort == taken }) {
		return false
	}
	r.ports[i].HostPort, r.ports[i].Last = 0, 0
	return true
}

// endFormer ends the connection to a network that the container had before it was started
// again, where that is on record still.
func (a *app) endFormer(t *target, network string) error {
	list, err := a.store.Connections(t.Container)
	for _, l := range list {
		if l.Network == network {
			err = errors.Join(err, a.connectionsOf(t.machine).Disconnect(l, ""))
		}
	}
	return err
}

// addConnection runs ADD, and records what came of it.
func (a *app) addConnection(t *target, l *records.Connection, r *networkRequest) error {
	result, err := a.add(a.store.ConnectionDir(t.Container), t.Container, l.Attachment, t.path)
	if err != nil {
		return err
	}
	var text strings.Builder
	if err := result.PrintTo(&text); err != nil {
		return err
	}
	if err := a.connectionsOf(t.machine).Rebind(t.Container, wire.Attachment{}, nil); err != nil {
		return err
	}
	if err := a.wantConnected(t.own, r.Network); err != nil { // first: what is up is connected again after a start
		return err
	}
	l.Up, l.Result = true, []byte(text.String())
	if err := errors.Join(a.store.PutConnection(l), a.stillThere(r.found)); err != nil {
		return err
	}
	latest, err := types100.NewResultFromResult(result)
	if err != nil || t.own == nil {
		return err
	}
	return a.connectFiles(t.own, latest)
}

// undoConnection removes what an ADD that failed has left.
func (a *app) undoConnection(t *target, l *records.Connection) error {
	c := a.connectionsOf(t.machine)
	err := errors.Join(c.Rebind(t.Container, l.Of(), nil), c.Disconnect(l, l.NetNS), a.unwantConnected(t.own, l.Network))
	if err != nil {
		return fmt.Errorf("it is undone by the next dnet: %w", err)
	}
	return nil
}

// connectionsOf returns what ends connections. What dnet's user named just now, as CNI_PATH,
// is trusted.
func (a *app) connectionsOf(m machine) *cni.Connections {
	c := cni.NewConnections(a.store, m)
	c.Log, c.Trusted = a.stderr, nil
	if a.stderr == nil {
		c.Log = os.Stderr
	}
	if h, is := m.(*host.Host); is {
		c.Engine = func(plugin string) *cni.Engine {
			if p := mode.Of(plugin); p != nil {
				return cni.NewEngine(p, a.store, h)
			}
			return nil
		}
	}
	return c
}
