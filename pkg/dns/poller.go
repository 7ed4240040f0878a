package dns

import (
	"fmt"
	"runtime"
	"sync"

	"dcni/pkg/poll"
)

// A poller has a few workers wait for all sockets. A socket is not watched while a
// worker reads it (EPOLLONESHOT). Then it is the last in the queue, so a flood on
// one socket does not keep the others from their turn.
type poller struct {
	epoll   *poll.Epoll
	workers sync.WaitGroup

	mu      sync.RWMutex
	sources map[int32]*source // by their IDs in epoll
	last    int32
}

// A source is a socket that is watched.
type source struct {
	poller *poller
	id     int32
	socket *descriptor
	serve  func(*source) // reads the socket, then calls rearm
}

// newPoller starts workers, one for each processor that Go uses.
func newPoller() (*poller, error) {
	epoll, err := poll.New()
	if err != nil {
		return nil, fmt.Errorf("name server: %w", err)
	}
	p := &poller{epoll: epoll, sources: map[int32]*source{}}
	for range runtime.GOMAXPROCS(0) {
		p.workers.Go(p.work)
	}
	return p, nil
}

// close ends the workers.
func (p *poller) close() error {
	err := p.epoll.Close()
	p.workers.Wait()
	return err
}

// newSource returns a source that is not watched yet.
func (p *poller) newSource(socket *descriptor, serve func(*source)) *source {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.last++; p.last < 0 || p.sources[p.last] != nil; p.last++ {
		p.last = max(p.last, 0) // after 2^31 sources, IDs start over
	}
	s := &source{poller: p, id: p.last, socket: socket, serve: serve}
	p.sources[s.id] = s
	return s
}

// start has the socket watched for the first time.
func (s *source) start() error { return s.watch(s.poller.epoll.Add) }

// rearm has the socket watched again. It fails if the socket is closed.
func (s *source) rearm() { _ = s.watch(s.poller.epoll.Change) }

// stop ends the watching. A worker may still be reading the socket.
func (s *source) stop() {
	s.poller.mu.Lock()
	delete(s.poller.sources, s.id)
	s.poller.mu.Unlock()
	_ = s.socket.use(func(fd int) { _ = s.poller.epoll.Remove(fd) }) // it may be closed, or never watched
}

// watch has the socket watched until there is something to read, once.
func (s *source) watch(how func(fd int, id int32, events uint32) error) error {
	var err error
	if closed := s.socket.use(func(fd int) { err = how(fd, s.id, poll.Readable|poll.Once) }); closed != nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("name server: watch a socket: %w", err)
	}
	return nil
}

// work serves sockets that are readable, one after the other, until the poller
// is closed.
func (p *poller) work() {
	_ = p.epoll.Each(1, func(ids []int32) { // until it is closed
		p.mu.RLock()
		s := p.sources[ids[0]]
		p.mu.RUnlock()
		if s != nil {
			s.serve(s)
		}
	})
}
