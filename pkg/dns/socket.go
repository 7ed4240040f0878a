package dns

import (
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
)

// A descriptor is an open socket that the Go runtime does not watch.
type descriptor struct {
	mu sync.RWMutex // held while it is used
	fd int          // -1: closed
}

// Close closes the descriptor once no call of use is left.
func (d *descriptor) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fd < 0 {
		return nil
	}
	err := os.NewSyscallError("close", syscall.Close(d.fd))
	d.fd = -1
	return err
}

// use calls f with the descriptor, which stays open until f returns.
func (d *descriptor) use(f func(fd int)) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.fd < 0 {
		return net.ErrClosed
	}
	f(d.fd)
	return nil
}

// check returns an error unless the descriptor is a socket of a type (SOCK_STREAM
// or SOCK_DGRAM), and a stream one listens.
func (d *descriptor) check(kind int) error {
	is, err := syscall.GetsockoptInt(d.fd, syscall.SOL_SOCKET, syscall.SO_TYPE)
	if err == nil && is != kind {
		err = fmt.Errorf("socket type is %d: must be %d", is, kind)
	}
	if err == nil && kind == syscall.SOCK_STREAM {
		var listens int
		listens, err = syscall.GetsockoptInt(d.fd, syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
		if err == nil && listens == 0 {
			err = fmt.Errorf("it does not listen")
		}
	}
	if err != nil {
		return fmt.Errorf("name server: descriptor %d: %w", d.fd, err)
	}
	return nil
}

// A socket is a UDP socket that Go's poller does not watch. Each datagram would wake
// the poller, even while a worker reads, which takes a tenth of the processor under
// load. The embedded connection is unused: golang.org/x/net recognizes a UDP socket
// by its type.
type socket struct {
	*net.UDPConn
	descriptor
}

// newSocket returns the socket of a descriptor, which it owns.
func newSocket(fd int) *socket {
	return &socket{UDPConn: &net.UDPConn{}, descriptor: descriptor{fd: fd}}
}

// Close closes the descriptor once no call of use is left.
func (s *socket) Close() error { return s.descriptor.Close() }

// LocalAddr is what golang.org/x/net puts in its errors.
func (s *socket) LocalAddr() net.Addr { return somewhere }

var somewhere = &net.UDPAddr{}

// SyscallConn has golang.org/x/net use the descriptor. Calls must not wait
// (MSG_DONTWAIT).
func (s *socket) SyscallConn() (syscall.RawConn, error) { return rawSocket{s}, nil }

// rawSocket is a socket as a [syscall.RawConn].
type rawSocket struct{ socket *socket }

func (r rawSocket) Control(f func(fd uintptr)) error {
	return r.socket.use(func(fd int) { f(uintptr(fd)) })
}

func (r rawSocket) Read(f func(fd uintptr) bool) error {
	return r.socket.use(func(fd int) { f(uintptr(fd)) })
}

func (r rawSocket) Write(f func(fd uintptr) bool) error { return r.Read(f) }
