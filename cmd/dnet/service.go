package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dcni/pkg/cni"
	"dcni/pkg/container"
	"dcni/pkg/firewall"
	"dcni/pkg/host/agent"
	"dcni/pkg/mode/bridge"
	overlaymode "dcni/pkg/mode/overlay"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
	"dcni/pkg/records"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

func newServiceCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "service COMMAND",
		Short: "Manage services: names with an address of their own, behind which are several containers",
		Args:  noCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newServiceCreateCommand(a), newServiceListCommand(a), newServicePsCommand(a), newServiceInspectCommand(a),
		newServiceRemoveCommand(a), newServiceDrainCommand(a),
		notOurs("scale SERVICE=N", "Say who starts tasks", func(service string) string {
			return "dcni starts no tasks: start them with your runtime under the alias " + service + ", as with dnet run --service " + service
		}),
		notOurs("update SERVICE", "Say who changes tasks", func(service string) string {
			return "dcni changes no tasks: start new ones with your runtime under the alias " + service + ", and drain the old ones with dnet service drain"
		}),
	)
	return cmd
}

// notOurs is a command of Docker's that is for another program to do. It says so.
func notOurs(use, short string, why func(service string) string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: atLeast(1), DisableFlagParsing: true, DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error {
			word, _, _ := strings.Cut(args[len(args)-1], "=")
			return errors.New(why(word))
		},
	}
}

func newServiceCreateCommand(a *app) *cobra.Command {
	var w service.Wish
	var on string
	var publish []string
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] SERVICE",
		Short: "Create a service on a network", Args: serviceName, DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error {
			ports, host, err := container.ServicePorts(publish)
			if err != nil {
				return err
			}
			w.Ports, w.Local = ports, w.Local || host
			if w.Name == "" {
				w.Name = args[0]
			}
			return a.createService(w, on)
		},
	}
	f := cmd.Flags()
	f.StringVar(&on, "network", "", "The network on which containers are its tasks, and find it")
	f.StringVar(&w.Name, "name", "", "The service's name, in place of SERVICE")
	f.StringVar(&w.Mode, "mode", service.VIP, "vip: the name is an address of its own; dnsrr: the addresses of tasks that are ready")
	f.StringVar(&w.Mode, "endpoint-mode", service.VIP, "")
	f.Lookup("endpoint-mode").Hidden = true // Docker's word
	f.StringArrayVar(&w.VIPs, "vip", nil, "The address of its own, at most one of each family (default: a free one)")
	f.StringVar(&w.Affinity, "affinity", service.NoAffinity, "client: all connections of a client go to one task; none: by turns")
	f.StringArrayVarP(&publish, "publish", "p", nil, "A port of the host that leads to its tasks: PUBLISHED:TARGET[/tcp|udp|sctp]")
	f.BoolVar(&w.Local, "local", false, "Published ports lead to tasks of the same node only")
	f.StringVar(&w.Health, "health", "", "How tasks are checked: tcp:PORT or http:PORT/PATH (default: they are ready at once)")
	return cmd
}

// serviceName wants one name: as the argument, or by --name as Docker has it. Docker's argument would be an
// image, of which dcni starts nothing.
func serviceName(cmd *cobra.Command, args []string) error {
	name := cmd.Flags().Lookup("name")
	switch {
	case !name.Changed:
		return exactly(1)(cmd, args)
	case len(args) > 0:
		return fmt.Errorf("--name %s and %s: give one name: dcni starts no tasks, so a service has no image and no command", name.Value, args[0])
	case name.Value.String() == "":
		return errors.New("--name \"\": must not be empty")
	}
	return nil
}

