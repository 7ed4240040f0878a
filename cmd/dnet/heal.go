package main

import (
	"errors"
	"io/fs"
	"time"

	"dcni/pkg/host/sandbox"
	"dcni/pkg/records"
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
	for _, err := range []error{err, a.store.SweepContainers()} {
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
	c.Stage, c.Finished = records.Exited, time.Now().UTC()
	return a.store.PutContainer(c)
}

// forgetContainer removes what is on record of a container. `dnet wait` has its exit status
// all the same.
func (a *app) forgetContainer(c *records.Container) error {
	return errors.Join(a.store.PutStatus(c.ID, c.ExitCode), a.store.RemoveContainer(c.ID))
}
