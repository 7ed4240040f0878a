package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dcni/pkg/firewall"
	"dcni/pkg/host"
	"dcni/pkg/host/agent"
	"dcni/pkg/records"
	"dcni/pkg/relay"
)

// ports are the published ports that netfilter can't serve, container by
// container: which they are follows from its attachments together.
type ports struct {
	relay *relay.Relay
	store *records.CachedStore
	log   *slog.Logger

	mu   sync.Mutex                      // held from reading records until the relay is set as they say
	seen map[records.RecordKey]time.Time // records that reconcile has dealt with, and when they were written
}

func newPorts(store *records.CachedStore, log *slog.Logger) (*ports, error) {
	access := &accessCheck{store: store.Store, log: log}
	r, err := relay.New(relay.Config{Log: log, Mark: agent.Mark, Allowed: access.allowed, LinkTo: access.linkTo})
	if err != nil {
		return nil, err
	}
	return &ports{relay: r, store: store, log: log, seen: map[records.RecordKey]time.Time{}}, nil
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
	slices.SortStableFunc(list, func(a, b *records.Record) int { return a.Since.Compare(b.Since) })
	of := map[string][]*records.Record{}
	for _, r := range list {
		of[r.Container] = append(of[r.Container], r)
	}
	for _, r := range list {
		if all, found := of[r.Container]; found {
			_, _ = p.serve(r.Container, all) // the relay says what can't be had
			delete(of, r.Container)
		}
	}
	p.relay.CloseAdopted()
}

// refresh serves the ports that a container has by now. The error names those that
// can't be had.
func (p *ports) refresh(container string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.read(container, true)
}

// read serves a container as its records say. If others have its ports, read looks
// at their records, too: those containers may be gone.
func (p *ports) read(container string, others bool) error {
	list, err := p.store.OfContainer(container)
	if err != nil {
		return err
	}
	rivals, err := p.serve(container, list)
	if !others || len(rivals) == 0 {
		return err
	}
	errs := []error{err}
	for _, rival := range rivals {
		errs = append(errs, p.read(rival, false))
	}
	if rivals, _ = p.serve(container, list); len(rivals) > 0 {
		errs = append(errs, fmt.Errorf("ports are relayed to %v already", rivals))
	}
	return errors.Join(errs...)
}

// serve serves a container's ports as records say.
func (p *ports) serve(container string, list []*records.Record) (rivals []string, err error) {
	var endpoints []*firewall.Endpoint
	for _, r := range list {
		if r.State == records.Up && r.Endpoint != nil {
			endpoints = append(endpoints, r.Endpoint)
		}
	}
	return p.relay.Set(container, firewall.Relays(endpoints...))
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