// createService makes a service. It is on disk last, so that one that was killed is none.
func (a *app) createService(w service.Wish, on string) error {
	s, err := w.Parse()
	if err != nil {
		return err
	}
	if on == "" {
		return errors.New("--network must be given: a service is one network's")
	}
	n, d, err := a.serviceNetwork(on)
	if err != nil {
		return err
	}
	s.Network = n.Name
	a.waiting("creating service %s on network %s", s.Name, n.Name)
	if err := a.publishable(n, d, s); err != nil {
		return err
	}
	if isOverlay(n.Raw) {
		return a.createOverlayService(s)
	}
	lock, err := a.store.LockServices(n.Name)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := a.serviceFree(s); err != nil {
		return err
	}
	m, err := a.openHost(a.store)
	if err != nil {
		return err
	}
	defer m.Close()
	if s.Mode == service.VIP {
		if s.VIPs, err = cni.ClaimVIPs(a.store, m, d, s); err != nil {
			return err
		}
	}
	err = a.store.PutService(&records.Service{Service: s, Created: time.Now().UTC()})
	if err == nil {
		err = a.stillThere(n)
	}
	if err == nil && len(s.Ports) > 0 {
		err = a.publishService(m, s)
	}
	if err != nil {
		return errors.Join(err, a.forgetService(m, s, d.IPAM))
	}
	lock.Unlock()
	fmt.Fprintln(a.out(true), s.Name)
	a.spreadServices(n.Name)
	return nil
}

// publishable refuses ports of a service where the network publishes none, or others.
func (a *app) publishable(n Network, d network.Description, s service.Service) error {
	if len(s.Ports) == 0 {
		return nil
	}
	byIPTables := a.store.ByIPTables(n.Name)
	if f, err := n.Facts(nil); err == nil {
		byIPTables = byIPTables || f.Options["firewall"] == firewall.IPTables
	}
	var flood, nodeAddresses bool
	if d.Overlay != nil {
		flood, nodeAddresses = d.Overlay.Flood, len(d.Overlay.NodeAddresses) > 0
	}
	switch {
	case !firewall.Fits(n.Name, s.Name):
		return fmt.Errorf("-p %d: the names of network %s and service %s are too long for that: 110 bytes together at most", s.Ports[0].Published, n.Name, s.Name)
	case flood:
		return fmt.Errorf("-p %d: network %s has flood, with which nodes don't send to one another's hosts", s.Ports[0].Published, n.Name)
	case nodeAddresses:
		return fmt.Errorf("-p %d: network %s has nodeAddresses, with which nodes don't send to one another's hosts", s.Ports[0].Published, n.Name)
	case d.Info.Internal || d.Ports.Ignore:
		return fmt.Errorf("-p %d: network %s is internal: nothing of it is published", s.Ports[0].Published, n.Name)
	case d.Ports.Default.IsValid():
		return fmt.Errorf("-p %d: network %s publishes at %s (host_binding_ipv4), and a service's port is on all addresses", s.Ports[0].Published, n.Name, d.Ports.Default)
	case byIPTables:
		return fmt.Errorf("-p %d: network %s has its rules by iptables: services have ports where nftables has them", s.Ports[0].Published, n.Name)
	}
	return nil
}

// publishService takes a new service's ports, all of them or none.
func (a *app) publishService(m machine, s service.Service) error {
	n, err := a.store.ServicesOf(s.Network)
	if err != nil {
		return err
	}
	refused, err := m.EnsureIngress(n)
	if refused = refused.Of(s.Claims()); err == nil && refused != nil {
		return refused
	}
	return err
}

// serviceNetwork finds a network that can have services.
func (a *app) serviceNetwork(word string) (Network, network.Description, error) {
	list, err := a.networks()
	if err != nil {
		return Network{}, network.Description{}, err
	}
	n, err := find(list, word)
	if err != nil {
		return n, network.Description{}, err
	}
	switch {
	case n.Main == overlaymode.Plugin && !isOverlay(n.Raw):
		return n, network.Description{}, fmt.Errorf("network %s is in a file that the cluster did not write: a service is of a network that dnet create -d overlay makes", n.Name)
	case n.Main != bridge.Plugin && n.Main != overlaymode.Plugin:
		return n, network.Description{}, fmt.Errorf("network %s is of the driver %s: only bridge and overlay networks have services", n.Name, n.Driver)
	case catalog.Predefined(n.Name):
		return n, network.Description{}, fmt.Errorf("network %s has no names, by which a service is found: take one that dnet create makes", n.Name)
	}
	d, err := n.Main.Describe(n.Name, n.Plugins[0])
	if err != nil {
		return n, d, err
	}
	const icc = "com.docker.network.bridge.enable_icc"
	if f, err := n.Facts(nil); err == nil && f.Options[icc] == "false" {
		return n, d, fmt.Errorf("network %s has %s=false: its containers reach no task", n.Name, icc)
	}
	return n, d, nil
}

