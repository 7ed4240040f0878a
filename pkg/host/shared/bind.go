package shared

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/detach"
	"dcni/pkg/host/rtnl"
	"dcni/pkg/netns"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// bind is a [wire.NetNSBind].
type bind struct {
	h Shared
	o *wire.NetNSBind
}

// bindOf is the bind that a record tells of.
func (h Shared) bindOf(r *records.Record) bind {
	return bind{h, &wire.NetNSBind{Owner: r.Attachment, Path: r.NetNS, Original: r.Cookie, Shared: r.Target}}
}

// needless reports whether the path led to the namespace from the start, or
// nothing is known of a path. Nothing was mounted then.
func (b bind) needless() bool { return b.o.Path == "" || b.o.Original == b.o.Shared }

// Ensure starts the one that takes the bind away again before there is any: it
// does so too if this process dies.
func (b bind) Ensure() (bool, error) {
	if b.needless() || b.leadsTo(b.o.Shared) == nil {
		return false, nil
	}
	source, err := b.openSource()
	if err != nil {
		return false, err
	}
	defer source.Close()
	if err := b.startReaper(); err != nil {
		return false, fmt.Errorf("start %s: %w", PopCommand, err)
	}
	defer b.h.Forget(b.o.Path)
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", source.Fd()), b.o.Path, "", unix.MS_BIND, ""); err != nil {
		return false, err
	}
	// In a shared directory, or over a shared namespace's path, it became one
	// of the peers: what is mounted over those would show here.
	if err := unix.Mount("", b.o.Path, "", unix.MS_PRIVATE, ""); err != nil {
		return true, err
	}
	return true, b.leadsTo(b.o.Shared)
}

// openSource opens the namespace that is to be shared. Another one may be at its path by
// now: only what is open is mounted.
func (b bind) openSource() (*netns.NS, error) {
	ns, err := netns.Open(b.o.Source)
	if err != nil {
		return nil, err
	}
	cookie, err := ns.Cookie()
	if err == nil && cookie != b.o.Shared {
		err = errors.New("leads to another network namespace than a moment ago")
	}
	if err != nil {
		ns.Close()
		return nil, fmt.Errorf("%s: %w", b.o.Source, err)
	}
	return ns, nil
}

// leadsTo wants the namespace at the path to be one of those with these cookies.
func (b bind) leadsTo(cookies ...uint64) error {
	have, err := netns.CookieAt(b.o.Path)
	if err != nil {
		return err
	}
	if !slices.Contains(cookies, have) {
		return errors.New("the path leads to another network namespace")
	}
	return nil
}

// Check is content with a path that leads to the sandbox's own namespace again:
// the container has joined by now.
func (b bind) Check() error { return b.leadsTo(b.o.Shared, b.o.Original) }

// Remove takes the bind away where it still is, and nothing else that may be
// mounted there: it unmounts what it has open and has looked at, so a path that
// is made again at that moment is not hit. What is mounted over the bind in these
// microseconds would be: umount2 takes the topmost mount there, through a
// descriptor as well, and what is covered can't be unmounted. Then others may
// have been given the path while it led elsewhere, and taken lo down there, as
// containerd does when a pod stops: up it goes.
func (b bind) Remove() error {
	if b.needless() {
		return nil
	}
	ns, err := netns.Open(b.o.Path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, netns.ErrNotNetNS) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer ns.Close()
	if cookie, err := ns.Cookie(); err != nil || cookie != b.o.Shared {
		return err
	}
	defer b.h.Forget(b.o.Path)
	return ns.Do(func() error {
		rt, err := rtnl.Dial()
		if err != nil {
			return err
		}
		defer rt.Close()
		// Before, for a process that is killed in between: the next one finds
		// no bind, and nothing to look after. And after, for then no program can
		// take it down by this path any more.
		_, before := rt.RaiseLo()
		gone := unix.Unmount(fmt.Sprintf("/proc/self/fd/%d", ns.Fd()), unix.MNT_DETACH)
		_, after := rt.RaiseLo()
		return errors.Join(before, gone, after)
	})
}

func (b bind) Probe() error { return nil }

// startReaper starts this program once more, to outlive this process. It is in the
// runtime's namespaces, for there the bind is seen. See [Shared.Pop].
func (b bind) startReaper() error {
	a := b.o.Owner
	p, err := detach.Command{
		Path: detach.Self, Args: []string{os.Args[0], PopCommand, a.Network, a.Container, a.IfName},
		Env: []string{}, Dir: "/", Files: make([]*os.File, 3),
	}.Start()
	if err != nil {
		return err
	}
	return p.Release()
}
