package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"dcni/pkg/firewall"
	"dcni/pkg/host"
	"dcni/pkg/host/agent"
	"dcni/pkg/records"
	"dcni/pkg/relay"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// ports are the published ports, which dnetd holds, container by container: which
// sockets they need follows from its attachments together.
type ports struct {
	relay *relay.Relay
	store *records.CachedStore
	log   *slog.Logger

	mu   sync.Mutex                      // held from reading records until the relay is set as they say
	seen map[records.RecordKey]time.Time // records that reconcile has dealt with, and when they were written
	web  net.Listener                    // of metrics, which yields to ports; nil: none

	turns     *turns                   // of services' ports
	published map[string][]publication // by container, as its records said when they could be read
	unknown   map[string]bool          // containers with a lost record that this dnetd has not read before
}

// A publication is the ports of one record.
type publication struct {
	record    records.RecordKey
	endpoint  *firewall.Endpoint
	byRuntime bool // the runtime binds them itself
}

func newPorts(store *records.CachedStore, log *slog.Logger) (*ports, error) {
	access := &accessCheck{store: store.Store, log: log}
	next := &turns{}
	r, err := relay.New(relay.Config{Log: log, Mark: agent.Mark, Allowed: access.allowed, LinkTo: access.linkTo, Turn: next.turn})
	if err != nil {
		return nil, err
	}
	return &ports{
		relay: r, store: store, log: log, turns: next, seen: map[records.RecordKey]time.Time{},
		published: map[string][]publication{}, unknown: map[string]bool{},
	}, nil
}

// restore opens all ports that are on record, the oldest first: where two containers
// want one, the older keeps it.
func (p *ports) restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	written, err := p.store.ModTimes()
	list, broken := p.store.List("")
	if err := errors.Join(err, broken); err != nil {
		p.log.Error("not all records can be read", "error", err)
	}
	p.seen = written
	slices.SortStableFunc(list, (*records.Record).Compare)
	of := map[string][]*records.Record{}
	for _, r := range list {
		of[r.Container] = append(of[r.Container], r)
	}
	for _, r := range list {
		if all, found := of[r.Container]; found {
			p.remember(r.Container, all, nil)
			_, _ = p.serve(r.Container) // the relay says what can't be had
			delete(of, r.Container)
		}
	}
	p.holdServices()
	p.closeAdopted()
}

// holdServices holds the ports of all services.
func (p *ports) holdServices() {
	networks, err := p.store.ServiceNetworks()
	for _, name := range networks {
		list, unread := p.store.Services(name)
		err = errors.Join(err, unread)
		for _, v := range list {
			if claims := v.Claims(); len(claims) > 0 && !v.Removing {
				p.serveService(firewall.OfService(name, v.Name), firewall.Relays(claims...))
			}
		}
	}
	if err != nil {
		p.log.Error("not all services can be read", "error", err)
	}
}

// hold has the relay hold exactly these ports of a service.
func (p *ports) hold(service wire.Attachment, relays []firewall.Relay) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.serveService(service, relays)
}

// serveService holds the ports of a service. The relay says what can't be had.
func (p *ports) serveService(service wire.Attachment, relays []firewall.Relay) {
	owner := service.String()
	p.makeWay(owner, relays)
	_, _ = p.relay.Set(owner, relays)
}

// turns are the tasks to which the relay passes on what comes to services' ports, for each virtual
// address and port.
type turns struct {
	mu   sync.Mutex
	of   map[string]map[netip.AddrPort][]netip.AddrPort // by network
	next int
}

// set notes the tasks of a network's services.
func (t *turns) set(n service.Network) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[string]map[netip.AddrPort][]netip.AddrPort{}
	}
	if t.of[n.Name] = n.Reached(); len(t.of[n.Name]) == 0 {
		delete(t.of, n.Name)
	}
}

