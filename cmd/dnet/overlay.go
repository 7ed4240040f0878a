package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"dcni/pkg/cluster"
	"dcni/pkg/firewall"
	"dcni/pkg/ipam"
	"dcni/pkg/mode"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
	"dcni/pkg/overlay"
	"dcni/pkg/overlay/remote"
	"dcni/pkg/records"
	"dcni/pkg/service"
)

// overlayDriver is Docker's driver of networks that span hosts. They are the cluster's:
// dclusterd writes their files, on every node.
const overlayDriver = "overlay"

// optionVNI is Docker's option for a network's VNIs, of which one is taken.
const optionVNI = "com.docker.network.driver.overlay.vxlanid_list"

// overlayTimeout is how long dnet waits for the store.
const overlayTimeout = 30 * time.Second

// openCluster returns the cluster of this host, as dclusterd has it open.
func (a *app) openCluster(ctx context.Context) (*remote.Client, overlay.Cluster, error) {
	client, err := a.dialCluster(false)
	if err != nil {
		return nil, overlay.Cluster{}, err
	}
	self, err := client.Self(ctx)
	if err == nil && self.Node == "" {
		_, err = client.Get(ctx, "") // which says why this host is no node
	}
	if err != nil {
		_ = client.Close()
		return nil, overlay.Cluster{}, err
	}
	return client, overlay.Cluster{Store: client, Keys: overlay.Keys{Prefix: self.Prefix}, Node: self.Node, Now: func() int64 { return time.Now().Unix() }, Warn: a.passedOver}, nil
}

// passedOver warns of what can't be read in the cluster's store.
func (a *app) passedOver(err error) { a.warn("passed over, as it can't be read: %v", err) }

// createOverlay creates a network of the cluster. It returns once this node's file of it is
// there.
func (a *app) createOverlay(o *catalog.Options) error {
	a.waiting("creating network %s on the cluster", o.Name)
	want, err := wantedOverlay(o)
	if err != nil {
		return network.Refused(network.InvalidParameter, err)
	}
	if err := a.overlayFree(&want); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), overlayTimeout)
	defer cancel()
	client, c, err := a.openCluster(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	if _, err = c.CreateNetwork(ctx, want); err != nil {
		return err
	}
	if err := client.Admin(ctx, cluster.Sync, nil, nil); err != nil {
		return fmt.Errorf("network %s was made, and this node's file of it was not: %w", o.Name, err)
	}
	return nil
}

// wantedOverlay reads what `docker network create -d overlay` takes.
func wantedOverlay(o *catalog.Options) (overlay.Wanted, error) {
	w := overlay.Wanted{Name: o.Name, IPv6: o.IPv6 != nil && *o.IPv6, NoIPv4: o.IPv4 != nil && !*o.IPv4}
	w.Internal, w.Attachable, w.Labels, w.Made = o.Internal, o.Attachable, o.Labels, time.Now().UTC().Format(time.RFC3339)
	if catalog.Predefined(o.Name) {
		return w, network.Refuse(network.Forbidden, "operation is not permitted on predefined %s network", o.Name)
	}
	if o.IPAMDriver != "default" || len(o.IPAMOptions) > 0 {
		return w, errors.New("--ipam-driver, --ipam-opt: the addresses of an overlay network are the cluster's")
	}
	given, err := o.RawSubnets()
	if err != nil {
		return w, err
	}
	// CreateNetwork chooses gateways that are not given, where the network has any.
	cfg, err := ipam.Raw{Subnets: given, Ungated: ipam.Ungated{IPv4: true, IPv6: true}}.Config()
	if err != nil {
		return w, err
	}
	for _, s := range cfg.Subnets {
		w.Subnets = append(w.Subnets, overlay.Subnet{Prefix: s.Prefix, Range: s.Range, Gateway: s.Gateway, Aux: s.Aux})
	}
	return w, overlayOptions(&w, o.DriverOptions)
}

// overlayOptions reads -o. What are keys of a network in the store goes there; other
// options of Docker's go into the network's file as they are, and are checked as that is.
func overlayOptions(w *overlay.Wanted, options map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(options)) {
		value := options[name]
		var err error
		switch name {
		case "encrypted":
			w.Encrypted, err = flag(value)
		case "flood":
			w.Flood, err = flag(value)
		case "nodeAddresses":
			w.NodeAddresses, err = flag(value)
		case "antiSpoof":
			var on bool
			if on, err = flag(value); on {
				setOption(w, name, "true")
			}
		case "com.docker.network.driver.mtu":
			w.MTU, err = strconv.Atoi(value)
		case optionVNI:
			if w.VNI, err = strconv.Atoi(value); err != nil {
				return fmt.Errorf("%s %q: must be one number, %d to %d: a network has one VNI", name, value, overlay.MinVNI, overlay.MaxVNI)
			}
		case "firewall":
			setOption(w, name, value)
		default:
			if err := overlayOption(name); err != nil {
				return err
			}
			setOption(w, name, value)
		}
		if err != nil {
			return fmt.Errorf("failed to parse %s value: %s (%w)", name, value, err)
		}
	}
	if err := roomForNodes(*w); err != nil {
		return err
	}
	return checkOverlayFile(w)
}

