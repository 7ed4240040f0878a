package shared

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/nlsock"
	"dcni/pkg/host/proc"
	"dcni/pkg/host/rtnl"
	"dcni/pkg/netns"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// PopCommand is the word on its command line by which a plugin knows that it is
// to [Shared.Pop]; behind it are network, container and interface.
const PopCommand = "pop"

// How long to wait for the container's first process, and how often to look.
// Runtimes take some 30 ms from ADD; looking costs two system calls for each
// process of the machine, so it is done ever more seldom.
const (
	reapLimit    = 30 * time.Second
	reapFirst    = 2 * time.Millisecond
	reapSlowest  = 250 * time.Millisecond
	reapFraction = 16 // of the time that has passed is waited next
)

// Pop takes a bind away when the container's first process has joined, when its
// record goes, when lo is taken down through it, or after 30 s. A bind of
// an ADD that died goes at once: the lock that Pop waits for is free only after
// ADD. It is the last thing that a process does, for it watches over lo to its
// end.
func (h Shared) Pop(a wire.Attachment, plugin string) error {
	_ = os.WriteFile("/proc/self/comm", []byte(plugin), 0) // started as /proc/self/exe, it is called exe
	p := bindReaper{h: h, owner: a, plugin: plugin}
	return errors.Join(p.wait(), p.reap())
}

// bindReaper is at work on one attachment.
type bindReaper struct {
	h      Shared
	owner  wire.Attachment
	plugin string
	since  time.Time // when ADD was done; zero: it was not
}

// begin waits for ADD, and returns its record if it did not fail.
func (p *bindReaper) begin() (*records.Record, error) {
	lock, err := p.h.Records.LockAttachment(p.owner)
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	r, err := p.read()
	if err != nil || r == nil || r.State != records.Up {
		return nil, err
	}
	p.since = r.Since
	return r, nil
}

// read returns the attachment's record, nil if there is none.
func (p *bindReaper) read() (*records.Record, error) {
	r, err := p.h.Records.Get(p.owner, p.plugin)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return r, err
}

// current reports whether the attachment still is the one that this is about.
func (p *bindReaper) current() bool {
	r, err := p.read()
	return err == nil && r != nil && r.State == records.Up && r.Since.Equal(p.since)
}

// reap takes the bind away. Without a record, DEL has done so; one that is up
// since another time is another ADD's. Else it is ours, or an ADD or DEL died
// over it: then the record goes as well, for a GC that comes now finds the
// attachment locked, and leaves it alone.
func (p *bindReaper) reap() error {
	lock, err := p.h.Records.LockAttachment(p.owner)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	r, err := p.read()
	if err != nil || r == nil || r.State == records.Up && !r.Since.Equal(p.since) {
		return err
	}
	if err := p.h.bindOf(r).Remove(); err != nil || r.State == records.Up {
		return err
	}
	return p.h.Records.Delete(p.owner, p.plugin)
}

// wait returns when the bind is to go.
func (p *bindReaper) wait() error {
	r, err := p.begin()
	if err != nil || r == nil {
		return err
	}
	if err := p.h.bindOf(r).leadsTo(r.Target); err != nil {
		return err
	}
	ns, err := netns.Open(r.NetNS)
	if err != nil {
		return err
	}
	down := make(chan error, 1)
	err = ns.Do(func() error { return keepLoUp(down) })
	ns.Close() // an open file keeps the sandbox's own mount from being taken away
	if err != nil {
		return err
	}
	joined, err := newJoined(r)
	if err != nil {
		return err
	}
	for begin := time.Now(); time.Since(begin) < reapLimit && p.current() && !joined.any(); {
		select {
		case err := <-down:
			return err
		case <-time.After(min(max(reapFirst, time.Since(begin)/reapFraction), reapSlowest)):
		}
	}
	return nil
}

// joined looks for a container's first process in the namespace that its
// sandbox shares.
//
// That it is there says little where the namespace is the host's, for a
// runtime's helpers are, too. That it has another mount namespace than ours
// says that it is past joining: runc joins namespaces first and makes new ones
// after, crun opens them first.
type joined struct {
	container   string
	net, mounts netns.ID // the shared namespace; ours
}

func newJoined(r *records.Record) (joined, error) {
	net, err := netns.At(r.NetNS)
	if err != nil {
		return joined{}, err
	}
	mounts, err := netns.At("/proc/self/ns/mnt")
	return joined{r.Container, net, mounts}, err
}

func (j joined) any() bool {
	for p := range proc.All() {
		if p.Namespace("net") != j.net {
			continue
		}
		mounts := p.Namespace("mnt")
		if mounts != (netns.ID{}) && mounts != j.mounts && p.Belongs(j.container) {
			return true
		}
	}
	return false
}

// keepLoUp brings lo up again whenever it goes down in the calling thread's
// namespace, from now on until the process ends, and says so on the channel.
func keepLoUp(down chan<- error) error {
	events, err := nlsock.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	rt, err := rtnl.Dial()
	if err == nil {
		err = events.Join(unix.RTNLGRP_LINK)
	}
	if err != nil {
		return err
	}
	go func() {
		for {
			was, err := rt.RaiseLo() // whatever the events say, and if some are lost
			if was || err != nil {
				select {
				case down <- err:
				default: // said before
				}
			}
			if err := events.Wait(); err != nil {
				return
			}
		}
	}()
	return nil
}
