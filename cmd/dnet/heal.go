package main

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"dcni/pkg/container"
	"dcni/pkg/host/sandbox"
	"dcni/pkg/records"
	"dcni/pkg/records/disk"
)

// heal cleans up after containers whose dnet was killed. It knows them by their
// lock, which is free. A container that can't be cleaned up stays on record; heal
// prints a warning and goes on. Without permission to read records, heal does
// nothing.
func (a *app) heal() {
	list, err := a.store.Containers()
	if errors.Is(err, fs.ErrPermission) {
		return
	}
	defer a.waits.clear()
	for _, err := range []error{err, a.store.SweepContainers(), a.store.SweepConf(a.conf)} {
		if err != nil {
			a.warn("%v", err)
		}
	}
	for _, c := range list {
		if c.Unreadable != nil {
			if err := a.healUnreadable(c); err != nil {
				a.warn("%v", err)
			}
			continue
		}
		if c.Stage == records.Exited {
			continue
		}
		if err := a.healOne(c.ID); err != nil {
			a.warn("clean up container %s: %v", c.Name, err)
		}
	}
	if err := a.followLinks(list); err != nil {
		a.warn("links: %v", err)
	}
	if err := a.healConnections(); err != nil {
		a.warn("clean up connections: %v", err)
	}
}

// healConnections ends the connections of containers that are gone, whichever runtime's they
// were, and those that a dnet has left which was killed.
func (a *app) healConnections() error {
	containers, err := a.store.Connected()
	if err != nil || len(containers) == 0 {
		return err
	}
	m, err := a.openHost(a.store)
	if err != nil {
		return err
	}
	defer m.Close()
	_, err = a.connectionsOf(m).Reap()
	return err
}

// healOne cleans up after a container unless its dnet still runs.
func (a *app) healOne(id string) error {
	lock, free, err := a.store.TryLockContainer(id)
	if err != nil || !free {
		return err
	}
	defer lock.Unlock()
	a.waiting("cleaning up container %s", container.ShortID(id))
	return a.healLocked(id)
}

// healLocked cleans up after a container whose dnet is gone. The caller holds the
// container's lock.
func (a *app) healLocked(id string) error {
	c, err := a.store.Container(id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil || c.Stage == records.Exited:
		return err
	}
	c.ExitCode = killed
	c.Remove = c.Remove || c.NeverRan()
	return a.finish(c, "")
}

// endConnections detaches a container that has ended from what it was connected to.
func (a *app) endConnections(c *records.Container, netns string) error {
	if !a.store.HasConnections(c.ID) {
		return nil
	}
	lock, err := a.store.LockConnections(c.ID)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	m, err := a.openHost(a.store)
	if err != nil {
		return err
	}
	defer m.Close()
	return a.connectionsOf(m).End(c.ID, netns)
}

// finish removes what a container has on the host: processes, attachments, and
// last its record. A container that is not to be forgotten is recorded as exited.
func (a *app) finish(c *records.Container, netns string) error {
	err := errors.Join(
		sandbox.Sweep(c.Process, sandbox.Marker(c.ID)),
		a.endConnections(c, netns),
		a.detach(c, netns))
	if err != nil {
		return err // the record stays as it is, and the next dnet tries again
	}
	if c.Remove {
		return a.forgetContainer(c)
	}
	return a.putExited(c)
}

// putExited records that a container has ended, with what other dnet put into its record that
// connected or disconnected it. Under their lock, none of them writes its record of a running one later.
func (a *app) putExited(c *records.Container) error {
	lock, err := a.store.LockConnections(c.ID)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if now, err := a.store.Container(c.ID); err == nil { // else what is known is written once more
		c.Wanted, c.Kept, c.Links = now.Wanted, now.Kept, now.Links
	}
	c.Stage, c.Finished = records.Exited, time.Now().UTC()
	return a.store.PutContainer(c)
}

