package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"dcni/pkg/host"
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
	// sync makes the rules of a network's clients so.
	sync func(network string) (service.Network, error)
	// check asks a task whether it is well.
	check func(ctx context.Context, h service.Health, a netip.Addr) error

	mu      sync.Mutex
	made    map[string]string // by network, what was made last, as text
	clients int               // containers on networks with services
}

func newServices(store records.Store, log *slog.Logger, show func(string, []names.HostEntry)) *services {
	return &services{store: store, log: log, show: show, sync: syncServices(store), check: checkTask, made: map[string]string{}}
}

// syncServices returns what makes the rules of a network's clients on this host.
func syncServices(store records.Store) func(network string) (service.Network, error) {
	return func(network string) (service.Network, error) {
		machine, err := host.New(store)
		if err != nil {
			return service.Network{}, err
		}
		defer machine.Close()
		machine.NeverStartDnetd = true
		return machine.SyncServices(network)
	}
}

// showAll has the names of all services answered. No rule is looked at.
func (s *services) showAll() {
	list, err := s.store.ServiceNetworks()
	for _, name := range list {
		n, unread := s.store.ServicesOf(name)
		err = errors.Join(err, unread)
		s.show(name, n.Hosts())
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
	n, err := s.sync(name)
	if err != nil && len(n.Services) == 0 {
		return err
	}
	s.show(name, n.Hosts())
	s.made[name] = fmt.Sprint(n)
	if len(n.Services) == 0 || err != nil {
		delete(s.made, name)
	}
	return err
}

// serve makes everything so, and then what has changed, until the context ends.
func (s *services) serve(ctx context.Context) {
	const looks = 5 // checks between two looks at the records
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for i := 0; ; i++ {
		if i%looks == 0 {
			s.look()
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
		s.clients += len(n.Endpoints)
		if before, known := s.made[name]; err == nil && (!known || before != fmt.Sprint(n)) {
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

// checkAll checks the tasks of all services that are to be checked, all at the same time.
func (s *services) checkAll(ctx context.Context) {
	list, _ := s.store.ServiceNetworks() // look says what is wrong
	for _, name := range list {
		n, err := s.store.ServicesOf(name)
		if err == nil && s.checkNetwork(ctx, n) && ctx.Err() == nil {
			err = s.make(name)
		}
		if err != nil {
			s.log.Warn("tasks of services can't be checked", "network", name, "error", err)
		}
	}
}

// checkNetwork checks the tasks of a network, notes what has changed, and reports whether
// anything has.
func (s *services) checkNetwork(ctx context.Context, n service.Network) (changed bool) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	var checks sync.WaitGroup
	var mu sync.Mutex
	for _, v := range n.Services {
		h, err := service.ParseHealth(v.Health)
		if v.Health == "" || v.Removing || err != nil {
			continue
		}
		for _, t := range n.Tasks(v) {
			checks.Go(func() {
				was := slices.Contains(t.Healthy, v.Name)
				err := s.checkOne(ctx, h, t)
				if (err == nil) == was || errors.Is(ctx.Err(), context.Canceled) {
					return
				}
				s.log.Info("a task has changed", "service", v.Name, "task", t.Owner, "healthy", err == nil, "error", err)
				err = s.store.SetHealthy(v.Name, t.Owner, err == nil)
				mu.Lock()
				defer mu.Unlock()
				if changed = true; err != nil {
					s.log.Warn("a task's state can't be written", "task", t.Owner, "error", err)
				}
			})
		}
	}
	checks.Wait()
	return changed
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
