package dns

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
)

// A poller has a few workers wait for all sockets to have something. A socket that
// one of them reads is not watched meanwhile (EPOLLONESHOT), and then is last
// in the queue again: a flood on one does not keep others from their turn.
//
// The workers wait with Go's own poller for epoll(7) to have something: a
// worker in a system call of its own would have the runtime look after it all
// the time.
type poller struct {
	file    *os.File // of epoll
	raw     syscall.RawConn
	workers sync.WaitGroup

	mu      sync.RWMutex
	sources map[int32]*source // by what epoll calls them
	last    int32
}

// A source is a socket that is watched.
type source struct {
	poller *poller
	id     int32
	socket *descriptor
	serve  func(*source) // reads what is there, and has it watched again
}

// newPoller starts workers, one for each processor that Go uses.
func newPoller() (*poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err == nil {
		err = syscall.SetNonblock(fd, true) // which is what has Go's poller watch it
	}
	if err != nil {
		return nil, fmt.Errorf("name server: epoll: %w", err)
	}
	p := &poller{file: os.NewFile(uintptr(fd), "epoll"), sources: map[int32]*source{}}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		return nil, err
	}
	for range runtime.GOMAXPROCS(0) {
		p.workers.Go(p.work)
	}
	return p, nil
}

// close ends the workers.
func (p *poller) close() error {
	err := p.file.Close()
	p.workers.Wait()
	return err
}

// newSource returns a source that is not watched yet.
func (p *poller) newSource(socket *descriptor, serve func(*source)) *source {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.last++; p.last < 0 || p.sources[p.last] != nil; p.last++ {
		p.last = max(p.last, 0) // after 2^31 sources numbers begin again
	}
	s := &source{poller: p, id: p.last, socket: socket, serve: serve}
	p.sources[s.id] = s
	return s
}

// begin has the socket watched the first time.
func (s *source) begin() error { return s.watch(syscall.EPOLL_CTL_ADD) }

// again has the socket watched after it was read. That fails if it is closed.
func (s *source) again() { _ = s.watch(syscall.EPOLL_CTL_MOD) }

// end has the socket no longer watched. A worker may still be reading it.
func (s *source) end() {
	s.poller.mu.Lock()
	delete(s.poller.sources, s.id)
	s.poller.mu.Unlock()
	_ = s.watch(syscall.EPOLL_CTL_DEL) // it may not be there
}

// watch has a socket watched until there is something to read, once, or no
// longer.
func (s *source) watch(op int) error {
	event := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLONESHOT, Fd: s.id}
	var err error
	closed := s.socket.use(func(socket int) {
		gone := s.poller.raw.Control(func(fd uintptr) { err = syscall.EpollCtl(int(fd), op, socket, &event) })
		if gone != nil {
			err = gone
		}
	})
	if closed != nil {
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
	var events [1]syscall.EpollEvent
	ready := func(fd uintptr) bool {
		n, err := syscall.EpollWait(int(fd), events[:], 0)
		return n == 1 && err == nil
	}
	for p.raw.Read(ready) == nil {
		p.mu.RLock()
		s := p.sources[events[0].Fd]
		p.mu.RUnlock()
		if s != nil {
			s.serve(s)
		}
	}
}
