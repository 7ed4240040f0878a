package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"dcni/pkg/firewall"
	"dcni/pkg/host"
	hostservices "dcni/pkg/host/services"
	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// Checks of tasks.
const (
	checkEvery = time.Second // from one check of a task to the next
	checkTime  = time.Second // how long a task may take to answer
)

// services has what is on record of services in the clients' namespaces, and their names in
// the registry. Plugins and dnet say when something has changed; now and then the records are
// looked at, for one of them may have been killed before it did.
type services struct {
	store records.Store
	log   *slog.Logger
	show  func(network string, hosts []names.HostEntry)
	// hold has the relay hold the ports of a service, and pass on to its tasks what rules leave.
	hold func(service wire.Attachment, relays []firewall.Relay)
	// sync makes the rules of a network's clients so, and the ports of its services; first: what a dnetd
	// that died left undone is done as well.
	sync func(network string, first bool) (service.Network, *firewall.RefusedError, error)
	// check asks a task whether it is well.
	check func(ctx context.Context, h service.Health, a netip.Addr) error
	// report has the cluster's store told of tasks. It waits for nothing.
	report func()

	mu      sync.Mutex
	made    map[string]string            // by network, what was made last, as text
	begun   map[string]bool              // networks that this dnetd has dealt with
	refused map[string]string            // by network, why ports of services can't be had
	held    map[string][]wire.Attachment // by network, services whose ports are held
	clients int                          // containers on networks with services

	checked sync.Map // the names of networks that have services whose tasks are checked
	turns   *turns
	noticed noticed
}

// noticed are networks whose services are to be made, of which several may be known before the
// first is.
type noticed struct {
	wake     chan struct{} // has a value when there are some
	mu       sync.Mutex
	networks map[string]bool
}

func newServices(store records.Store, log *slog.Logger, show func(string, []names.HostEntry)) *services {
	return &services{
		store: store, log: log, show: show, hold: func(wire.Attachment, []firewall.Relay) {}, sync: syncServices(store), check: checkTask, report: func() {},
		made: map[string]string{}, begun: map[string]bool{}, refused: map[string]string{}, held: map[string][]wire.Attachment{}, turns: &turns{},
		noticed: noticed{wake: make(chan struct{}, 1), networks: map[string]bool{}},
	}
}

// notice has what a network has of services made so soon. It waits for nothing.
func (s *services) notice(name string) {
	s.noticed.mu.Lock()
	s.noticed.networks[name] = true
	s.noticed.mu.Unlock()
	select {
	case s.noticed.wake <- struct{}{}:
	default:
	}
}

// makeNoticed makes so what was noticed.
func (s *services) makeNoticed() {
	s.noticed.mu.Lock()
	list := slices.Sorted(maps.Keys(s.noticed.networks))
	clear(s.noticed.networks)
	s.noticed.mu.Unlock()
	for _, name := range list {
		if err := s.make(name); err != nil {
			s.log.Warn("services are not as they are to be", "network", name, "error", err)
		}
	}
}

// syncServices returns what makes the rules of a network's clients, and its services' ports, on this
// host. It is called by one at a time.
func syncServices(store records.Store) func(network string, first bool) (service.Network, *firewall.RefusedError, error) {
	made := map[string]hostservices.Made{}
	return func(network string, first bool) (service.Network, *firewall.RefusedError, error) {
		machine, err := host.New(store)
		if err != nil {
			return service.Network{}, nil, err
		}
		defer machine.Close()
		machine.NeverStartDnetd = true
		if made[network] == nil || first {
			made[network] = hostservices.Made{}
		}
		n, refused, err := machine.SyncServices(network, first, made[network])
		if len(made[network]) == 0 {
			delete(made, network)
		}
		return n, refused, err
	}
}

// showAll has the names of all services answered. No rule is looked at.
func (s *services) showAll() {
	list, err := s.store.ServiceNetworks()
	for _, name := range list {
		n, unread := s.store.ServicesOf(name)
		err = errors.Join(err, unread)
		s.show(name, n.Hosts())
		s.turns.set(n)
	}
	if err != nil {
		s.log.Warn("not all services can be read", "error", err)
	}
}

