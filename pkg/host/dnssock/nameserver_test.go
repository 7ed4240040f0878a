package dnssock

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/hosttest"
)

func TestOpenNameServer(t *testing.T) {
	hosttest.InSandbox(t, func(path string, cookie uint64) {
		for _, six := range []bool{false, true} {
			// lo is down: after a restart that may be so.
			first, err := Open(path, cookie, 0, six)
			if err != nil {
				t.Fatal(err)
			}
			if is, err := Check(first.UDP, first.TCP, cookie, six); err != nil || is != first {
				t.Errorf("%+v, %v: opened was %+v", is, err, first)
			}
			if _, err := Check(first.UDP, first.TCP, cookie, !six); err == nil {
				t.Error("the other family's address will do, too")
			}
			if _, err := Check(first.UDP, first.TCP, cookie+1, six); err == nil {
				t.Error("any namespace will do")
			}
			second, err := Open(path, cookie, first.Port, six)
			if err != nil || second.Port == first.Port {
				t.Errorf("%+v, %v: the port is %d already", second, err, first.Port)
			}
			second.Close()
			first.Close()
			again, err := Open(path, cookie, first.Port, six)
			if err != nil || again.Port != first.Port {
				t.Errorf("%+v, %v: port %d is free", again, err, first.Port)
			}
			size, err := unix.GetsockoptInt(again.UDP, unix.SOL_SOCKET, unix.SO_RCVBUF)
			if err != nil || size < receiveBuffer {
				t.Errorf("a buffer of %d bytes, %v: want %d", size, err, receiveBuffer)
			}
			again.Close()
		}
	})
}

func TestOpenNameServerGone(t *testing.T) {
	hosttest.InSandbox(t, func(path string, cookie uint64) {
		for _, test := range []struct {
			path   string
			cookie uint64
		}{{path + "0000", cookie}, {"/dev/null", cookie}, {path, cookie + 1}} {
			if s, err := Open(test.path, test.cookie, 0, false); !errors.Is(err, ErrNoSandbox) {
				t.Errorf("%+v: %+v, %v", test, s, err)
			}
		}
	})
}

func TestDialFrom(t *testing.T) {
	hosttest.InSandbox(t, func(path string, cookie uint64) {
		hosttest.LoUp(t)
		s, err := Open(path, cookie, 0, false)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := listener.Addr().String()
		const mark = 7
		// From a thread that is elsewhere.
		dial := func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			done := make(chan struct{})
			go func() {
				defer close(done)
				conn, err = DialFrom(ctx, s.UDP, network, address, mark)
			}()
			<-done
			return conn, err
		}
		ctx := context.Background()
		for _, network := range []string{"udp", "tcp"} {
			conn, err := dial(ctx, network, address)
			if err != nil {
				t.Fatal(err)
			}
			checkDialled(t, conn, cookie, mark)
			_ = conn.Close()
		}
		_ = listener.Close()
		if _, err := dial(ctx, "tcp", address); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("no program listens: %v", err)
		}
		if _, err := dial(ctx, "udp", "192.0.2.1:53"); !errors.Is(err, unix.ENETUNREACH) {
			t.Errorf("no route: %v", err)
		}
		if _, err := dial(ctx, "udp", "name:53"); err == nil {
			t.Error("a name is no literal address")
		}
	})
}

// checkDialled looks at where a connection is, and what it carries.
func checkDialled(t *testing.T, conn net.Conn, cookie uint64, mark int) {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	gone := raw.Control(func(fd uintptr) {
		if is, err := unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err != nil || is != cookie {
			t.Errorf("namespace %d, %v: want %d", is, err, cookie)
		}
		if is, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK); err != nil || is != mark {
			t.Errorf("mark %d, %v: want %d", is, err, mark)
		}
	})
	if gone != nil {
		t.Error(gone)
	}
}

// TestDialFromInTime connects to a listener that does not answer.
func TestDialFromInTime(t *testing.T) {
	hosttest.InSandbox(t, func(path string, cookie uint64) {
		hosttest.LoUp(t)
		s, err := Open(path, cookie, 0, false)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		full := fullListener(t)
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		start := time.Now()
		if conn, err := DialFrom(ctx, s.UDP, "tcp", full.String(), 0); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > time.Second {
			t.Errorf("%v, %v after %v", conn, err, time.Since(start))
		}
	})
}

// fullListener is where one connection waits that is never accepted: the kernel
// answers no other.
func fullListener(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := bound(unix.SOCK_STREAM, "", netip.MustParseAddrPort("127.0.0.1:0"))
	if err == nil {
		err = unix.Listen(fd, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	at, err := localAddress(fd)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		c, err := net.DialTimeout("tcp", at.String(), 100*time.Millisecond)
		if err == nil {
			t.Cleanup(func() { _ = c.Close() })
		}
	}
	return at
}
