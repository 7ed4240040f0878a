package records

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"dcni/pkg/records/disk"
	"dcni/pkg/wire"
)

// What attachments of overlay networks had of the cluster, and could not give back while
// its store was away: a file for each, of which dclusterd sends it and that it then
// drops.
//
//	/var/lib/dcni/cluster/releases/web/1f0a8c93b1d2e4    {"network", "container", "ifName"}
//
// Who queues, drops or sends the release of an attachment holds that one's lock
// ([Store.LockAttachment], [Store.TryLockAttachment]): an ADD of the same attachment drops
// it before it claims, and what it claims must not be given back.

func (c Cluster) releases() string { return c.Path("releases") }

func (c Cluster) releasePath(a wire.Attachment) string {
	return filepath.Join(c.releases(), a.Network, a.ID())
}

// QueueRelease notes that an attachment has to give back what it has.
func (c Cluster) QueueRelease(a wire.Attachment) error {
	if err := CheckWords(a); err != nil {
		return err
	}
	data, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("release of %s: %w", a, err)
	}
	path := c.releasePath(a)
	return c.store.Root(c.store.Lib).Replace(path, data, true)
}

// DropRelease forgets it: it was sent, or the attachment is being added again. It is no
// error if there is none.
func (c Cluster) DropRelease(a wire.Attachment) error {
	path := c.releasePath(a)
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	_ = unix.Rmdir(filepath.Dir(path)) // not empty: others are queued
	return err
}

// Released reports whether the release of an attachment is queued: who sends it asks
// again once it has the attachment's lock.
func (c Cluster) Released(a wire.Attachment) bool { return disk.Exists(c.releasePath(a)) }

// Releases lists the attachments that are to give back what they have, in the order of
// the files' names. Files that are not ours are passed over.
func (c Cluster) Releases() ([]wire.Attachment, error) {
	networks, err := disk.NamesIn(c.releases())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	slices.Sort(networks)
	errs := []error{err}
	var list []wire.Attachment
	for _, network := range networks {
		files, err := disk.NamesIn(filepath.Join(c.releases(), network))
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			errs = append(errs, err)
		}
		slices.Sort(files)
		for _, file := range files {
			path := filepath.Join(c.releases(), network, file)
			data, err := disk.ReadFile(path)
			var a wire.Attachment
			if err == nil && json.Unmarshal(data, &a) == nil && c.releasePath(a) == path {
				list = append(list, a)
			}
		}
	}
	return list, errors.Join(errs...)
}
