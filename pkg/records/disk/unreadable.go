package disk

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MaxFile is the limit of a file of the store, in bytes: a record with all 65,535 ports
// published is smaller.
const MaxFile = 32 << 20

// Format is the version of the files that are JSON. Files without a version are of the
// first one.
const Format = 1

// ErrIrregular is why a file is not read.
var ErrIrregular = errors.New("is no regular file")

// An UnreadableError tells of a file of the store that can't be read, however often
// that is tried: it is truncated, foreign, no regular file, or written by a newer
// version of dcni.
type UnreadableError struct {
	Path  string
	Newer bool // written by a newer version
	Err   error
}

// Error names the file and the reason.
func (e *UnreadableError) Error() string { return fmt.Sprintf("%s can't be read: %v", e.Path, e.Err) }

// Unwrap returns the reason.
func (e *UnreadableError) Unwrap() error { return e.Err }

// IsUnreadable reports whether an error tells of an unreadable file.
func IsUnreadable(err error) bool {
	_, is := errors.AsType[*UnreadableError](err)
	return is
}

// Unreadable makes an UnreadableError of an error that comes again however often the
// file is read.
func Unreadable(path string, err error) error {
	for _, lasting := range []error{unix.ELOOP, unix.ENOTDIR, unix.EISDIR, unix.ENXIO, unix.ENODEV, unix.EIO, unix.EOPNOTSUPP} {
		if errors.Is(err, lasting) {
			return &UnreadableError{Path: path, Err: lasting}
		}
	}
	return err
}

// Newer returns an error if a file has a later format than this version knows.
func Newer(path string, version int) error {
	if version <= Format {
		return nil
	}
	return &UnreadableError{Path: path, Newer: true,
		Err: fmt.Errorf("written by a newer version of dcni (format %d; this one knows %d)", version, Format)}
}

// Quarantine moves a file that can't be read out of the way, and tells why. Where not
// the file but a directory on its path is none, that is moved. The caller holds the
// lock under which the file is written; what is in a directory's place has no lock.
func (r Root) Quarantine(path string, why error) error {
	in := obstacle(r.Path, path)
	to, err := keptName(r.Path, in)
	if err != nil {
		return err
	}
	move := moveFile
	if info, err := os.Lstat(in); err == nil && info.IsDir() && in == path {
		move = moveAway
	}
	to, err = move(in, to)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it is gone
	}
	if err == nil {
		r.tellMoved(in, to, why)
	}
	return err
}

// Supplant renames a file to the path of one that can't be read, which gets a second
// name before: a writer that is killed, or that fails, leaves one of them. A directory
// can't have two names. It is moved, and on an error moved back.
func (r Root) Supplant(temp, path string, why error) error {
	to, err := keptName(r.Path, path)
	if err != nil {
		return err
	}
	undo := os.Remove
	if info, err := os.Lstat(path); err == nil && info.IsDir() {
		to, err = moveAway(path, to)
		undo = func(string) error { return Rename(to, path) }
		if err != nil {
			return err
		}
	} else if to, err = freeName(to, func(name string) error { return os.Link(path, name) }); err != nil {
		return err
	}
	if err := Rename(temp, path); err != nil {
		return errors.Join(err, undo(to))
	}
	r.tellMoved(path, to, why)
	return nil
}

func (r Root) tellMoved(path, to string, why error) {
	if unread, is := errors.AsType[*UnreadableError](why); is {
		why = unread.Err
	}
	if r.Log != nil {
		fmt.Fprintf(r.Log, "dcni: %s was moved to %s: %v\n", path, to, why)
	}
}

// keptName returns the name under which a file below root is kept that can't be read:
// its path, in one word.
func keptName(root, path string) (string, error) {
	within, err := filepath.Rel(root, path)
	if err != nil {
		return "", err
	}
	name := strings.ReplaceAll(within, "/", "+")
	const most = unix.NAME_MAX - len(".10")
	if len(name) > most {
		sum := sha256.Sum256([]byte(within))
		hash := "~" + hex.EncodeToString(sum[:8])
		name = name[:most-len(hash)] + hash
	}
	dir := filepath.Join(root, "unreadable")
	err = os.MkdirAll(dir, 0o700)
	if errors.Is(err, fs.ErrExist) || IsUnreadable(Unreadable(dir, err)) {
		if _, err := moveFile(dir, dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		err = os.MkdirAll(dir, 0o700)
	}
	return filepath.Join(dir, name), err
}

// obstacle returns the first entry on a path below root that must be a directory and
// is none, or else the path itself.
func obstacle(root, path string) string {
	for dir := filepath.Dir(path); len(dir) > len(root); dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return path
		}
		if _, err := os.Lstat(dir); err == nil {
			path = dir
		}
	}
	return path
}

// freeName calls give with a name, or, while that says that the name is taken, with a
// number behind it, and returns the name given. It keeps the first files of a name and
// the last one.
func freeName(to string, give func(name string) error) (string, error) {
	const most = 10
	name := to
	for i := 2; i <= most; i++ {
		if err := give(name); !errors.Is(err, fs.ErrExist) {
			return name, err
		}
		name = to + "." + strconv.Itoa(i)
	}
	err := fs.ErrExist
	for i := 0; i < most && errors.Is(err, fs.ErrExist); i++ { // another process may take the name as it is freed
		if err = os.RemoveAll(name); err == nil {
			err = give(name)
		}
	}
	return name, err
}

// moveAway renames a file to a free name.
func moveAway(path, to string) (string, error) {
	return freeName(to, func(name string) error {
		if _, err := os.Lstat(name); err == nil {
			return fs.ErrExist
		}
		return Rename(path, name)
	})
}

// moveFile is moveAway for what is no directory. Another process may move it at the same
// time and make a directory in its place: Rename(2) would move that, link(2) and
// unlink(2) refuse it. The error is then fs.ErrNotExist.
func moveFile(path, to string) (string, error) {
	to, err := freeName(to, func(name string) error { return os.Link(path, name) })
	if err == nil {
		if err = unix.Unlink(path); err == nil {
			return to, nil
		}
		_ = os.Remove(to)
	}
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) && IsDir(path) {
		err = fs.ErrNotExist
	}
	return to, err
}

// MakeDirs makes a directory with those above it, below the root. What is in the way and
// no directory is moved away.
func (r Root) MakeDirs(dir string) error {
	err := os.MkdirAll(dir, 0o755)
	if err == nil || !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.ELOOP) {
		return err
	}
	if err := r.Quarantine(filepath.Join(dir, "-"), errors.New("is no directory")); err != nil {
		return err
	}
	return os.MkdirAll(dir, 0o755)
}
