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
	"dcni/pkg/records/disk"
)

const (
	maxRequests         = 64                     // served at a time; the kernel queues more
	firstMessageTimeout = 500 * time.Millisecond // from accepting a connection until its request has come
	lateMessageTimeout  = 10 * time.Millisecond  // for a second look at the connection then
	requestTimeout      = 5 * time.Second        // for dnetd's own requests to another dnetd
	pauseTimeout        = time.Second            // how long a pause waits for the requests that are being served
)

// A listener is the unix socket that plugins connect to.
type listener struct {
	path      string
	file      os.FileInfo // identifies the socket's file
	bySystemd bool        // systemd made the socket, and listens there when dnetd has ended
	socket    *agent.Listener
	semaphore chan struct{} // one value for each request that is served, and one for accept
	pausing   chan struct{} // has a value while no request is accepted

	mu      sync.Mutex
	resumed chan struct{} // is closed while requests are accepted
}

// openListener makes the socket at a path, unless systemd has made it.
func openListener(path string, l *net.UnixListener) (*listener, error) {
	if l != nil {
		opened, err := newListener(path, l)
		if err == nil {
			opened.bySystemd = true
		}
		return opened, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	l, err := agent.Listen(path)
	if err != nil {
		return nil, err
	}
	return newListener(path, l)
}

// newListener returns the listener of a socket that is open, and writes the
// process's ID beside it.
func newListener(path string, l *net.UnixListener) (*listener, error) {
	socket, err := agent.NewListener(l)
	if err != nil {
		return nil, err
	}
	file, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	opener, err := socket.Opener()
	if err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	opened := &listener{
		path: path, file: file, bySystemd: opener == 1, socket: socket,
		semaphore: make(chan struct{}, maxRequests), pausing: make(chan struct{}, 1), resumed: make(chan struct{}),
	}
	close(opened.resumed)
	pid := strconv.Itoa(os.Getpid()) + "\n"
	if err := writePID(pidPath(path), pid); err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	return opened, nil
}

// pidPath is where the process's ID is, beside the socket.
func pidPath(socket string) string { return filepath.Join(filepath.Dir(socket), "dnetd.pid") }

// writePID replaces the file with the process's ID, whatever has its name.
func writePID(path, pid string) error {
	temp := path + ".new"
	if err := errors.Join(os.RemoveAll(temp), os.WriteFile(temp, []byte(pid), 0o644)); err != nil {
		return err
	}
	err := os.Rename(temp, path)
	if err != nil { // a directory
		err = errors.Join(os.RemoveAll(path), os.Rename(temp, path))
	}
	return err
}

// readPID returns the process that says it is the dnetd at a socket; 0: none.
func readPID(socket string) int {
	text, err := disk.ReadRegular(pidPath(socket))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}

// owned reports whether the file at the path is still this listener's socket.
func (l *listener) owned() bool {
	now, err := os.Lstat(l.path)
	return err == nil && os.SameFile(l.file, now)
}

// replaced reports whether another file is at the path.
func (l *listener) replaced() bool {
	now, err := os.Lstat(l.path)
	return err == nil && !os.SameFile(l.file, now)
}

// leave closes the socket, and removes its files if they are still this
// process's.
func (l *listener) leave() {
	mine := readPID(l.path) == os.Getpid()
	if mine && l.owned() && !l.bySystemd {
		_ = os.Remove(l.path) // the next dnetd replaces a file that stays
	}
	if mine {
		_ = os.Remove(pidPath(l.path))
	}
	_ = l.socket.Close()
}

// listen accepts requests until the context ends, and serves each in a goroutine
// of its own.
func (d *dnetd) listen(ctx context.Context) {
	var served sync.WaitGroup
	served.Go(func() {
		for conn := d.accept(ctx); conn != nil; conn = d.accept(ctx) {
			served.Go(func() {
				defer func() { <-d.listener.semaphore }()
				d.handle(conn)
			})
		}
	})
	<-ctx.Done()
	_ = d.listener.socket.Close() // a client that connects now finds no dnetd
	served.Wait()
}

// accept acquires the semaphore and returns the next connection, or nil once the
// socket is closed.
func (d *dnetd) accept(ctx context.Context) *agent.Conn {
	for d.listener.waitOpen(ctx) {
		select {
		case d.listener.semaphore <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := d.listener.socket.Accept()
		if err == nil {
			return conn
		}
		<-d.listener.semaphore
		switch {
		case errors.Is(err, os.ErrClosed):
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded): // pauseAccept sets a deadline
			d.log.Warn("a request can't be accepted", "error", err)
			time.Sleep(50 * time.Millisecond) // dnetd is most likely out of descriptors; some will be closed
		}
	}
	return nil
}

// waitOpen waits until requests are accepted; false if the context ends first.
func (l *listener) waitOpen(ctx context.Context) bool {
	l.mu.Lock()
	resumed := l.resumed
	l.mu.Unlock()
	select {
	case <-resumed:
		return true
	case <-ctx.Done():
		return false
	}
}

// pauseAccept stops accepting requests, and waits until none is served but for
// own, which are the caller's. The kernel queues requests that come during the
// pause, which must be short: plugins wait for them. With an error, requests are
// accepted again.
func (l *listener) pauseAccept(own int) error {
	select {
	case l.pausing <- struct{}{}:
	default:
		return errors.New("another pause has begun")
	}
	l.mu.Lock()
	l.resumed = make(chan struct{})
	l.mu.Unlock()
	if err := l.socket.SetDeadline(time.Unix(1, 0)); err != nil {
		return err
	}
	limit := time.After(pauseTimeout)
	for acquired := range maxRequests - own {
		select {
		case l.semaphore <- struct{}{}:
		case <-limit:
			return errors.Join(fmt.Errorf("an earlier request is still served after %s", pauseTimeout), l.resumeAccept(maxRequests-acquired))
		}
	}
	return nil
}

// resumeAccept accepts requests again after pauseAccept.
func (l *listener) resumeAccept(own int) error {
	for range maxRequests - own {
		<-l.semaphore
	}
	if err := l.socket.SetDeadline(time.Time{}); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	resumed := l.resumed
	<-l.pausing // first: the next request may want a pause itself
	close(resumed)
	return nil
}

// handle serves one connection: a request, and its reply.
func (d *dnetd) handle(c *agent.Conn) {
	defer func() { _ = c.Close() }() // the reply is sent
	if err := rootOnly(c); err != nil {
		d.log.Warn("a request is refused", "error", err)
		return
	}
	d.answer(c)
}

// rootOnly returns an error if the process at the other end is not root's.
func rootOnly(c *agent.Conn) error {
	peer, err := c.Peer()
	if err == nil && peer.Uid != 0 {
		err = fmt.Errorf("process %d of user %d: only root may ask", peer.Pid, peer.Uid)
	}
	return err
}
