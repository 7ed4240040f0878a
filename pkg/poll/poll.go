// Package poll waits for sockets that package net can't wait for: many at a time
// in few goroutines ([Epoll]), and connections of another network namespace, with
// a mark, or of a protocol that package net has no name for ([Connected]).
//
// Go's own poller does the waiting. A thread that waited in a system call of its
// own would have the Go runtime look after it all the time.
package poll

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What a socket is watched for.
const (
	Readable = unix.EPOLLIN
	Once     = unix.EPOLLONESHOT // with Readable: one event, then none until Change
)

// An Epoll watches sockets for events, with an epoll(7) instance. Its methods may
// be called by any goroutine.
type Epoll struct {
	file *os.File
	raw  syscall.RawConn // of file
}

// New returns an Epoll that watches nothing.
func New() (*Epoll, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // os.NewFile has Go's poller watch such ones
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("set non-blocking", err)
	}
	e := &Epoll{file: os.NewFile(uintptr(fd), "epoll")}
	if e.raw, err = e.file.SyscallConn(); err != nil {
		return nil, err
	}
	return e, nil
}

// Close ends all calls of Each. The sockets stay open.
func (e *Epoll) Close() error { return e.file.Close() }

// SetDeadline has Each return [os.ErrDeadlineExceeded] at a time; the zero time is
// never.
func (e *Epoll) SetDeadline(t time.Time) error { return e.file.SetReadDeadline(t) }

// Add has a socket watched. Its events have the ID.
func (e *Epoll) Add(fd int, id int32, events uint32) error {
	return e.control(unix.EPOLL_CTL_ADD, fd, id, events)
}

// Change changes what a socket is watched for; 0 is nothing.
func (e *Epoll) Change(fd int, id int32, events uint32) error {
	return e.control(unix.EPOLL_CTL_MOD, fd, id, events)
}

// Remove has a socket no longer watched. Closing it would not do where another
// process has the same socket: its events would go on to come.
func (e *Epoll) Remove(fd int) error { return e.control(unix.EPOLL_CTL_DEL, fd, 0, 0) }

func (e *Epoll) control(op, fd int, id int32, events uint32) error {
	event := unix.EpollEvent{Events: events, Fd: id}
	var err error
	if closed := e.raw.Control(func(epoll uintptr) { err = unix.EpollCtl(int(epoll), op, fd, &event) }); closed != nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// Each waits for events and calls f with the IDs of the sockets that have some,
// at most so many in one call. It goes on until the deadline is over, with
// [os.ErrDeadlineExceeded], or the Epoll is closed, with another error. Of several
// goroutines that call Each, one gets an event.
func (e *Epoll) Each(most int, f func(ids []int32)) error {
	events, ids := make([]unix.EpollEvent, most), make([]int32, most)
	n := 0
	ready := func(epoll uintptr) bool {
		var err error
		n, err = unix.EpollWait(int(epoll), events, 0)
		return n > 0 && err == nil
	}
	for {
		if err := e.raw.Read(ready); err != nil {
			return err
		}
		for i, event := range events[:n] {
			ids[i] = event.Fd
		}
		f(ids[:n])
	}
}
