package records

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Probe tells whether an attachment could be remembered, and its leases in a
// configuration's data directory ("": the usual one) if it is to have any: nil,
// or everything that stands in the way. It changes nothing.
func (s Store) Probe(dataDirs ...string) error {
	errs := []error{writable(s.Run)}
	for _, dir := range dataDirs {
		errs = append(errs, writable(s.DataDir(dir)))
	}
	return errors.Join(errs...)
}

// writable tells whether files can be made below a directory, which need not be
// there yet. Root may write everywhere but on a file system that is read-only,
// or full.
func writable(dir string) error {
	for {
		err := unix.Access(dir+"/.", unix.W_OK|unix.X_OK) // "/." makes a file fail with ENOTDIR, not EACCES
		if !errors.Is(err, unix.ENOENT) || dir == filepath.Dir(dir) {
			if err == nil {
				err = hasRoom(dir)
			}
			return wrapPath("write below", dir, err)
		}
		dir = filepath.Dir(dir)
	}
}

func hasRoom(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return err
	}
	if full(&fs) {
		return unix.ENOSPC
	}
	return nil
}

// full reports whether a file system has no block left, or no inode. Those without a fixed
// number of them say 0 of 0.
func full(fs *unix.Statfs_t) bool {
	return fs.Blocks > 0 && fs.Bavail == 0 || fs.Files > 0 && fs.Ffree == 0
}

func wrapPath(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: path, Err: err}
}
