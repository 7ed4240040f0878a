package records

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// writeFile replaces a file below Run whole: a reader sees the old contents or
// the new, and a writer that is killed leaves the old. The caller holds the
// lock that guards the path. Below Run nothing is synced: it is a tmpfs.
func (s Store) writeFile(path string, data []byte) error {
	return s.replace(s.Run, path, data, false)
}

// replace writes a file below root under another name, which is on the same file
// system, and renames it. The other name is a hash of the path, so what a
// killed writer leaves is used by the next and does not pile up.
func (s Store) replace(root, path string, data []byte, sync bool) error {
	return s.replaceFrom(root, tempName(root, path), path, data, 0o600, sync)
}

func tempName(root, path string) string {
	sum := sha256.Sum256([]byte(path))
	return filepath.Join(root, "tmp", hex.EncodeToString(sum[:16]))
}

// replaceFrom is replace with the other name, and the file's mode.
func (s Store) replaceFrom(root, temp, path string, data []byte, mode os.FileMode, sync bool) error {
	if err := s.writeTemp(root, temp, data, mode, sync); err != nil {
		_ = os.Remove(temp) // on a full disk, half a file takes up room
		return err
	}
	return s.moveIn(root, temp, path, sync)
}

// replaceUnreadable is replace where a file is that can't be read: that is kept.
func (s Store) replaceUnreadable(root, path string, data []byte, sync bool, why error) error {
	temp := tempName(root, path)
	err := s.writeTemp(root, temp, data, 0o600, sync)
	if err == nil {
		err = s.supplant(root, temp, path, why)
		if errors.Is(err, os.ErrNotExist) || IsUnreadable(unreadable(path, err)) {
			return s.moveIn(root, temp, path, sync) // it is the path to it that can't be read
		}
	}
	if err != nil {
		_ = os.Remove(temp)
		return err
	}
	if sync {
		return syncDir(filepath.Dir(path))
	}
	return nil
}

// moveIn renames a file that was written under another name.
func (s Store) moveIn(root, temp, path string, sync bool) error {
	err := rename(temp, path)
	if errors.Is(err, os.ErrNotExist) || IsUnreadable(unreadable(path, err)) {
		if err := s.makeDirs(root, filepath.Dir(path)); err != nil {
			return err
		}
		err = rename(temp, path)
	}
	if errors.Is(err, unix.EISDIR) {
		err = s.supplant(root, temp, path, errIrregular)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if sync {
		return syncDir(filepath.Dir(path))
	}
	return nil
}

func (s Store) writeTemp(root, temp string, data []byte, mode os.FileMode, sync bool) error {
	f, err := s.openTemp(root, temp, mode)
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
func (s Store) openTemp(root, temp string, mode os.FileMode) (*os.File, error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	f, _, err := regularFile(temp, flags, uint32(mode))
	if err == nil {
		return f, nil
	}
	if !errors.Is(err, os.ErrNotExist) && !IsUnreadable(err) {
		return nil, err
	}
	if err := errors.Join(s.makeDirs(root, filepath.Dir(temp)), os.RemoveAll(temp)); err != nil {
		return nil, err
	}
	return openFile(temp, flags, uint32(mode))
}

// syncDir makes a rename last over a power failure.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
