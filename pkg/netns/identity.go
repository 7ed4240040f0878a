package netns

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Own is the path of the process's own network namespace: the namespace of its
// first thread, which never leaves it.
const Own = "/proc/self/ns/net"

// An ID tells namespaces of any kind apart as long as they live. The zero ID is
// no namespace's.
type ID struct{ Dev, Ino uint64 }

// At returns which namespace a path leads to.
func At(path string) (ID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return ID{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return ID{st.Dev, st.Ino}, nil
}

// ID returns which namespace this is.
func (n *NS) ID() (ID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(n.fd, &st); err != nil {
		return ID{}, os.NewSyscallError("fstat", err)
	}
	return ID{st.Dev, st.Ino}, nil
}

// Same reports whether two open namespaces are one.
func (n *NS) Same(other *NS) bool {
	a, err := n.ID()
	b, failed := other.ID()
	return err == nil && failed == nil && a == b
}

// OfSocket opens the network namespace that a socket is in.
func OfSocket(fd int) (*NS, error) {
	ns, err := unix.IoctlRetInt(fd, unix.SIOCGSKNS)
	if err != nil {
		return nil, fmt.Errorf("namespace of a socket: %w", err)
	}
	return &NS{ns}, nil
}

// SocketID returns the network namespace that a socket is in.
func SocketID(fd int) (ID, error) {
	ns, err := OfSocket(fd)
	if err != nil {
		return ID{}, err
	}
	defer ns.Close()
	return ns.ID()
}

// CookieAt returns the cookie of the namespace at a path, see [NS.Cookie].
func CookieAt(path string) (uint64, error) {
	ns, err := Open(path)
	if err != nil {
		return 0, err
	}
	defer ns.Close()
	return ns.Cookie()
}

// Alive reports whether the namespace of a cookie is still at a path. It is true
// where that can't be told.
func Alive(path string, cookie uint64) bool {
	now, err := CookieAt(path)
	if err != nil {
		return !errors.Is(err, os.ErrNotExist) && !errors.Is(err, ErrNotNetNS)
	}
	return now == cookie
}
