// Package spaces has open the network namespaces that a process works in: the one that it
// was started in, and sandboxes, each once. Each has its sockets: a socket that is opened
// in a namespace keeps working from outside.
//
// What package host has for each kind of object is in packages of one subject each, which
// all work on one [Set].
package spaces

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dcni/pkg/host/nlsock"
	"dcni/pkg/host/rtnl"
	"dcni/pkg/netns"
	"dcni/pkg/wire"
)

// Set is the namespaces that are open. It is for one piece of work, see [Set.Link], or
// told of what changed.
type Set struct {
	Root *Space // the namespace that the process was started in

	mu    sync.Mutex
	open  map[string]*Space
	links map[linkName]*rtnl.Link // see Link
	proc  *os.File                // see ownProc; nil until first used
}

// New opens the namespace of the process. Close the set after use.
func New() (*Set, error) {
	rt, err := rtnl.Dial()
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	return &Set{Root: &Space{RT: rt}, open: map[string]*Space{}, links: map[linkName]*rtnl.Link{}}, nil
}

// Close lets go of sockets and namespaces.
func (s *Set) Close() {
	s.Root.close()
	if s.proc != nil {
		s.proc.Close()
	}
	for _, space := range s.open {
		space.close()
	}
}

// Space is a network namespace with sockets in it: only settings below /proc/sys need a
// thread inside.
type Space struct {
	NS *netns.NS // nil for the process's own
	RT *rtnl.Conn

	cookie uint64          // see [netns.NS.Cookie]; of those that were opened by path
	own    bool            // it is the process's own, by a path
	route  *netlink.Handle // nil until first used
	nft    *nlsock.Conn    // nil until first used
}

func (s *Space) close() {
	s.RT.Close()
	if s.route != nil {
		s.route.Close()
	}
	if s.nft != nil {
		s.nft.Close()
	}
	if s.NS != nil {
		s.NS.Close()
	}
}

// Do runs fn on a thread of the namespace.
func (s *Space) Do(fn func() error) error {
	if s.NS == nil {
		return fn()
	}
	return s.NS.Do(fn)
}

// Netfilter returns the namespace's socket for tables. See [Space.DialNetfilter].
func (s *Space) Netfilter() (*nlsock.Conn, error) {
	if s.nft == nil {
		if err := s.Do(s.DialNetfilter); err != nil {
			return nil, err
		}
	}
	return s.nft, nil
}

// DialNetfilter opens the socket for tables where that is not done. The calling thread is
// in the namespace: who is there for something else saves a visit.
func (s *Space) DialNetfilter() (err error) {
	if s.nft == nil {
		s.nft, err = nlsock.Dial(unix.NETLINK_NETFILTER)
	}
	return err
}

// In returns a namespace by path: the process's own for "", and for "" only. A path that
// leads there is an error: what was planned for a sandbox would become the host's.
func (s *Set) In(netns string) (*Space, error) {
	if netns == "" {
		return s.Root, nil
	}
	space, err := s.Open(netns)
	if err == nil && space.own {
		return nil, wire.Errorf(wire.CodeNetNS, "CNI_NETNS %q: must not be the host's own network namespace", netns)
	}
	return space, err
}

// Open opens a network namespace by path, once for the life of the set. Its error is of
// [wire.CodeNetNS].
func (s *Set) Open(path string) (*Space, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if space, ok := s.open[path]; ok {
		return space, nil
	}
	ns, err := netns.Open(path)
	if err != nil {
		return nil, Error(path, err)
	}
	space := &Space{NS: ns}
	err = ns.Do(func() (err error) {
		space.RT, err = rtnl.Dial()
		return err
	})
	if err != nil {
		ns.Close()
		return nil, Error(path, err)
	}
	if err := s.identify(space); err != nil {
		space.close()
		return nil, err
	}
	s.open[path] = space
	return space, nil
}

// identify finds out which namespace was opened.
func (s *Set) identify(space *Space) error {
	own, err := s.Root.RT.Cookie()
	if err == nil {
		space.cookie, err = space.RT.Cookie()
	}
	space.own = space.cookie == own
	return err
}

// Look returns a namespace that is only read, by path: the process's own for "" and for a
// path that leads there.
func (s *Set) Look(path string) (*Space, error) {
	if path == "" {
		return s.Root, nil
	}
	return s.Open(path)
}

// Sandbox opens a sandbox, and says which it is.
func (s *Set) Sandbox(path string) (wire.Sandbox, error) {
	space, err := s.Open(path)
	if err != nil {
		return wire.Sandbox{}, err
	}
	return wire.Sandbox{Cookie: space.cookie, Own: space.own}, nil
}

// Forget closes a namespace that was opened by a path, if any, and forgets what links
// there are: the path leads elsewhere from now on.
func (s *Set) Forget(path string) {
	s.Changed()
	s.mu.Lock()
	defer s.mu.Unlock()
	if space, ok := s.open[path]; ok {
		space.close()
		delete(s.open, path)
	}
}

// Error says of a path that it leads to no network namespace.
func Error(path string, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return wire.Errorf(wire.CodeNetNS, "CNI_NETNS %q: no such network namespace", path)
	}
	return &wire.Error{Code: wire.CodeNetNS, Msg: fmt.Sprintf("CNI_NETNS %q: must be a network namespace", path), Err: err}
}

// Handle returns the library's netlink handle of a namespace: the process's own for "".
func (s *Set) Handle(netns string) (*netlink.Handle, error) {
	space, err := s.In(netns)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if space.route == nil {
		err = space.Do(func() (err error) {
			space.route, err = netlink.NewHandle(unix.NETLINK_ROUTE)
			return err
		})
	}
	return space.route, err
}

// Run runs fn on a thread of a namespace: here for "".
func (s *Set) Run(netns string, fn func() error) error {
	space, err := s.In(netns)
	if err != nil {
		return err
	}
	return space.Do(fn)
}
