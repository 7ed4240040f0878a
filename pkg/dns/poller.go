package dns

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
)

// A poller has a few workers wait for datagrams on all sockets. A socket that
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

	mu        sync.RWMutex
	endpoints map[int32]*Endpoint // by what epoll calls them
	last      int32
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
	p := &poller{file: os.NewFile(uintptr(fd), "epoll"), endpoints: map[int32]*Endpoint{}}
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

// add has a socket watched.
func (p *poller) add(e *Endpoint) error {
	p.mu.Lock()
	for p.last++; p.last < 0 || p.endpoints[p.last] != nil; p.last++ {
		p.last = max(p.last, 0) // after 2^31 endpoints numbers begin again
	}
	e.id = p.last
	p.endpoints[e.id] = e
	p.mu.Unlock()
	err := p.watch(e, syscall.EPOLL_CTL_ADD)
	if err != nil {
		p.remove(e)
	}
	return err
}

// remove has a socket no longer watched. A worker may still be reading it.
func (p *poller) remove(e *Endpoint) {
	p.mu.Lock()
	delete(p.endpoints, e.id)
	p.mu.Unlock()
	_ = p.watch(e, syscall.EPOLL_CTL_DEL) // it may not be there
}

// watch has a socket watched until there is something to read, once, or no
// longer.
func (p *poller) watch(e *Endpoint, op int) error {
	event := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLONESHOT, Fd: e.id}
	var err error
	closed := e.udp.use(func(udp uintptr) {
		gone := p.raw.Control(func(fd uintptr) { err = syscall.EpollCtl(int(fd), op, int(udp), &event) })
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
		e := p.endpoints[events[0].Fd]
		p.mu.RUnlock()
		if e != nil {
			e.serveUDP()
		}
	}
}
