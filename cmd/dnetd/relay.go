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
	"dcni/pkg/wire"
)

// publisher is whose records tell of published ports.
const publisher = "dbridge"

// ports are the published ports that netfilter can't serve, container by
// container: which they are follows from its attachments together.
type ports struct {
	relay *relay.Relay
	store *records.CachedStore
	log   *slog.Logger

	mu   sync.Mutex                    // held from the look at records until the relay is set as they say
	seen map[wire.Attachment]time.Time // records that reconcile has dealt with, by when they were written
}

func newPorts(store *records.CachedStore, log *slog.Logger) (*ports, error) {
	gate := &gate{store: store.Store, log: log}
	r, err := relay.New(relay.Config{Log: log, Mark: agent.Mark, Admit: gate.admit, LinkTo: gate.linkTo})
	if err != nil {
		return nil, err
	}
	return &ports{relay: r, store: store, log: log, seen: map[wire.Attachment]time.Time{}}, nil
}

// restore opens all ports that are on record, the oldest first: where two want
// one, who had it before keeps it.
func (p *ports) restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	stamps, err := p.store.ModTimes(publisher)
	list, broken := p.store.List("")
	if err := errors.Join(err, broken); err != nil {
		p.log.Error("not all records can be read", "error", err)
	}
	p.seen = stamps
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

// refresh serves the ports that a container has by now. The error tells of those
// that can't be had.
func (p *ports) refresh(container string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.read(container, true)
}

// read serves a container as its records say. If others have claimed the same,
// their records are looked at, too: they may be gone.
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

// reconcile serves what records say that were written since it looked last, and
// no more what has none.
func (p *ports) reconcile(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ctx.Err() != nil {
		return // a successor has everything
	}
	stamps, err := p.store.ModTimes(publisher)
	if err != nil {
		p.log.Error("records can't be listed", "error", err)
		return
	}
	changed := map[string]bool{}
	for a, written := range stamps {
		if !p.seen[a].Equal(written) {
			changed[a.Container] = true
		}
	}
	for a := range p.seen {
		if _, there := stamps[a]; !there {
			changed[a.Container] = true
		}
	}
	for _, container := range slices.Sorted(maps.Keys(changed)) {
		if err := p.read(container, true); err != nil {
			p.log.Debug("not all ports can be served", "container", container, "error", err)
		}
	}
	p.seen = stamps
}

// A gate tells who may use the relay. What netfilter forwards, the rules see; a
// relay's clients speak to the host, which containers of an internal network may.
type gate struct {
	store records.Store
	log   *slog.Logger

	mu    sync.Mutex
	host  *host.Host     // nil until the first client comes from another host
	known map[int]answer // by link
}

// An answer is whether clients of a link may use the relay, and until when to
// believe that: looking it up takes two exchanges with the kernel.
type answer struct {
	may   bool
	until time.Time
}

const believe = time.Second

// admit tells whether clients that come by a link may use the relay.
func (g *gate) admit(link int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if a, ok := g.known[link]; ok && now.Before(a.until) {
		return a.may
	}
	internal, err := g.internal(link)
	if err != nil {
		g.log.Warn("a client's link can't be looked up", "link", link, "error", err)
	}
	if g.known == nil {
		g.known = map[int]answer{}
	}
	maps.DeleteFunc(g.known, func(_ int, a answer) bool { return now.After(a.until) })
	may := err == nil && !internal
	g.known[link] = answer{may, now.Add(believe)}
	return may
}

func (g *gate) internal(link int) (bool, error) {
	if err := g.open(); err != nil {
		return false, err
	}
	return g.host.Internal(link)
}

// linkTo returns the link that leads to a client, 0 if none is found: that one is
// not admitted.
func (g *gate) linkTo(client netip.Addr) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.open()
	var link int
	if err == nil {
		link, err = g.host.LinkTo(client)
	}
	if err != nil {
		g.log.Warn("the link to a client can't be looked up", "client", client, "error", err)
	}
	return link
}

func (g *gate) open() (err error) {
	if g.host == nil {
		g.host, err = host.New(g.store)
	}
	return err
}
