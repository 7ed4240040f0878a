package records

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
)

// writeFile replaces a file below Run whole: a reader sees the old contents or
// the new, and a writer that is killed leaves the old. The caller holds the
// lock that guards the path. Below Run nothing is synced: it is a tmpfs.
func (s Store) writeFile(path string, data []byte) error {
	return replace(filepath.Join(s.Run, "tmp"), path, data, false)
}

// replace writes a file under another name in tmp, which is on the same file
// system, and renames it. The other name is a hash of the path, so what a
// killed writer leaves is used by the next and does not pile up.
func replace(tmp, path string, data []byte, sync bool) error {
	sum := sha256.Sum256([]byte(path))
	return replaceFrom(filepath.Join(tmp, hex.EncodeToString(sum[:16])), path, data, 0o600, sync)
}

// replaceFrom is replace with the other name, and the file's mode.
func replaceFrom(temp, path string, data []byte, mode os.FileMode, sync bool) error {
	if err := writeTemp(temp, data, mode, sync); err != nil {
		_ = os.Remove(temp) // on a full disk, half a file takes up room
		return err
	}
	err := rename(temp, path)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		err = rename(temp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if sync {
		return syncDir(filepath.Dir(path))
	}
	return nil
}

func writeTemp(temp string, data []byte, mode os.FileMode, sync bool) error {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	f, err := openFile(temp, flags, uint32(mode))
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(temp), 0o755); err != nil {
			return err
		}
		f, err = openFile(temp, flags, uint32(mode))
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && sync {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDir makes a rename last over a power failure.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
