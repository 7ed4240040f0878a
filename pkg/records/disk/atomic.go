package disk

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A Root is a directory below which files are written whole: a reader sees the old contents
// or the new, and a writer that is killed leaves the old. The caller holds the lock that
// guards the path. What can't be read is moved to its directory unreadable.
type Root struct {
	Path string
	Log  io.Writer // takes a line for each file that is moved away; nil: none
}

// Replace writes a file below the root under another name, which is on the same file
// system, and renames it. The other name is a hash of the path, so what a
// killed writer leaves is used by the next and does not pile up.
func (r Root) Replace(path string, data []byte, sync bool) error {
	return r.ReplaceFrom(r.TempName(path), path, data, 0o600, sync)
}

// TempName returns the other name under which a file is written.
func (r Root) TempName(path string) string {
	sum := sha256.Sum256([]byte(path))
	return filepath.Join(r.Path, "tmp", hex.EncodeToString(sum[:16]))
}

// ReplaceFrom is Replace with the other name, and the file's mode.
func (r Root) ReplaceFrom(temp, path string, data []byte, mode os.FileMode, sync bool) error {
	if err := r.WriteTemp(temp, data, mode, sync); err != nil {
		_ = os.Remove(temp) // on a full disk, half a file takes up room
		return err
	}
	return r.moveIn(temp, path, sync)
}

// ReplaceUnreadable is Replace where a file is that can't be read: that is kept.
func (r Root) ReplaceUnreadable(path string, data []byte, sync bool, why error) error {
	temp := r.TempName(path)
	err := r.WriteTemp(temp, data, 0o600, sync)
	if err == nil {
		err = r.Supplant(temp, path, why)
		if errors.Is(err, os.ErrNotExist) || IsUnreadable(Unreadable(path, err)) {
			return r.moveIn(temp, path, sync) // it is the path to it that can't be read
		}
	}
	if err != nil {
		_ = os.Remove(temp)
		return err
	}
	if sync {
		return SyncDir(filepath.Dir(path))
	}
	return nil
}

// moveIn renames a file that was written under another name.
func (r Root) moveIn(temp, path string, sync bool) error {
	err := Rename(temp, path)
	if errors.Is(err, os.ErrNotExist) || IsUnreadable(Unreadable(path, err)) {
		if err := r.MakeDirs(filepath.Dir(path)); err != nil {
			return err
		}
		err = Rename(temp, path)
	}
	if errors.Is(err, unix.EISDIR) {
		err = r.Supplant(temp, path, ErrIrregular)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if sync {
		return SyncDir(filepath.Dir(path))
	}
	return nil
}

// WriteTemp writes a file that is to be renamed, and makes the directories above it.
func (r Root) WriteTemp(temp string, data []byte, mode os.FileMode, sync bool) error {
	f, err := r.openTemp(temp, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && sync {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// openTemp opens a file to be renamed, in place of whatever has its name.
func (r Root) openTemp(temp string, mode os.FileMode) (*os.File, error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	f, _, err := RegularFile(temp, flags, uint32(mode))
	if err == nil {
		return f, nil
	}
	if !errors.Is(err, os.ErrNotExist) && !IsUnreadable(err) {
		return nil, err
	}
	if err := errors.Join(r.MakeDirs(filepath.Dir(temp)), os.RemoveAll(temp)); err != nil {
		return nil, err
	}
	return OpenFile(temp, flags, uint32(mode))
}

// SyncDir makes a rename last over a power failure.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
