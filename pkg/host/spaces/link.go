package spaces

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dcni/pkg/host/rtnl"
	"dcni/pkg/wire"
)

type linkName struct{ netns, name string }

// Link finds a link by name in a namespace. What it found is good until the set is told
// that a link changed: a set is for one piece of work, in which several objects on one
// link come one after the other. If another program changes it in between, the kernel
// refuses the index.
func (s *Set) Link(netns, name string) (*rtnl.Conn, *rtnl.Link, error) {
	space, err := s.In(netns)
	if err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	found, ok := s.links[linkName{netns, name}]
	s.mu.Unlock()
	if ok {
		return space.RT, found, nil
	}
	if found, err = space.RT.LinkByName(name); err != nil {
		return nil, nil, fmt.Errorf("link %s: %w", name, err)
	}
	s.mu.Lock()
	s.links[linkName{netns, name}] = found
	s.mu.Unlock()
	return space.RT, found, nil
}

// Changed forgets what Link found: a link is being changed.
func (s *Set) Changed() {
	s.mu.Lock()
	clear(s.links)
	s.mu.Unlock()
}

// HasLink reports whether a namespace has a link of that name. The caller is about
// to make it, and to write its settings.
func (s *Set) HasLink(netns, name string) (bool, error) {
	go s.ownProc() //nolint:errcheck // the caller that needs it asks again
	_, _, err := s.Link(netns, name)
	if NotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// LibraryLink finds a link by name in a namespace, as the library has it.
func (s *Set) LibraryLink(netns, name string) (*netlink.Handle, netlink.Link, error) {
	nl, err := s.Handle(netns)
	if err != nil {
		return nil, nil, err
	}
	l, err := nl.LinkByName(name)
	if err != nil {
		return nil, nil, fmt.Errorf("link %s: %w", name, err)
	}
	return nl, l, nil
}

// NotFound reports whether a link is not there.
func NotFound(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.As(err, &missing) || errors.Is(err, unix.ENODEV)
}

// Gone reports whether what was to be removed is not there any more, be it
// itself, its link, or its namespace.
func Gone(err error) bool {
	var e *wire.Error
	return NotFound(err) ||
		errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EADDRNOTAVAIL) ||
		errors.As(err, &e) && e.Code == wire.CodeNetNS
}

// UnlessGone returns the error of a removal: nil where it says that there was nothing.
func UnlessGone(err error) error {
	if Gone(err) {
		return nil
	}
	return err
}
