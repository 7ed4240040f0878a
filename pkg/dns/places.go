package dns

import (
	"slices"
	"sync"
)

// places says which endpoint takes a client's connection next. One without a place
// stays in its listener's queue, where it costs us nothing, and clients see only that the
// answer is late. Endpoints with connections that wait take turns.
type places struct {
	mu    sync.Mutex
	taken int
	ring  []*Endpoint // those that wait; the first is the next one
}

// take counts a connection of an endpoint, unless there are too many: then the endpoint
// gets its turn once others end.
func (p *places) take(e *Endpoint) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.room(e) {
		p.taken++
		e.held++
		return true
	}
	if !slices.Contains(p.ring, e) {
		p.ring = append(p.ring, e)
	}
	e.crowded.Store(true)
	return false
}

// room reports whether an endpoint may have another connection.
func (p *places) room(e *Endpoint) bool {
	most := maxTCP
	if e.held < fewTCP {
		most += spareTCP
	}
	return e.held < maxEndpointTCP && p.taken < most
}

// give ends a connection of an endpoint.
func (p *places) give(e *Endpoint) {
	p.mu.Lock()
	p.taken--
	e.held--
	p.mu.Unlock()
	p.next()
}

// next has the next endpoint take a connection. It calls next again if it takes none.
func (p *places) next() {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.ring, p.room)
	if i < 0 {
		return
	}
	e := p.ring[i]
	p.ring = slices.Delete(p.ring, i, i+1)
	e.crowded.Store(false)
	go e.accept(e.connections)
}

// count returns how many connections there are.
func (p *places) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken
}