// serviceFree refuses a name that is in use: by another service, or as a container's own.
func (a *app) serviceFree(s service.Service) error {
	old, err := a.store.Service(s.Network, s.Name)
	switch {
	case err == nil && !old.Removing:
		return fmt.Errorf("service %s exists already on network %s", s.Name, s.Network)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	list, err := a.store.List(s.Network)
	for _, r := range records.Interfaces(list) {
		if err := hides(s, r.Name, r.Container); err != nil {
			return err
		}
	}
	return err
}

// hides refuses a service whose name is a container's own on its network.
func hides(s service.Service, name, id string) error {
	if strings.EqualFold(name, s.Name) || strings.HasPrefix(id, s.Name) && len(s.Name) >= network.ShortID {
		return fmt.Errorf("service name %q is the own name of container %s on network %s, which it would hide: give the service another name, and the container that as an alias",
			s.Name, container.ShortID(id), s.Network)
	}
	return nil
}

// forgetService gives a service's ports and addresses back, and then forgets it. The caller holds the lock
// of the network's services.
func (a *app) forgetService(m machine, s service.Service, i network.IPAM) error {
	if len(s.Ports) > 0 {
		n, err := a.store.ServicesOf(s.Network)
		for j := range n.Services {
			n.Services[j].Removing = n.Services[j].Removing || n.Services[j].Name == s.Name
		}
		if err == nil {
			_, err = m.EnsureIngress(n)
		}
		if err != nil {
			return err
		}
	}
	if err := cni.ReleaseVIPs(a.store, i, s); err != nil {
		return err
	}
	return a.store.RemoveService(s.Network, s.Name)
}

// spreadServices has dnetd make the rules of all clients of a network as its services are. Where
// no container is on the network there is nothing to make.
func (a *app) spreadServices(name string) {
	attached, err := a.store.Attached(name)
	nothing := err == nil && !attached
	if nothing {
		n, unread := a.store.ServicesOf(name) // their ports are held in any case
		nothing = unread == nil && !n.Publishes()
	}
	client := agent.Client{Store: a.store, NeverStart: nothing}
	_, err = client.Ask(agent.Request{Op: agent.Services, Attachment: &wire.Attachment{Network: name}})
	if err != nil && !(nothing && errors.Is(err, agent.ErrAbsent)) {
		a.warn("services of network %s are not with all containers yet: %v", name, err)
	}
}

func newServiceRemoveCommand(a *app) *cobra.Command {
	var on string
	cmd := &cobra.Command{
		Use: "rm SERVICE [SERVICE...]", Aliases: []string{"remove"}, Short: "Remove services; their tasks go on", Args: atLeast(1), DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.eachWord(args, func(word string) error {
				a.waiting("removing service %s", word)
				return a.removeService(word, on)
			})
		},
	}
	networkFlag(cmd, &on)
	return cmd
}

// networkFlag declares the network of a service, where its name alone does not tell.
func networkFlag(cmd *cobra.Command, on *string) {
	cmd.Flags().StringVar(on, "network", "", "The service's network, where several have one of the name")
}

// eachWord does something for each word, goes on past errors and prints the words that it was
// done for.
func (a *app) eachWord(words []string, do func(word string) error) error {
	failed := false
	for _, word := range words {
		if err := do(word); err != nil {
			failed = true
			a.printError(err)
			continue
		}
		fmt.Fprintln(a.out(true), word)
	}
	if failed {
		return &statusErr{status: statusError}
	}
	return nil
}

// removeService removes a service. It is first on its way out, so that no name and no rule is
// left when its address may become another's, whenever dnet is killed.
func (a *app) removeService(word, on string) error {
	found, err := a.findService(word, on, true)
	if err != nil {
		return err
	}
	if found.ofCluster {
		return a.removeOverlayService(found.Network, found.Name)
	}
	v := found.Service
	lock, err := a.store.LockServices(v.Network)
	if err != nil {
		return err
	}
	if !v.Removing {
		v.Removing = true
		err = a.store.PutService(v)
	}
	lock.Unlock()
	if err != nil {
		return err
	}
	a.spreadServices(v.Network)
	if lock, err = a.store.LockServices(v.Network); err != nil {
		return err
	}
	defer lock.Unlock()
	m, err := a.openHost(a.store)
	if err != nil {
		return err
	}
	defer m.Close()
	return a.forgetService(m, v.Service, a.ipamOf(v.Network))
}

