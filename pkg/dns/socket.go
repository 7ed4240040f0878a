package dns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
)

// A socket is a UDP socket that the Go runtime does not watch: its poller would
// be woken by each datagram, also while they are being read, which takes a
// tenth of the processor under load. The embedded connection is none; it is
// what golang.org/x/net recognizes a UDP socket by.
type socket struct {
	*net.UDPConn
	mu sync.RWMutex // held while the descriptor is used
	fd int          // -1: closed
}

// newSocket returns the socket of a descriptor, which it owns, also after an error.
func newSocket(fd int) (*socket, error) {
	s := &socket{UDPConn: &net.UDPConn{}, fd: fd}
	kind, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TYPE)
	if err == nil && kind != syscall.SOCK_DGRAM {
		err = fmt.Errorf("its type is %d: must be %d", kind, syscall.SOCK_DGRAM)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("name server: descriptor %d is no UDP socket: %w", fd, err), s.Close())
	}
	return s, nil
}

// detach takes a UDP socket from the runtime, and closes udp.
func detach(udp net.PacketConn) (*socket, error) {
	if s, is := udp.(*socket); is {
		return s, nil
	}
	conn, is := udp.(syscall.Conn)
	if !is {
		return nil, fmt.Errorf("name server socket: %T has no descriptor", udp)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("name server socket: %w", err)
	}
	var own uintptr
	var errno syscall.Errno
	err = raw.Control(func(fd uintptr) {
		own, _, errno = syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_DUPFD_CLOEXEC, 0)
	})
	if errno != 0 {
		err = os.NewSyscallError("fcntl", errno)
	}
	_ = udp.Close() // the socket stays, by the other descriptor
	if err != nil {
		return nil, fmt.Errorf("name server socket: %w", err)
	}
	return newSocket(int(own))
}

// LocalAddr is for golang.org/x/net to put in its errors.
func (s *socket) LocalAddr() net.Addr { return somewhere }

var somewhere = &net.UDPAddr{}

// Close closes the descriptor once nobody uses it.
func (s *socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return nil
	}
	err := os.NewSyscallError("close", syscall.Close(s.fd))
	s.fd = -1
	return err
}

// use calls f with the descriptor, which stays open meanwhile.
func (s *socket) use(f func(fd uintptr)) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.fd < 0 {
		return net.ErrClosed
	}
	f(uintptr(s.fd))
	return nil
}

// SyscallConn has golang.org/x/net use the descriptor. Calls must not wait
// (MSG_DONTWAIT).
func (s *socket) SyscallConn() (syscall.RawConn, error) { return rawSocket{s}, nil }

// rawSocket is a socket as a [syscall.RawConn].
type rawSocket struct{ socket *socket }

func (r rawSocket) Control(f func(fd uintptr)) error { return r.socket.use(f) }

func (r rawSocket) Read(f func(fd uintptr) bool) error {
	r.socket.mu.RLock()
	defer r.socket.mu.RUnlock()
	if r.socket.fd < 0 {
		return net.ErrClosed
	}
	f(uintptr(r.socket.fd))
	return nil
}

func (r rawSocket) Write(f func(fd uintptr) bool) error { return r.Read(f) }