// turn returns where a connection goes that is for a virtual address: to the next task, and nowhere
// if none is ready. What is no service's goes where it is for.
func (t *turns) turn(target netip.AddrPort) netip.AddrPort {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, services := range t.of {
		tasks, is := services[target]
		if is && len(tasks) == 0 {
			return netip.AddrPort{}
		}
		if is {
			t.next++
			return tasks[t.next%len(tasks)]
		}
	}
	return target
}

// closeAdopted closes the predecessor's sockets that no container needs. As long as it
// can't be read what a container publishes, that one may need them.
func (p *ports) closeAdopted() {
	if len(p.unknown) == 0 {
		p.relay.CloseAdopted()
	}
}

// refresh serves the ports that a container has by now. The error names those that
// can't be had.
func (p *ports) refresh(container string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.read(container, true)
}

// read serves a container as its records say, as far as they can be read. If others
// have its ports, read looks at their records, too: those containers may be gone.
func (p *ports) read(container string, others bool) error {
	list, unread := p.store.OfContainer(container)
	p.remember(container, list, unread)
	rivals, err := p.serve(container)
	p.closeAdopted()
	errs := []error{unread, err}
	if !others || len(rivals) == 0 {
		return errors.Join(errs...)
	}
	for _, rival := range rivals {
		errs = append(errs, p.read(rival, false))
	}
	if rivals, _ = p.serve(container); len(rivals) > 0 {
		errs = append(errs, fmt.Errorf("ports are relayed to %v already", rivals))
	}
	return errors.Join(errs...)
}

// remember notes what a container publishes. A lost record counts as it was when it was
// read last, and so does each that is not in the list because of an error.
func (p *ports) remember(container string, list []*records.Record, unread error) {
	rest := map[records.RecordKey]publication{}
	for _, known := range p.published[container] {
		rest[known.record] = known
	}
	var now []publication
	delete(p.unknown, container)
	for _, r := range list {
		key := records.RecordKey{Attachment: r.Attachment, Plugin: r.Plugin}
		known, found := rest[key]
		delete(rest, key)
		switch {
		case isLost(r) && found:
			now = append(now, known)
		case isLost(r):
			p.unknown[container] = true
		case r.State == records.Up && r.Endpoint != nil:
			now = append(now, publication{key, r.Endpoint, r.Holder != ""})
		}
	}
	if unread != nil {
		now = slices.AppendSeq(now, maps.Values(rest))
	}
	p.published[container] = now
	if len(now) == 0 {
		delete(p.published, container)
	}
}

// serve serves what a container publishes.
func (p *ports) serve(container string) (rivals []string, err error) {
	var endpoints []*firewall.Endpoint
	for _, one := range p.published[container] {
		if one.byRuntime {
			endpoints = append(endpoints, one.endpoint.Unbound())
		} else {
			endpoints = append(endpoints, one.endpoint)
		}
	}
	relays := firewall.Relays(endpoints...)
	p.makeWay(container, relays)
	return p.relay.Set(container, relays)
}

// errYields says that a socket of dnetd's own yields to a published port.
var errYields = errors.New("the port is published")

// listenBehind listens at an address of TCP as long as no container publishes its port.
func (p *ports) listenBehind(ctx context.Context, address string) (net.Listener, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if owner := p.relay.Owner("tcp", at); owner != "" {
		return nil, fmt.Errorf("%s: %w by container %s", address, errYields, owner)
	}
	for container := range p.published {
		if p.boundByRuntime(container, at) {
			return nil, fmt.Errorf("%s: %w by container %s", address, errYields, container)
		}
	}
	l, err := (&net.ListenConfig{Control: setMark}).Listen(ctx, "tcp", address)
	p.web = l
	return l, err
}

// setMark marks a socket as dnetd's own: an ADD does not take it for another program's.
func setMark(_, _ string, c syscall.RawConn) error {
	var err error
	gone := c.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_MARK, agent.Mark)
	})
	return errors.Join(gone, err)
}

