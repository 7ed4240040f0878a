package host

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"dcni/pkg/netns"
)

// A Namespace tells network namespaces apart as long as they live.
type Namespace = nsID

// NamespaceOf returns the network namespace that a socket is in.
func NamespaceOf(fd int) (Namespace, error) {
	ns, err := SocketNamespace(fd)
	if err != nil {
		return Namespace{}, err
	}
	defer ns.Close()
	var st unix.Stat_t
	if err := unix.Fstat(ns.Fd(), &st); err != nil {
		return Namespace{}, os.NewSyscallError("fstat", err)
	}
	return Namespace{st.Dev, st.Ino}, nil
}

// NamespaceAt returns the namespace that a path leads to.
func NamespaceAt(path string) (Namespace, error) { return nsAt(path) }

// SocketNamespace opens the network namespace that a socket is in.
func SocketNamespace(fd int) (*netns.NS, error) {
	ns, err := unix.IoctlRetInt(fd, unix.SIOCGSKNS)
	if err != nil {
		return nil, fmt.Errorf("namespace of a socket: %w", err)
	}
	return netns.FromFD(ns), nil
}

// OwnCookie returns the cookie of the process's own network namespace.
func OwnCookie() (uint64, error) {
	ns, err := netns.Open(ownNetNS)
	if err != nil {
		return 0, err
	}
	defer ns.Close()
	return ns.Cookie()
}
