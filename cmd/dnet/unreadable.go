package main

import (
	"errors"
	"fmt"
	"io/fs"

	"dcni/pkg/host/sandbox"
	"dcni/pkg/records"
	"dcni/pkg/records/disk"
)

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