// makeWay closes the socket that yields if it is at the address of one of a container's
// relays, or where its runtime binds a port.
func (p *ports) makeWay(container string, relays []firewall.Relay) {
	if p.web == nil {
		return
	}
	at := p.web.Addr().(*net.TCPAddr).AddrPort()
	any := netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port())
	relayed := slices.ContainsFunc(relays, func(r firewall.Relay) bool {
		return r.Protocol == "tcp" && (r.Listen == any || r.Listen == at)
	})
	if relayed || p.boundByRuntime(container, at) {
		_ = p.web.Close() // the server says that it is closed, and tries again
		p.web = nil
	}
}

// boundByRuntime reports whether a container's runtime binds an IPv4 address and port of
// TCP itself, which it does whether the container has IPv4 or not.
func (p *ports) boundByRuntime(container string, at netip.AddrPort) bool {
	return slices.ContainsFunc(p.published[container], func(one publication) bool {
		return one.byRuntime && slices.ContainsFunc(one.endpoint.Ports, func(port firewall.Port) bool {
			here := port.Any() && port.Family(false) || port.HostIP.Unmap() == at.Addr()
			return here && port.Protocol == "tcp" && port.HostPort == at.Port()
		})
	})
}

// reconcile serves the ports of containers whose records were written or deleted
// since it looked last.
func (p *ports) reconcile(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ctx.Err() != nil {
		return // a successor has everything
	}
	written, err := p.store.ModTimes()
	if err != nil {
		p.log.Error("records can't be listed", "error", err)
		return
	}
	changed := map[string]bool{}
	for key, at := range written {
		if !p.seen[key].Equal(at) {
			changed[key.Container] = true
		}
	}
	for key := range p.seen {
		if _, there := written[key]; !there {
			changed[key.Container] = true
		}
	}
	for _, container := range slices.Sorted(maps.Keys(changed)) {
		if err := p.read(container, true); err != nil {
			p.log.Debug("not all ports can be served", "container", container, "error", err)
		}
	}
	p.seen = written
}

// An accessCheck decides which clients may use the relay. Rules see what netfilter
// forwards, but a relay's clients connect to the host, which containers of an
// internal network may do.
type accessCheck struct {
	store records.Store
	log   *slog.Logger

	mu    sync.Mutex
	host  *host.Host     // nil until the first client comes from another host
	known map[int]answer // by link
}

// An answer says whether clients of a link may use the relay. It is cached, as
// looking it up takes two exchanges with the kernel.
type answer struct {
	may   bool
	until time.Time
}

const answerLifetime = time.Second

// allowed reports whether clients that come by a link may use the relay.
func (c *accessCheck) allowed(link int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if a, ok := c.known[link]; ok && now.Before(a.until) {
		return a.may
	}
	internal, err := c.internal(link)
	if err != nil {
		c.log.Warn("a client's link can't be looked up", "link", link, "error", err)
	}
	if c.known == nil {
		c.known = map[int]answer{}
	}
	maps.DeleteFunc(c.known, func(_ int, a answer) bool { return now.After(a.until) })
	may := err == nil && !internal
	c.known[link] = answer{may, now.Add(answerLifetime)}
	return may
}

func (c *accessCheck) internal(link int) (bool, error) {
	if err := c.open(); err != nil {
		return false, err
	}
	return c.host.Internal(link)
}

// linkTo returns the link that leads to a client, 0 if there is none: that client is
// not allowed.
func (c *accessCheck) linkTo(client netip.Addr) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.open()
	var link int
	if err == nil {
		link, err = c.host.LinkTo(client)
	}
	if err != nil {
		c.log.Warn("the link to a client can't be looked up", "client", client, "error", err)
	}
	return link
}

func (c *accessCheck) open() (err error) {
	if c.host == nil {
		c.host, err = host.New(c.store)
	}
	return err
}