// ipamOf returns where a network's addresses are; in the usual place where it is gone.
func (a *app) ipamOf(name string) network.IPAM {
	list, _, _ := a.readNetworks()
	for _, n := range list {
		if n.Name == name && n.Main != nil {
			if d, err := n.Main.Describe(n.Name, n.Plugins[0]); err == nil {
				return d.IPAM
			}
		}
	}
	return network.IPAM{Type: "dipam"}
}

// A listed is a service with its tasks.
type listed struct {
	*records.Service
	tasks     []service.Task
	ofCluster bool // it is of a cluster's network
}

// services returns all services, by name and network: this host's, and the cluster's.
func (a *app) services(removing bool) (list []*listed, err error) {
	networks, err := a.store.ServiceNetworks()
	errs := []error{err}
	for _, name := range networks {
		if a.store.KnowsServices(name) {
			continue // of the cluster's the store knows more
		}
		of, err := a.store.Services(name)
		n, unread := a.store.ServicesOf(name)
		errs = append(errs, err, unread)
		for _, v := range of {
			if !v.Removing || removing {
				list = append(list, &listed{Service: v, tasks: n.Tasks(v.Service)})
			}
		}
	}
	of, err := a.overlayServices()
	list = append(list, of...)
	slices.SortStableFunc(list, func(a, b *listed) int { return catalog.Natural(a.Name, b.Name) })
	return list, errors.Join(append(errs, err)...)
}

// findService finds the service that a word names, on one network or, for "", on any.
func (a *app) findService(word, on string, removing bool) (*listed, error) {
	list, err := a.services(removing)
	var found []*listed
	for _, v := range list {
		if strings.EqualFold(v.Name, word) && (on == "" || on == v.Network) {
			found = append(found, v)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case err != nil:
		return nil, err
	case len(found) == 0:
		return nil, network.Refused(network.NotFound, &service.NotFoundError{Service: word, Network: on})
	}
	var networks []string
	for _, v := range found {
		networks = append(networks, v.Network)
	}
	return nil, fmt.Errorf("service %s is on networks %s: say --network", word, strings.Join(networks, ", "))
}

func newServiceDrainCommand(a *app) *cobra.Command {
	var undo bool
	var nodes bool
	cmd := &cobra.Command{
		Use: "drain [OPTIONS] CONTAINER|NODE [CONTAINER|NODE...]", Short: "Send no more connections to a task, or to all tasks of a node; those that run go on", Args: atLeast(1), DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.eachWord(args, func(word string) error {
				if nodes {
					return a.drainNode(word, !undo)
				}
				return a.drainWord(word, !undo)
			})
		},
	}
	cmd.Flags().BoolVar(&undo, "undo", false, "Send connections to it again")
	cmd.Flags().BoolVar(&nodes, "node", false, "It is a node's name, where a container has that too")
	return cmd
}

