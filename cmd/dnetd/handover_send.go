package main

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"dcni/pkg/dns"
	"dcni/pkg/host/agent"
	"dcni/pkg/names"
	"dcni/pkg/relay"
)

// drainTime is how long clients over TCP, and queries that wait for upstreams, are
// served once a successor serves.
const drainTime = 5 * time.Second

// relayDrainTime is how long connections through the relay may go on then.
const relayDrainTime = time.Minute

// maxEntries is how much of entries goes in a message, in bytes of text, well below
// what a packet may have.
const maxEntries = 64 << 10

// handOver sends everything to a successor, and ends dnetd. If the successor fails,
// nothing has changed.
func (d *dnetd) handOver(c *agent.Conn) {
	if err := d.listener.pauseAccept(1); err != nil {
		_ = c.Send(message{Error: err.Error()}) // the successor may be gone
		return
	}
	d.work.Lock()
	defer d.work.Unlock()
	start := time.Now()
	c.SetDeadline(start.Add(handoverTimeout))
	err := d.sendAll(c)
	var answer ack
	if err == nil {
		var files []int
		files, err = c.Receive(&answer)
		agent.CloseAll(files)
	}
	if err != nil {
		d.log.Warn("the successor fails, this dnetd goes on", "error", err)
		if err := d.listener.resumeAccept(1); err != nil {
			d.log.Error("no more requests can be accepted", "error", err)
			d.end()
		}
		return
	}
	d.log.Info("a successor serves", "containers", answer.Serves, "after", time.Since(start))
	d.handedOver.Store(true)
	d.end()
}

// sendAll sends messages with everything that is open.
func (d *dnetd) sendAll(c *agent.Conn) error {
	var err error
	gone := d.listener.socket.Control(func(fd uintptr) { err = c.Send(message{}, int(fd)) })
	if err := errors.Join(gone, err); err != nil {
		return err
	}
	out := &sender{conn: c}
	for _, s := range d.registry.endpointSets() {
		if err := out.add(s); err != nil {
			return err
		}
	}
	if err := errors.Join(out.flush(), d.sendGateways(c)); err != nil {
		return err
	}
	err = d.ports.relay.HandOver(agent.MaxFiles, func(list []relay.Socket, files []int) error {
		return c.Send(message{Relay: list}, files...)
	})
	if err != nil {
		return err
	}
	return c.Send(message{Last: true})
}

// sendGateways sends the sockets at gateways to a successor.
func (d *dnetd) sendGateways(c *agent.Conn) error {
	for p, e := range d.registry.gateways.Endpoints() {
		err := withFiles([]*dns.Endpoint{e}, nil, func(files []int) error { return c.Send(message{Gateway: &p}, files...) })
		if err != nil {
			return err
		}
	}
	return nil
}

// An endpointSet is an entry, and the endpoints whose sockets go with it.
type endpointSet struct {
	entry     entry
	endpoints []*dns.Endpoint
}

// endpointSets returns what is in the registry, sandbox by sandbox.
func (reg *registry) endpointSets() (list []endpointSet) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	for _, s := range reg.sandboxes {
		for i, r := range s.resolvers {
			own := *r
			set := endpointSet{entry: entry{Resolver: &own}}
			for f, e := range s.sockets {
				if i == 0 && e.endpoint != nil {
					set.entry.Families = append(set.entry.Families, names.Family(f))
					set.endpoints = append(set.endpoints, e.endpoint)
				}
			}
			list = append(list, set)
		}
	}
	return list
}

// A sender collects entries into messages.
type sender struct {
	conn      *agent.Conn
	entries   []entry
	endpoints []*dns.Endpoint
	size      int // of the entries' text
}

// add adds a set to the message. If there is no room, it sends the message first.
func (s *sender) add(set endpointSet) error {
	text, err := json.Marshal(set.entry)
	if err != nil {
		return err
	}
	if s.size+len(text) > maxEntries || 2*(len(s.endpoints)+len(set.endpoints)) > agent.MaxFiles {
		if err := s.flush(); err != nil {
			return err
		}
	}
	s.entries, s.endpoints, s.size = append(s.entries, set.entry), append(s.endpoints, set.endpoints...), s.size+len(text)
	return nil
}

// flush sends the message if it has entries, and begins another.
func (s *sender) flush() error {
	if len(s.entries) == 0 {
		return nil
	}
	err := withFiles(s.endpoints, nil, func(files []int) error { return s.conn.Send(message{Entries: s.entries}, files...) })
	s.entries, s.endpoints, s.size = nil, nil, 0
	return err
}

// withFiles calls f with the descriptors of endpoints, which stay open until f
// returns.
func withFiles(list []*dns.Endpoint, files []int, f func(files []int) error) error {
	if len(list) == 0 {
		return f(files)
	}
	var err error
	gone := list[0].Control(func(udp, tcp int) { err = withFiles(list[1:], append(files, udp, tcp), f) })
	return errors.Join(gone, err)
}

// drain goes on serving what had begun, for a while, and closes everything.
func (d *dnetd) drain() {
	var all sync.WaitGroup
	all.Go(func() { d.registry.drain(drainTime) })
	all.Go(func() {
		if err := d.ports.relay.Drain(relayDrainTime); err != nil {
			d.log.Warn("the relay's end", "error", err)
		}
	})
	all.Wait()
}

// drain answers what has been read, as long as there is time, and closes all
// sockets.
func (reg *registry) drain(limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var all sync.WaitGroup
	for _, s := range reg.all() {
		for _, e := range s.sockets {
			if e.endpoint != nil {
				all.Go(func() { _ = e.endpoint.Drain(ctx) }) // an error: queries that wait longer are lost
			}
		}
	}
	for _, e := range reg.gateways.Endpoints() {
		all.Go(func() { _ = e.Drain(ctx) }) // likewise
	}
	all.Wait()
}
