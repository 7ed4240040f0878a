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

// drainTime is how long clients over TCP, and queries that wait for upstreams,
// are still served once a successor does.
const drainTime = 5 * time.Second

// relayDrainTime is how long connections through the relay may go on then.
const relayDrainTime = time.Minute

// maxParcel is how much of text goes in a parcel, in bytes, well below what a
// message may have.
const maxParcel = 64 << 10

// giveAway hands everything to a successor, and ends. If that one dies on the
// way nothing has changed.
func (d *dnetd) giveAway(c *agent.Conn) {
	if err := d.listener.pauseAccept(1); err != nil {
		_ = c.Send(parcel{Error: err.Error()}) // it may be gone
		return
	}
	d.work.Lock()
	defer d.work.Unlock()
	start := time.Now()
	c.SetDeadline(start.Add(takeOverTime))
	err := d.sendAll(c)
	var v verdict
	if err == nil {
		var files []int
		files, err = c.Receive(&v)
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
	d.log.Info("a successor serves", "containers", v.Serves, "after", time.Since(start))
	d.succeeded.Store(true)
	d.end()
}

// sendAll sends parcels with everything that is open.
func (d *dnetd) sendAll(c *agent.Conn) error {
	var err error
	gone := d.listener.socket.Control(func(fd uintptr) { err = c.Send(parcel{}, int(fd)) })
	if err := errors.Join(gone, err); err != nil {
		return err
	}
	out := &packer{conn: c}
	for _, b := range d.memory.belongings() {
		if err := out.pack(b); err != nil {
			return err
		}
	}
	if err := out.send(); err != nil {
		return err
	}
	err = d.ports.relay.HandOver(agent.MaxFiles, func(list []relay.Socket, files []int) error {
		return c.Send(parcel{Relay: list}, files...)
	})
	if err != nil {
		return err
	}
	return c.Send(parcel{Last: true})
}

// A belonging is an item, and the endpoints whose sockets go with it.
type belonging struct {
	item      item
	endpoints []*dns.Endpoint
}

// belongings returns what is in the memory, sandbox by sandbox.
func (m *memory) belongings() (list []belonging) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.sandboxes {
		for i, r := range s.resolvers {
			own := *r
			b := belonging{item: item{Resolver: &own}}
			for f, e := range s.ears {
				if i == 0 && e.endpoint != nil {
					b.item.Families = append(b.item.Families, names.Family(f))
					b.endpoints = append(b.endpoints, e.endpoint)
				}
			}
			list = append(list, b)
		}
	}
	return list
}

// A packer makes parcels of belongings.
type packer struct {
	conn      *agent.Conn
	items     []item
	endpoints []*dns.Endpoint
	size      int // of the items' text
}

// pack adds a belonging to the parcel, and sends it first where it is full.
func (p *packer) pack(b belonging) error {
	text, err := json.Marshal(b.item)
	if err != nil {
		return err
	}
	if p.size+len(text) > maxParcel || 2*(len(p.endpoints)+len(b.endpoints)) > agent.MaxFiles {
		if err := p.send(); err != nil {
			return err
		}
	}
	p.items, p.endpoints, p.size = append(p.items, b.item), append(p.endpoints, b.endpoints...), p.size+len(text)
	return nil
}

// send sends the parcel, if there is something in it, and begins another.
func (p *packer) send() error {
	if len(p.items) == 0 {
		return nil
	}
	err := withFiles(p.endpoints, nil, func(files []int) error { return p.conn.Send(parcel{Items: p.items}, files...) })
	p.items, p.endpoints, p.size = nil, nil, 0
	return err
}

// withFiles calls f with the descriptors of endpoints, which stay open
// meanwhile.
func withFiles(list []*dns.Endpoint, files []int, f func(files []int) error) error {
	if len(list) == 0 {
		return f(files)
	}
	var err error
	gone := list[0].Control(func(udp, tcp int) { err = withFiles(list[1:], append(files, udp, tcp), f) })
	return errors.Join(gone, err)
}

// drain serves what was begun, for a while, and closes everything.
func (d *dnetd) drain() {
	var all sync.WaitGroup
	all.Go(func() { d.memory.drain(drainTime) })
	all.Go(func() {
		if err := d.ports.relay.Drain(relayDrainTime); err != nil {
			d.log.Warn("the relay's end", "error", err)
		}
	})
	all.Wait()
}

// drain answers what has been read, as long as there is time, and closes all
// sockets.
func (m *memory) drain(limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var all sync.WaitGroup
	for _, s := range m.all() {
		for _, e := range s.ears {
			if e.endpoint != nil {
				all.Go(func() { _ = e.endpoint.Drain(ctx) }) // who waits longer than that has lost
			}
		}
	}
	all.Wait()
}