// drainWord drains the container that a word means, by its ID, the beginning of that, or its
// name, or else the node of that name. Of this host it reads what the word may mean: a change of
// one task is to be quick beside many.
func (a *app) drainWord(word string, drained bool) error {
	ofCluster, away := a.overlayServices()
	var tasks []service.Task
	var all []container.Named
	for _, v := range ofCluster {
		for _, t := range v.tasks {
			tasks = append(tasks, t)
			all = append(all, container.Named{ID: t.Owner.Container, Name: cmp.Or(t.Name, t.Owner.Container)})
		}
	}
	networks, err := a.store.ServiceNetworks()
	errs := []error{away, err}
	for _, name := range networks {
		list, err := a.store.Meant(name, word)
		own, unread := a.tasksAmong(list)
		tasks = append(tasks, own...)
		errs = append(errs, err, unread)
		for _, r := range records.Interfaces(list) {
			all = append(all, container.Named{ID: r.Container, Name: containerName(r)})
		}
	}
	slices.SortStableFunc(all, func(a, b container.Named) int { return strings.Compare(a.ID, b.ID) })
	all = slices.CompactFunc(all, func(a, b container.Named) bool { return a.ID == b.ID })
	i, err := container.Find(all, word)
	if err != nil && away != nil {
		return fmt.Errorf("%s: is no task of this host's, and of other nodes nothing is known: %w", word, away)
	}
	if err != nil {
		return a.drainUnless(word, drained, err)
	}
	tasks = slices.DeleteFunc(tasks, func(t service.Task) bool { return t.Owner.Container != all[i].ID })
	if len(tasks) > 0 {
		return a.drain(tasks, drained)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return fmt.Errorf("container %s is a task of no service: it bears the name of none, as its own or as an alias", word)
}

// tasksAmong returns those records' tasks of services of this host's own networks.
func (a *app) tasksAmong(list []*records.Record) (tasks []service.Task, err error) {
	for _, r := range list {
		if a.store.KnowsServices(r.Network) { // it is the cluster's
			continue
		}
		is, unread := a.store.IsTask(r)
		if is {
			tasks = append(tasks, service.Task{Endpoint: service.Endpoint{Owner: r.Attachment}})
		}
		err = errors.Join(err, unread)
	}
	return tasks, err
}

// drain notes that tasks are to get no more connections, or some again, and has it done. Those
// of the cluster's networks may be on any node.
func (a *app) drain(tasks []service.Task, drained bool) error {
	var networks []string
	var ofCluster []service.Task
	for _, t := range tasks {
		if t.Node != "" || a.store.KnowsServices(t.Owner.Network) {
			ofCluster = append(ofCluster, t)
			continue
		}
		if err := a.store.Drain(t.Owner, drained); err != nil {
			return err
		}
		if !slices.Contains(networks, t.Owner.Network) {
			networks = append(networks, t.Owner.Network)
		}
	}
	for _, name := range networks {
		a.spreadServices(name)
	}
	if len(ofCluster) == 0 {
		return nil
	}
	return a.drainOverlay(ofCluster, drained)
}

// drainBeforeStop drains a container that is about to be stopped, if it is a task.
func (a *app) drainBeforeStop(id string) {
	list, err := a.store.OfContainer(id)
	tasks, unread := a.tasksAmong(list)
	err = errors.Join(err, unread)
	for _, r := range records.Interfaces(list) {
		if !a.store.KnowsServices(r.Network) {
			continue
		}
		n, unread := a.store.ServicesOf(r.Network)
		err = errors.Join(err, unread)
		for _, s := range n.Services {
			for _, t := range n.Tasks(s) {
				if t.Node == "" && t.Owner.Container == id {
					tasks = append(tasks, t)
				}
			}
		}
	}
	if err == nil && len(tasks) > 0 {
		err = a.drain(tasks, true)
	}
	if err != nil {
		a.warn("container %s is not drained: %v", container.ShortID(id), err)
	}
}

// addServices has a container be a task of services, each on those of its networks that have it.
func (a *app) addServices(requests []networkRequest, words []string) error {
	if len(words) == 0 {
		return nil
	}
	services, err := a.services(false)
	for _, word := range words {
		found := false
		var names []string
		for i := range requests {
			names = append(names, requests[i].list.Name)
			found = requests[i].addService(services, word) || found
		}
		if !found && err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("%w: dnet service create makes it", &service.NotFoundError{Service: word, Network: strings.Join(names, ", ")})
		}
	}
	return nil
}

// addService has the container be a task of the service of a name, if the network has it.
func (r *networkRequest) addService(services []*listed, word string) bool {
	is := func(v *listed) bool { return v.Network == r.list.Name && strings.EqualFold(v.Name, word) }
	at := slices.IndexFunc(services, is)
	if at >= 0 {
		r.services = append(r.services, services[at].Name)
	}
	return at >= 0
}

// addWantedServices has a container that is connected to one more network be a task there of the
// services that `dnet run` named, as it would be after its next start.
func (a *app) addWantedServices(r *networkRequest, own *records.Container) {
	var saved savedRun
	if own == nil || json.Unmarshal(own.Options, &saved) != nil || len(saved.Services) == 0 {
		return
	}
	services, err := a.services(false)
	if err != nil { // the others are known all the same
		a.warn("%v", err)
	}
	for _, word := range saved.Services {
		r.addService(services, word)
	}
}