// setOption puts an option into the network's file.
func setOption(w *overlay.Wanted, name, value string) {
	if w.Options == nil {
		w.Options = map[string]string{}
	}
	w.Options[name] = value
}

// roomForNodes refuses subnets that a gateway and one node's address leave no address in.
func roomForNodes(w overlay.Wanted) error {
	const most4, most6 = 29, 126 // bits of the smallest that do
	for _, s := range w.Subnets {
		most := most4
		if s.Prefix.Addr().Is6() {
			most = most6
		}
		if w.NodeAddresses && s.Prefix.Bits() > most {
			return fmt.Errorf("nodeAddresses: subnet %s has no room for a gateway, a node's address and a container: must be a /%d or larger", s.Prefix, most)
		}
	}
	return nil
}

// overlayOption says what is meant where an option is neither the cluster's nor one of
// Docker's for bridges.
func overlayOption(name string) error {
	near := network.Nearest(name, []string{"antiSpoof", "encrypted", "firewall", "flood", "nodeAddresses"})
	if strings.HasPrefix(name, "com.docker.network.driver.overlay.") {
		near = optionVNI
	}
	switch {
	case near != "":
		return fmt.Errorf("unknown option %q: is %q meant?", name, near)
	case !strings.HasPrefix(name, "com.docker.network."):
		return fmt.Errorf("unknown option %q: known are antiSpoof, encrypted, firewall, flood, nodeAddresses, %s, and com.docker.network... of a bridge network", name, optionVNI)
	}
	return nil
}

// flag reads an option that is true by being there.
func flag(value string) (bool, error) {
	if value == "" {
		return true, nil
	}
	return strconv.ParseBool(value)
}

// checkOverlayFile has the plugin read the file that the network is going to have, and
// notes of which families it is going to have no gateways.
func checkOverlayFile(want *overlay.Wanted) error {
	w := *want
	w.VNI = cmp.Or(w.VNI, overlay.MinVNI) // some VNI is chosen
	w.MTU = 0                             // CreateNetwork knows what fits
	data, err := overlay.Existing{Name: w.Name, Generation: 1, Network: w.Network}.Conflist()
	if err != nil {
		return err
	}
	c, err := catalog.ParseConflist(data, mode.All)
	if err != nil {
		return err
	}
	d, err := c.Main.Describe(c.Name, c.Plugins[0])
	want.Ungated = d.IPAM.Own.Ungated()
	return err
}

// overlayFree looks for networks of this host that are in the way, and notes what a
// subnet that is chosen must not overlap.
func (a *app) overlayFree(w *overlay.Wanted) error {
	if err := a.nameFree(w.Name); err != nil {
		return err
	}
	list, _, err := a.readNetworks()
	if err != nil {
		return err
	}
	for _, n := range list {
		f, err := n.Facts(a.registered(n))
		if err != nil {
			continue // one that can't be read has no container either
		}
		for _, s := range f.Subnets {
			w.Avoid = append(w.Avoid, s.Prefix)
			for _, own := range w.Subnets {
				if own.Prefix.Overlaps(s.Prefix) {
					return catalog.Overlap(own.Prefix, w.Name, s.Prefix, n.Name)
				}
			}
		}
	}
	m, err := a.openHost(a.store)
	if err != nil {
		return err
	}
	defer m.Close()
	routes, err := m.Routes()
	w.Avoid = append(w.Avoid, ipam.Avoid(routes, m.Nameservers(), nil)...)
	return err
}

// isOverlay reports whether a network's file is the cluster's. One that was written by
// hand is not.
func isOverlay(conf []byte) bool {
	_, _, written := overlay.WrittenFor(conf)
	return written
}

// removeOverlay removes a network from the cluster, on all nodes. The error names
// endpoints and nodes where there are any.
func (a *app) removeOverlay(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), overlayTimeout)
	defer cancel()
	client, c, err := a.openCluster(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	err = c.RemoveNetwork(ctx, name)
	if err != nil && !errors.Is(err, overlay.ErrNotFound) { // another node was faster
		return err
	}
	return client.Admin(ctx, cluster.Sync, nil, nil)
}

