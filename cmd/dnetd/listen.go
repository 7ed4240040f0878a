package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"dcni/pkg/host/agent"
)

const (
	maxRequests = 64                     // at a time; more wait at the door
	knockTime   = 500 * time.Millisecond // from when it is let in until it has said what it wants
	lateTime    = 10 * time.Millisecond  // for another look then
	requestTime = 5 * time.Second        // for dnetd's own requests to another dnetd
	shutTime    = time.Second            // how long nobody is let in, at most, while those who are in finish
)

// A door is the unix socket that plugins knock at.
type door struct {
	path     string
	file     os.FileInfo // of the socket, to know it by
	lasting  bool        // systemd made it, and listens there when dnetd has ended
	listener *agent.Listener
	slots    chan struct{} // who is in: requests, and who waits for the next one
	pause    chan struct{} // has a value while nobody is let in

	mu     sync.Mutex
	opened chan struct{} // is closed while the door is open
}

// openDoor makes the socket at a path, unless systemd has made it.
func openDoor(path string, l *net.UnixListener) (*door, error) {
	if l != nil {
		d, err := newDoor(path, l)
		if err == nil {
			d.lasting = true
		}
		return d, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	l, err := agent.Listen(path)
	if err != nil {
		return nil, err
	}
	return newDoor(path, l)
}

// newDoor returns the door of a socket that is open, and writes down that it is
// ours.
func newDoor(path string, socket *net.UnixListener) (*door, error) {
	l, err := agent.NewListener(socket)
	if err != nil {
		return nil, err
	}
	file, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	opener, err := l.Opener()
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	d := &door{
		path: path, file: file, lasting: opener == 1, listener: l,
		slots: make(chan struct{}, maxRequests), pause: make(chan struct{}, 1), opened: make(chan struct{}),
	}
	close(d.opened)
	pid := strconv.Itoa(os.Getpid()) + "\n"
	if err := os.WriteFile(pidPath(path), []byte(pid), 0o644); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return d, nil
}

// pidPath is where the process's ID is, beside the socket.
func pidPath(socket string) string { return filepath.Join(filepath.Dir(socket), "dnetd.pid") }

// readPID returns the process that says it is the dnetd at a socket; 0: none.
func readPID(socket string) int {
	text, err := os.ReadFile(pidPath(socket))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}

// own reports whether the file at the path is still our socket.
func (d *door) own() bool {
	now, err := os.Lstat(d.path)
	return err == nil && os.SameFile(d.file, now)
}

// replaced reports whether the file at the path is there and not ours.
func (d *door) replaced() bool {
	now, err := os.Lstat(d.path)
	return err == nil && !os.SameFile(d.file, now)
}

// leave closes the door and removes its files, if they are still ours.
func (d *door) leave() {
	mine := readPID(d.path) == os.Getpid()
	if mine && d.own() && !d.lasting {
		_ = os.Remove(d.path) // what stays, the next one replaces
	}
	if mine {
		_ = os.Remove(pidPath(d.path))
	}
	_ = d.listener.Close()
}

// listen accepts requests until the context ends, and serves each in a goroutine
// of its own.
func (d *dnetd) listen(ctx context.Context) {
	var served sync.WaitGroup
	served.Go(func() {
		for conn := d.letIn(ctx); conn != nil; conn = d.letIn(ctx) {
			served.Go(func() {
				defer func() { <-d.door.slots }()
				d.welcome(conn)
			})
		}
	})
	<-ctx.Done()
	_ = d.door.listener.Close() // a client that connects now finds no dnetd
	served.Wait()
}

// letIn waits for the next request, which has a slot then; nil once the listener
// is closed.
func (d *dnetd) letIn(ctx context.Context) *agent.Conn {
	for d.door.rest(ctx) {
		select {
		case d.door.slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := d.door.listener.Accept()
		if err == nil {
			return conn
		}
		<-d.door.slots
		switch {
		case errors.Is(err, os.ErrClosed):
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded): // which is how it shuts
			d.log.Warn("a request can't be accepted", "error", err)
			time.Sleep(50 * time.Millisecond) // no descriptors, most likely: some will be closed
		}
	}
	return nil
}

// rest waits until the door is open; false if it never is again.
func (d *door) rest(ctx context.Context) bool {
	d.mu.Lock()
	opened := d.opened
	d.mu.Unlock()
	select {
	case <-opened:
		return true
	case <-ctx.Done():
		return false
	}
}

// shut lets nobody in and waits until nobody is in any more, but for some who
// wait for it. Who knocks meanwhile waits outside, which must not be for long:
// plugins do. So with an error the door is open again: an errand may take as long
// as somebody holds a lock.
func (d *door) shut(but int) error {
	select {
	case d.pause <- struct{}{}:
	default:
		return errors.New("somebody else has just asked for that")
	}
	d.mu.Lock()
	d.opened = make(chan struct{})
	d.mu.Unlock()
	if err := d.listener.SetDeadline(time.Unix(1, 0)); err != nil {
		return err
	}
	limit := time.After(shutTime)
	for got := range maxRequests - but {
		select {
		case d.slots <- struct{}{}:
		case <-limit:
			return errors.Join(fmt.Errorf("a request that came before is not done after %s", shutTime), d.reopen(maxRequests-got))
		}
	}
	return nil
}

// reopen lets requests in again after shut.
func (d *door) reopen(but int) error {
	for range maxRequests - but {
		<-d.slots
	}
	if err := d.listener.SetDeadline(time.Time{}); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	opened := d.opened
	<-d.pause // before anybody comes in who wants the same
	close(opened)
	return nil
}

// welcome serves one connection: a request, and its reply.
func (d *dnetd) welcome(c *agent.Conn) {
	defer func() { _ = c.Close() }() // all was said
	if err := rootOnly(c); err != nil {
		d.log.Warn("a request is refused", "error", err)
		return
	}
	d.answer(c)
}

// rootOnly tells why who is at the other end is not listened to, or nil.
func rootOnly(c *agent.Conn) error {
	peer, err := c.Peer()
	if err == nil && peer.Uid != 0 {
		err = fmt.Errorf("process %d of user %d: only root may ask", peer.Pid, peer.Uid)
	}
	return err
}
