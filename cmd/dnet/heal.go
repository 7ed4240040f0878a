package main

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"dcni/pkg/host/sandbox"
	"dcni/pkg/records"
)

// heal cleans up after containers whose dnet was killed: nobody has their lock.
// What can't be cleaned up is told of, stays on record, and is nobody else's
// trouble. Without permission there is nothing to be done, nor to be told.
func (a *app) heal() {
	list, broken, err := a.store.Containers()
	if errors.Is(err, fs.ErrPermission) {
		return
	}
	for _, err := range append(broken, err, a.store.SweepContainers()) {
		if err != nil {
			fmt.Fprintf(a.stderr, "dnet: warning: %v\n", err)
		}
	}
	for _, c := range list {
		if c.Stage == records.Exited {
			continue
		}
		if err := a.healOne(c.ID); err != nil {
			fmt.Fprintf(a.stderr, "dnet: warning: clean up container %s: %v\n", c.Name, err)
		}
	}
}

func (a *app) healOne(id string) error {
	lock, free, err := a.store.TryLockContainer(id)
	if err != nil || !free {
		return err
	}
	defer lock.Unlock()
	return a.healLocked(id)
}

// healLocked cleans up after a container whose lock we have, and so nobody
// else.
func (a *app) healLocked(id string) error {
	c, err := a.store.Container(id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil || c.Stage == records.Exited:
		return err
	}
	c.ExitCode = killed
	c.Remove = c.Remove || c.Stage == records.Created
	return a.finish(c, "")
}

// finish ends what a container has on the host: processes, attachments, and
// last its record, or that it says more than that it was.
func (a *app) finish(c *records.Container, netns string) error {
	err := errors.Join(
		sandbox.Sweep(c.Process, "/containers/"+c.ID+"/"),
		a.detach(c, netns))
	if err != nil {
		return err // on record as it is, for the next one to try
	}
	if c.Remove {
		return a.store.RemoveContainer(c.ID)
	}
	c.Stage, c.Finished = records.Exited, time.Now().UTC()
	return a.store.PutContainer(c)
}
