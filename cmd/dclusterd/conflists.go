package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"dcni/pkg/overlay"
	"dcni/pkg/records"
)

// conflists keeps the files of the cluster's networks: one for each, and none for a
// network that is gone.
type conflists struct {
	dir   records.ConfDir
	locks records.Store
	log   *slog.Logger
	list  func(context.Context) ([]overlay.Existing, error)

	mu     sync.Mutex // held while the files are compared with the store
	known  *networkList
	warned map[string]bool // files that are not ours and have a network's name
	unread string          // which values of the store can't be read, as it was logged
}

// A networkList is what the store said last.
type networkList struct {
	networks []overlay.Existing
	unread   []string // networks whose values can't be read: their files stay as they are
}

// networks lists the cluster's networks.
func (n *node) networks(ctx context.Context) ([]overlay.Existing, error) {
	return n.cluster().Networks(ctx)
}

// run compares the files with the store at each change of a network. All networks are
// listed again each time: they are few, and so an old event never undoes what a newer
// list has done.
func (c *conflists) run(store overlay.Store, keys overlay.Keys) func(context.Context) {
	return func(ctx context.Context) {
		var tasks sync.WaitGroup
		defer tasks.Wait()
		tasks.Go(func() { c.repair(ctx) })
		for ctx.Err() == nil {
			if err := c.follow(ctx, store, keys.Network("")); ctx.Err() == nil {
				c.log.Debug("networks are not watched", "error", err)
				sleep(ctx, retryPause)
			}
		}
	}
}

func (c *conflists) follow(ctx context.Context, store overlay.Store, prefix string) error {
	revision, err := store.List(ctx, prefix, func(overlay.Entry) error { return nil })
	if err == nil {
		err = c.sync(ctx)
	}
	if err != nil {
		return err
	}
	return store.Watch(ctx, prefix, revision, func(int64, []overlay.Event) error { return c.sync(ctx) })
}

// repair puts back now and then what is not as the store said last: a file that was removed
// by hand, and that of a network whose name another file had.
func (c *conflists) repair(ctx context.Context) {
	for sleep(ctx, lookPause) {
		c.mu.Lock()
		if c.known != nil {
			if err := c.put(*c.known); err != nil {
				c.log.Debug("files of networks are not as they should be", "error", err)
			}
		}
		c.mu.Unlock()
	}
}

// sync makes the files as the store is now.
func (c *conflists) sync(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	networks, err := c.list(ctx)
	list := networkList{networks: networks}
	text := ""
	if unread, is := errors.AsType[*overlay.UnreadableError](err); is {
		list.unread, text, err = unread.Names, unread.Error(), nil
	}
	if err != nil {
		return err
	}
	if text != "" && text != c.unread {
		c.log.Warn("networks of the cluster can't be read, and stay as they are on this node", "error", text)
	}
	c.known, c.unread = &list, text
	return c.put(list)
}

// put makes the files as a list says.
func (c *conflists) put(list networkList) error {
	files, err := c.dir.List()
	if err != nil {
		return err
	}
	var errs []error
	wanted := map[string]bool{}
	for _, n := range list.networks {
		wanted[n.Name] = true
		errs = append(errs, c.write(n, files))
	}
	for _, name := range list.unread {
		wanted[name] = true
	}
	for _, f := range files {
		if name := c.ours(f); name != "" && !wanted[name] {
			errs = append(errs, c.remove(name, f.Path))
		}
	}
	return errors.Join(errs...)
}

// write writes a network's file, if it is not as it should be. Where a file that is not
// ours has that name, or configures a network of it, it stays the only one, and is told of
// once.
func (c *conflists) write(n overlay.Existing, files []records.ConfFile) error {
	want, err := n.Conflist()
	if err != nil {
		return err
	}
	path := c.dir.Path(n.Name)
	for _, f := range files {
		switch {
		case f.Path == path && string(f.Data) == string(want):
			return nil
		case (f.Path == path || f.Configures(n.Name)) && c.ours(f) == "":
			c.warn(n.Name, f.Path)
			return nil
		}
	}
	lock, err := c.locks.LockNetwork(n.Name)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if records.Configured(path, n.Name) && !slices.ContainsFunc(files, func(f records.ConfFile) bool { return f.Path == path }) { // dnet was faster
		c.warn(n.Name, path)
		return nil
	}
	if err := c.dir.Write(n.Name, want); err != nil {
		return err
	}
	c.log.Info("network", "name", n.Name, "file", path)
	return nil
}

func (c *conflists) warn(name, path string) {
	if c.warned == nil {
		c.warned = map[string]bool{}
	}
	if !c.warned[path] {
		c.log.Warn("a network of the cluster can't be used on this node: another file has its name", "network", name, "file", path)
	}
	c.warned[path] = true
}

// remove removes the file of a network that is gone.
func (c *conflists) remove(name, path string) error {
	lock, err := c.locks.LockNetwork(name)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	c.log.Info("network is gone", "name", name, "file", path)
	return c.dir.Remove(path)
}

// ours returns the name of the network whose file this dclusterd, or the one before,
// wrote; "" for any other file.
func (c *conflists) ours(f records.ConfFile) string {
	if f.Err != nil || !strings.HasPrefix(filepath.Base(f.Path), "dcni-") {
		return ""
	}
	name, _, written := overlay.WrittenFor(f.Data)
	if !written || f.Path != c.dir.Path(name) {
		return ""
	}
	return name
}

// foreign returns the file that is not ours and has a network's name, or configures it; "" for none.
func (c *conflists) foreign(name string) (string, error) {
	files, err := c.dir.List()
	for _, f := range files {
		if (f.Path == c.dir.Path(name) || f.Configures(name)) && c.ours(f) == "" {
			return f.Path, err
		}
	}
	return "", err
}

// clear removes all files of networks of the cluster: the host leaves it.
func (c *conflists) clear() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	files, err := c.dir.List()
	errs := []error{err}
	for _, f := range files {
		if name := c.ours(f); name != "" {
			if err := c.remove(name, f.Path); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", f.Path, err))
			}
		}
	}
	return errors.Join(errs...)
}