// make makes what a network has of services so.
func (s *services) make(name string) error {
	if !network.ValidName(name) {
		return wire.Errorf(wire.CodeDecode, "network %q: must be a network's name", name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.makeLocked(name)
}

func (s *services) makeLocked(name string) error {
	n, refused, err := s.sync(name, !s.begun[name])
	if err != nil && len(n.Services) == 0 {
		return err
	}
	s.show(name, n.Hosts())
	s.turns.set(n)
	s.holdPorts(n, refused)
	s.checked.Delete(name)
	if slices.ContainsFunc(n.Services, func(v service.Service) bool { return v.Health != "" }) {
		s.checked.Store(name, true)
	}
	s.made[name], s.begun[name] = fmt.Sprint(n), true
	if len(n.Services) == 0 || err != nil {
		delete(s.made, name)
	}
	s.report()
	return err
}

// holdPorts has the ports held that a network's services have, but for those that can't be had.
func (s *services) holdPorts(n service.Network, refused *firewall.RefusedError) {
	before := s.held[n.Name]
	delete(s.held, n.Name)
	for _, v := range n.Services {
		var held []*firewall.Endpoint
		for _, claim := range v.Claims() {
			if !v.Removing && !refused.Has(claim) {
				held = append(held, claim)
			}
		}
		owner := firewall.OfService(n.Name, v.Name)
		s.hold(owner, firewall.Relays(held...))
		before = slices.DeleteFunc(before, func(a wire.Attachment) bool { return a == owner })
		if len(held) > 0 {
			s.held[n.Name] = append(s.held[n.Name], owner)
		}
	}
	for _, gone := range before {
		s.hold(gone, nil)
	}
	why := ""
	if refused != nil {
		why = refused.Error()
	}
	if why != s.refused[n.Name] && why != "" {
		s.log.Warn("ports of services can't be had, and will be tried again", "network", n.Name, "error", why)
	}
	if s.refused[n.Name] = why; why == "" {
		delete(s.refused, n.Name)
	}
}

// makeAgain makes the ports of all services so, where rules may be lost.
func (s *services) makeAgain() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, err := s.store.ServiceNetworks()
	errs := []error{err}
	for _, name := range list {
		if n, err := s.store.ServicesOf(name); err == nil && n.Publishes() {
			errs = append(errs, s.makeLocked(name))
		}
	}
	return errors.Join(errs...)
}

// serve makes everything so, and then what has changed, until the context ends.
func (s *services) serve(ctx context.Context) {
	const looks = 5 // checks between two looks at the records
	var noticing sync.WaitGroup
	defer noticing.Wait()
	noticing.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-s.noticed.wake:
				s.makeNoticed()
			}
		}
	})
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for i := 0; ; i++ {
		if i%looks == 0 {
			s.look()
			s.report()
		}
		s.checkAll(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look makes the networks so whose services, or tasks, are others than when that was done last.
func (s *services) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, err := s.store.ServiceNetworks()
	errs := []error{err}
	for name := range s.made {
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	s.clients = 0
	for _, name := range list {
		n, err := s.store.ServicesOf(name)
		errs = append(errs, err)
		for _, e := range n.Endpoints {
			if e.Node == "" {
				s.clients++
			}
		}
		if before, known := s.made[name]; err == nil && (!known || before != fmt.Sprint(n) || s.refused[name] != "") {
			errs = append(errs, s.makeLocked(name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		s.log.Warn("services are not all as they are to be", "error", err)
	}
}

// busy reports whether a container is on a network with services.
func (s *services) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clients > 0
}

// checkAll checks this host's tasks of all services that are to be checked, those of a network
// at the same time. Records of other networks are not read: that is done every second.
func (s *services) checkAll(ctx context.Context) {
	s.checked.Range(func(key, _ any) bool {
		name := key.(string)
		n, err := s.store.ServicesOf(name)
		if err == nil {
			s.checkNetwork(ctx, n)
		} else {
			s.log.Warn("tasks of services can't be checked", "network", name, "error", err)
		}
		return true
	})
}

// checkNetwork checks the tasks of a network, and notes what has changed. That is made so at
// once: another task may let its check wait for as long as it may.
func (s *services) checkNetwork(ctx context.Context, n service.Network) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	var checks sync.WaitGroup
	var writing sync.Mutex // the last mark of a service takes its directory along, and the first makes it
	for _, v := range n.Services {
		h, err := service.ParseHealth(v.Health)
		if v.Health == "" || v.Removing || err != nil {
			continue
		}
		for _, t := range n.Tasks(v) {
			if t.Node != "" {
				continue // its own node checks it
			}
			checks.Go(func() {
				was := slices.Contains(t.Healthy, v.Name)
				err := s.checkOne(ctx, h, t)
				if (err == nil) == was || errors.Is(ctx.Err(), context.Canceled) {
					return
				}
				s.log.Info("a task has changed", "service", v.Name, "task", t.Owner, "healthy", err == nil, "error", err)
				writing.Lock()
				err = s.store.SetHealthy(v.Name, t.Owner, err == nil)
				writing.Unlock()
				if err != nil { // it is checked again
					s.log.Warn("a task's state can't be written", "task", t.Owner, "error", err)
				}
				s.notice(n.Name)
			})
		}
	}
	checks.Wait()
}

// checkOne checks a task at its first address.
func (s *services) checkOne(ctx context.Context, h service.Health, t service.Task) error {
	if len(t.Addresses) == 0 {
		return errors.New("it has no address")
	}
	return s.check(ctx, h, t.Addresses[0])
}

// checkTask asks a task from the host.
func checkTask(ctx context.Context, h service.Health, a netip.Addr) error {
	address := net.JoinHostPort(a.String(), strconv.Itoa(int(h.Port)))
	if !h.HTTP {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			conn.Close()
		}
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+h.Path, nil)
	if err != nil {
		return err
	}
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, Proxy: nil},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode < http.StatusOK || answer.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("GET %s: %s", request.URL, answer.Status)
	}
	return nil
}