// peers lists the nodes that have containers or addresses of their own on a network, by name.
func (a *app) peers(name string) ([]catalog.InspectedPeer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	client, c, err := a.openCluster(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }()
	nodes, err := c.Nodes(ctx)
	if _, unread := errors.AsType[*overlay.UnreadableError](err); err != nil && !unread {
		return nil, err
	}
	endpoints, err := c.Endpoints(ctx, name)
	if err != nil {
		return nil, err
	}
	var list []catalog.InspectedPeer
	for _, e := range endpoints { // by node
		if len(list) == 0 || list[len(list)-1].Name != e.Node {
			list = append(list, catalog.InspectedPeer{Name: e.Node, IP: nodes[e.Node].Address})
		}
		if e.OfNode() {
			list[len(list)-1].Addresses = e.Addresses
		}
	}
	return list, nil
}

// endpointsOfAllNodes lists what all nodes have on a network, by node.
func (a *app) endpointsOfAllNodes(name string) (list []catalog.InspectedRemote, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	client, c, err := a.openCluster(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }()
	endpoints, err := c.Endpoints(ctx, name)
	for _, e := range endpoints {
		if e.OfNode() {
			continue
		}
		if e.OfIngress() {
			e.Container, e.Name = service.IngressNames(name)
		}
		list = append(list, catalog.InspectedRemote{Node: e.Node, Container: e.Container, Name: e.Name, Addresses: e.Addresses})
	}
	return list, err
}

// createOverlayService makes a service of a cluster's network.
func (a *app) createOverlayService(s service.Service) error {
	ctx, cancel := context.WithTimeout(context.Background(), overlayTimeout)
	defer cancel()
	client, c, err := a.openCluster(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	endpoints, err := c.Endpoints(ctx, s.Network)
	if err != nil {
		return err
	}
	for _, e := range endpoints {
		if err := hides(s, e.Name, e.Container); err != nil && !e.OfNode() {
			return err
		}
	}
	made, err := c.CreateService(ctx, overlay.Service{Service: s, Made: time.Now().UTC().Format(time.RFC3339)})
	if err != nil {
		return err
	}
	if why := notPublished(ctx, client, made.Service); why != "" {
		a.warn("service %s: its ports are not published on this node, which tries again: %s", s.Name, why)
	}
	if err := a.publishSoon(made.Service); err != nil {
		return errors.Join(err, c.RemoveService(ctx, s.Network, s.Name))
	}
	fmt.Fprintln(a.out(true), s.Name)
	return nil
}

// notPublished has this node on the network of a service whose ports all nodes publish, and tells why it can't be; "" where it can.
func notPublished(ctx context.Context, client *remote.Client, s service.Service) string {
	if !s.PublishesEverywhere() {
		return ""
	}
	var refused map[string]string
	if err := client.Admin(ctx, cluster.Publish, nil, &refused); err != nil {
		return err.Error()
	}
	return refused[s.Network]
}

// publishSoon takes a new service's ports on this node. What a service has that was removed just now, this
// node's dnetd gives back when it hears of that: the cluster has a port for one service only.
func (a *app) publishSoon(s service.Service) error {
	const hears, step = 5 * time.Second, 50 * time.Millisecond
	for began := time.Now(); ; time.Sleep(step) {
		err := a.publishHere(s)
		refused, is := errors.AsType[*firewall.RefusedError](err)
		if !is || !refused.ByServices() || time.Since(began) > hears {
			return err
		}
	}
}

// publishHere takes a new service's ports on this node, all of them or none, if it has the network. On other
// nodes each does so by itself.
func (a *app) publishHere(s service.Service) error {
	if len(s.Ports) == 0 || !a.store.KnowsServices(s.Network) {
		return nil
	}
	lock, err := a.store.LockServices(s.Network)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	n, err := a.store.ServicesOf(s.Network)
	if err != nil {
		return err
	}
	m, err := a.openHost(a.store)
	if err != nil {
		return err
	}
	defer m.Close()
	n.Name = s.Network
	before := n
	if !slices.ContainsFunc(n.Services, func(o service.Service) bool { return o.Name == s.Name }) {
		n.Services = append(slices.Clone(n.Services), s)
	}
	refused, err := m.EnsureIngress(n)
	if refused = refused.Of(s.Claims()); err == nil && refused != nil {
		_, failed := m.EnsureIngress(before)
		return errors.Join(refused, failed)
	}
	return err
}

// removeOverlayService removes one. When it returns, this node has no names and no rules of it; others hear of it
// by themselves.
func (a *app) removeOverlayService(network, name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), overlayTimeout)
	defer cancel()
	client, c, err := a.openCluster(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	if err := c.RemoveService(ctx, network, name); err != nil {
		return err
	}
	_ = client.Admin(ctx, cluster.Publish, nil, nil) // dclusterd would do so by itself: it is to be done now
	const hears, step = 5 * time.Second, 10 * time.Millisecond
	for began := time.Now(); a.serves(network, name); time.Sleep(step) {
		if time.Since(began) > hears {
			a.warn("service %s is removed, but containers of this node still find it: dnetd has not heard of that from the cluster's store in %v", name, hears)
			return nil
		}
	}
	if a.store.KnowsServices(network) {
		a.spreadServices(network)
	}
	return nil
}

