package agent

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// absent says what it means when a connection breaks before its reply: that
// dnetd was ending as it was asked.
func absent(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		return fmt.Errorf("%w: it has ended", ErrAbsent)
	}
	return err
}

// Listen makes the socket at a path, for root alone, in place of one that a dnetd
// left that was killed. The file stays when the listener is closed: it may be
// another's by then.
func Listen(path string) (*net.UnixListener, error) {
	old, err := os.Lstat(path)
	if err == nil && old.Mode().Type() != os.ModeSocket {
		return nil, fmt.Errorf("%s is there, and is no socket", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	was := unix.Umask(0o177)
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	unix.Umask(was)
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	return l, nil
}

// A Listener is a socket that connections come from.
type Listener struct {
	file   *os.File
	raw    syscall.RawConn
	closed atomic.Bool
}

// NewListener returns one in place of l, which is closed. Its file stays.
func NewListener(l *net.UnixListener) (*Listener, error) {
	l.SetUnlinkOnClose(false)
	file, err := l.File()
	if err = errors.Join(err, l.Close()); err != nil {
		return nil, err
	}
	raw, err := file.SyscallConn()
	return &Listener{file: file, raw: raw}, err
}

// Accept waits for the next connection. The error is os.ErrClosed once the listener
// is, and os.ErrDeadlineExceeded after the deadline.
func (l *Listener) Accept() (*Conn, error) {
	c, err := &Conn{}, error(nil)
	gone := l.raw.Read(func(fd uintptr) bool {
		c.fd, _, err = unix.Accept4(int(fd), unix.SOCK_CLOEXEC)
		return !errors.Is(err, unix.EAGAIN)
	})
	switch {
	case gone == nil && err == nil:
		return c, nil
	case gone == nil:
		return nil, os.NewSyscallError("accept4", err)
	case l.closed.Load(): // which a RawConn does not tell
		return nil, os.ErrClosed
	}
	return nil, gone
}

// SetDeadline says until when Accept waits; zero: for ever.
func (l *Listener) SetDeadline(t time.Time) error { return l.file.SetDeadline(t) }

// Control calls f with the descriptor, which stays open while f runs.
func (l *Listener) Control(f func(fd uintptr)) error { return l.raw.Control(f) }

// Close closes the socket. Others may have it open, too.
func (l *Listener) Close() error {
	l.closed.Store(true)
	return l.file.Close()
}

// Opener returns the ID of the process that made the socket: another's where it
// was handed over.
func (l *Listener) Opener() (pid int, err error) {
	gone := l.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, err = credentials(int(fd)); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid, errors.Join(gone, err)
}