// forgetContainer removes what is on record of a container. `dnet wait` has its exit status
// all the same.
func (a *app) forgetContainer(c *records.Container) error {
	return errors.Join(a.store.PutStatus(c.ID, c.ExitCode), a.store.RemoveContainer(c.ID))
}

// unreadable is the error of what can't be done with a container whose record can't be read.
func unreadable(c *records.Container) error {
	return fmt.Errorf("container %s: %w; dnet container rm -f %s ends and forgets it", c.Name, c.Unreadable, c.Name)
}

// healUnreadable cleans up after a container whose record can't be read, unless its dnet
// still runs, or the record is of a newer version.
func (a *app) healUnreadable(c *records.Container) error {
	if why, is := errors.AsType[*disk.UnreadableError](c.Unreadable); is && why.Newer {
		return c.Unreadable
	}
	lock, free, err := a.store.TryLockContainer(c.ID)
	if err != nil || !free {
		return err
	}
	defer lock.Unlock()
	return a.finishUnreadable(c.ID)
}

// removeUnreadable forgets a container whose record can't be read. With force it is killed first
// if it runs: its dnet, which knows what it wrote, detaches it. What is left of it then, and of one
// whose dnet is gone, is found without the record.
func (a *app) removeUnreadable(c *records.Container, force bool) error {
	if !force {
		return unreadable(c)
	}
	if err := a.findProcess(c); err != nil {
		return err
	}
	lock, err := a.end(c, 0)
	if err != nil {
		return fmt.Errorf("cannot remove container %s: %w", c.Name, err)
	}
	defer lock.Unlock()
	if _, err := a.store.Container(c.ID); err == nil { // its dnet wrote it once more
		return errors.Join(a.healLocked(c.ID), a.store.RemoveContainer(c.ID))
	}
	return a.finishUnreadable(c.ID)
}

// findProcess finds the first process of a container whose record can't be read. Where the records
// of its attachments say which network namespace it has, it is none in another one.
func (a *app) findProcess(c *records.Container) error {
	list, err := a.store.OfContainer(c.ID)
	var cookies []uint64
	for _, r := range list {
		if r.Cookie != 0 {
			cookies = append(cookies, r.Cookie)
		}
	}
	c.Process = sandbox.Find(c.ID, cookies)
	return err
}

// finishUnreadable removes what a container has on the host whose record can't be read, and
// forgets it. The caller holds its lock.
func (a *app) finishUnreadable(id string) error {
	list, err := a.store.Containers()
	if err != nil {
		return err
	}
	for _, c := range list {
		if c.ID != id || c.Unreadable == nil {
			continue
		}
		err := errors.Join(a.findProcess(c), a.detachUnreadable(c))
		if err != nil {
			return fmt.Errorf("%w; it stays until it is detached: %w", c.Unreadable, err)
		}
		return a.store.ForgetUnreadable(id, c.Unreadable)
	}
	return nil // it is forgotten
}

// detachUnreadable ends a container's processes and detaches it: by what libcni has kept of its
// networks, and where it has not, by the records of its attachments.
func (a *app) detachUnreadable(c *records.Container) error {
	err := errors.Join(sandbox.Sweep(c.Process, sandbox.Marker(c.ID)), a.endConnections(c, ""))
	for i := len(c.Networks) - 1; i >= 0; i-- {
		if at := c.Networks[i]; at.Conf != nil {
			at.Path = a.pluginPath()
			err = errors.Join(err, a.detachOne(c, at, ""))
		}
	}
	if err != nil {
		return err
	}
	list, err := a.store.OfContainer(c.ID)
	for _, r := range list {
		if r.State == records.Lost {
			err = errors.Join(err, fmt.Errorf("the record of %s can't be read either", r.Attachment))
			continue
		}
		if failed := a.deleteOrphan(nil, r); failed != nil && !errors.Is(failed, fs.ErrNotExist) {
			err = errors.Join(err, failed)
		}
	}
	return err
}