// serves reports whether dnetd has heard of a service of a cluster's network.
func (a *app) serves(network, name string) bool {
	p, err := a.store.ServedAlone(network)
	return err == nil && slices.ContainsFunc(p.Services, func(s service.Service) bool { return s.Name == name })
}

// notPublishedHere is notPublished where the cluster's store is to be opened.
func (a *app) notPublishedHere(s service.Service) string {
	ctx, cancel := context.WithTimeout(context.Background(), overlayTimeout)
	defer cancel()
	client, _, err := a.openCluster(ctx)
	if err != nil {
		return "" // it was said that the store is away
	}
	defer func() { _ = client.Close() }()
	return notPublished(ctx, client, s)
}

// overlayServices returns the services of the cluster's networks. Where its store is away, they
// are those of networks that this node has containers on, as it heard of them last, and an error.
func (a *app) overlayServices() ([]*listed, error) {
	if !a.store.Cluster().Joined() {
		return nil, nil
	}
	list, err := a.askServices()
	if err == nil {
		return list, nil
	}
	networks, unread := a.store.ServiceNetworks()
	for _, name := range networks {
		if !a.store.KnowsServices(name) {
			continue
		}
		n, e := a.store.ServicesOf(name)
		unread = errors.Join(unread, e)
		list = append(list, listedOf(n, nil)...)
	}
	return list, errors.Join(err, unread)
}

// askServices asks the store for them.
func (a *app) askServices() (list []*listed, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	client, c, err := a.openCluster(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }()
	networks, err := c.ServiceNetworks(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range networks {
		p, err := c.Serving(ctx, name)
		if err != nil {
			return nil, err
		}
		made := map[string]time.Time{}
		services, err := c.Services(ctx, name)
		if _, unread := errors.AsType[*overlay.UnreadableError](err); err != nil && !unread { // Serving has warned of that
			return nil, err
		}
		for _, v := range services {
			made[v.Name], _ = time.Parse(time.RFC3339, v.Made)
		}
		list = append(list, listedOf(p.Network, made)...)
	}
	return list, nil
}

// listedOf lists the services of a cluster's network, which were made at these times.
func listedOf(n service.Network, made map[string]time.Time) (list []*listed) {
	for _, s := range n.Services {
		list = append(list, &listed{Service: &records.Service{Service: s, Created: made[s.Name]}, tasks: n.Tasks(s), ofCluster: true})
	}
	return list
}

// drainOverlay drains tasks of the cluster's networks, on whichever node they are.
func (a *app) drainOverlay(tasks []service.Task, drained bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	client, c, err := a.openCluster(ctx)
	if err == nil {
		defer func() { _ = client.Close() }()
	}
	for _, t := range tasks {
		if err != nil {
			break
		}
		o := overlay.Owner{Node: cmp.Or(t.Node, c.Node), Attachment: overlay.AttachmentKey(t.Owner)}
		err = c.ChangeTask(ctx, t.Owner.Network, o, func(ep *overlay.Endpoint) bool {
			changed := ep.Drained != drained
			ep.Drained = drained
			return changed
		})
		if errors.Is(err, overlay.ErrNotFound) {
			err = nil // it has gone
		}
	}
	if err != nil {
		return fmt.Errorf("tasks of a cluster's networks stay as they are: %w", err)
	}
	return nil
}

// drainUnless drains the node that a word names. Where there is none it returns missing.
func (a *app) drainUnless(word string, drained bool, missing error) error {
	if !a.store.Cluster().Joined() {
		return missing
	}
	err := a.drainNode(word, drained)
	if errors.Is(err, overlay.ErrNotFound) {
		return fmt.Errorf("%w, nor a node of that name", missing)
	}
	return err
}

// drainNode drains all tasks of a node, also those that come later.
func (a *app) drainNode(word string, drained bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	client, c, err := a.openCluster(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	return c.DrainNode(ctx, word, drained)
}
