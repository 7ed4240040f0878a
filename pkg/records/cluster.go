package records

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dcni/pkg/records/disk"
)

// Cluster is what a node of a cluster keeps: the directory /var/lib/dcni/cluster, which
// dclusterd alone writes, but for releases/.
//
//	cluster.json    which cluster, which node
//	id              the ID of this installation, drawn once; stays when the node leaves
//	ca.crt          the CA's certificate; ca.key its key, where the node admits others
//	node.crt        the node's certificate; node.key its key
//	member/         the data of a member of the store
//	snapshots/      of the store, by the day; they stay when the node leaves
//	releases/       what attachments have to give back, see [Cluster.QueueRelease]
//
// Files are root's alone, and synced: a node without them is none.
type Cluster struct{ store Store }

// Cluster returns it.
func (s Store) Cluster() Cluster { return Cluster{s} }

// Dir is the directory.
func (c Cluster) Dir() string { return filepath.Join(c.store.Lib, "cluster") }

// Path is the path of one of its files.
func (c Cluster) Path(name string) string { return filepath.Join(c.Dir(), name) }

// Socket is where dclusterd listens.
func (c Cluster) Socket() string { return filepath.Join(c.store.Run, "dclusterd.sock") }

// Log is where a dclusterd that no supervisor started logs to.
func (c Cluster) Log() string { return filepath.Join(c.store.Run, "dclusterd.log") }

// Joined reports whether the host is a node of a cluster.
func (c Cluster) Joined() bool {
	_, err := os.Stat(c.Path("cluster.json"))
	return !errors.Is(err, fs.ErrNotExist)
}

// Read returns a file; fs.ErrNotExist where it is not there.
func (c Cluster) Read(name string) ([]byte, error) { return disk.ReadFile(c.Path(name)) }

// Write writes a file.
func (c Cluster) Write(name string, data []byte) error {
	return c.store.Root(c.store.Lib).Replace(c.Path(name), data, true)
}

// Remove removes files, or directories with all that is in them. It is no error if they
// are not there.
func (c Cluster) Remove(names ...string) error {
	var errs []error
	for _, name := range names {
		errs = append(errs, os.RemoveAll(c.Path(name)))
	}
	return errors.Join(errs...)
}

// MakeDir makes one of its directories, and returns its path.
func (c Cluster) MakeDir(name string) (string, error) {
	return c.Path(name), os.MkdirAll(c.Path(name), 0o700)
}

// Names returns what is in one of its directories, sorted; nothing where that is not there.
func (c Cluster) Names(dir string) ([]string, error) {
	entries, err := os.ReadDir(c.Path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

// RemoveDir removes a directory that the cluster's files name, with all that is in it.
func (c Cluster) RemoveDir(path string) error { return os.RemoveAll(path) }

// ID returns the ID of this installation, which the first call draws.
func (c Cluster) ID(draw func() string) (string, error) {
	data, err := c.Read("id")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		id := draw()
		return id, c.Write("id", []byte(id+"\n"))
	case err != nil:
		return "", err
	}
	id := string(data[:max(len(data)-1, 0)])
	if len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" {
		return "", fmt.Errorf("%s: %q is no ID: must be 32 hexadecimal digits: remove the file, and the host is a new node", c.Path("id"), data)
	}
	return id, nil
}

// TryLockCluster takes the lock under which dclusterd runs on a host, if it is free. ok is
// false, with no error, if another has it.
func (s Store) TryLockCluster() (l *Lock, ok bool, err error) { return s.try(kindAgent, "dclusterd") }

// Exists reports whether there is such a directory, or file.
func (c Cluster) Exists(path string) bool { return disk.Exists(path) }

// ReplaceDir puts one directory in place of another. If it dies in between, neither is
// there under the second name.
func (c Cluster) ReplaceDir(with, path string) error {
	return errors.Join(os.RemoveAll(path), os.Rename(with, path), disk.SyncDir(filepath.Dir(path)))
}

// WriteNew writes a new file, wherever an administrator wants it, for root alone. It is
// there whole or not at all. It returns how many bytes were written.
func (c Cluster) WriteNew(path string, write func(io.Writer) error) (int64, error) {
	if disk.Exists(path) {
		return 0, fmt.Errorf("file %s: must not be there yet", path)
	}
	temp := path + ".part"
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	err = write(f)
	size, e := f.Seek(0, io.SeekCurrent)
	if err = errors.Join(err, e, f.Sync(), f.Close()); err == nil {
		err = os.Link(temp, path) // which fails where a file is
	}
	return size, errors.Join(err, os.Remove(temp))
}
