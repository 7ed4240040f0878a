package records

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/records/disk"
	"dcni/pkg/records/filecache"
	"dcni/pkg/wire"
)

// A RecordKey names a record, which was not read.
type RecordKey struct {
	wire.Attachment
	Plugin string
}

// Keys lists all records by their names, sorted. It opens directories and no
// record. A caller that lists often uses a [CachedStore].
func (s Store) Keys() ([]RecordKey, error) { return NewCachedStore(s).Keys() }

// A CachedStore is a store that caches the names in each directory of records. It
// opens only directories that have changed since it last read them. Its methods may be
// called from several goroutines.
type CachedStore struct {
	Store
	mu   sync.Mutex
	dirs map[string]contents // by path
}

// NewCachedStore returns a store with an empty cache.
func NewCachedStore(s Store) *CachedStore { return &CachedStore{Store: s} }

// contents are the names in a directory, as they were read.
type contents struct {
	names   []string // sorted
	changed unix.Timespec
	inode   uint64
	settled bool // a later change of the directory also changes its time
}

// Keys lists all records by their names, sorted. Records that are added or removed
// during the call may be missing.
func (s *CachedStore) Keys() ([]RecordKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := cacheWalk{before: s.dirs, now: make(map[string]contents, len(s.dirs))}
	keys := w.keys(s.attachments(), "*", "*", "*")
	s.dirs = w.now
	return keys, errors.Join(w.errs...)
}

// keys lists the records of a network, a container and an interface by their names;
// each may be "*".
func (s Store) keys(network, container, ifName string) ([]RecordKey, error) {
	w := cacheWalk{}
	keys := w.keys(s.attachments(), network, container, ifName)
	return keys, errors.Join(w.errs...)
}

// ModTimes returns all records by their names, with the time at which each was
// written. It leaves out records that are removed during the call.
func (s *CachedStore) ModTimes() (map[RecordKey]time.Time, error) {
	keys, err := s.Keys()
	times := make(map[RecordKey]time.Time, len(keys))
	for _, key := range keys {
		if st, err := os.Lstat(s.recordPath(key.Attachment, key.Plugin)); err == nil {
			times[key] = st.ModTime()
		}
	}
	return times, err
}

// A cacheWalk is one pass over all directories. With no maps it keeps nothing.
type cacheWalk struct {
	before, now map[string]contents
	errs        []error
}

// keys lists records below root.
func (w *cacheWalk) keys(root, network, container, ifName string) (keys []RecordKey) {
	for _, network := range w.match(root, network) {
		for _, container := range w.match(filepath.Join(root, network), container) {
			for _, ifName := range w.match(filepath.Join(root, network, container), ifName) {
				a := wire.Attachment{Network: network, Container: container, IfName: ifName}
				for _, file := range w.names(filepath.Join(root, network, container, ifName)) {
					if plugin, is := strings.CutSuffix(file, ".json"); is {
						keys = append(keys, RecordKey{a, plugin})
					}
				}
			}
		}
	}
	return keys
}

// match returns one name, or for "*" those in a directory.
func (w *cacheWalk) match(dir, name string) []string {
	if name == "*" {
		return w.names(dir)
	}
	return []string{name}
}

// names returns the names in a directory. It returns none if the path is gone or is
// not a directory.
func (w *cacheWalk) names(dir string) []string {
	c, err := w.read(dir)
	switch {
	case err == nil && w.now != nil:
		w.now[dir] = c
	case err == nil:
	case !errors.Is(err, fs.ErrNotExist) && !disk.IsUnreadable(disk.Unreadable(dir, err)):
		w.errs = append(w.errs, err)
	}
	return c.names
}

// read returns the contents of a directory: the cached ones if they are still right.
func (w *cacheWalk) read(dir string) (contents, error) {
	if w.now == nil {
		names, err := disk.NamesIn(dir)
		slices.Sort(names)
		return contents{names: names}, err
	}
	begun := time.Now()
	var st unix.Stat_t
	if _, err := disk.Retry(func() (int, error) { return 0, unix.Stat(dir, &st) }); err != nil {
		return contents{}, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	before, known := w.before[dir]
	if known && before.settled && before.changed == st.Mtim && before.inode == st.Ino {
		return before, nil
	}
	f, err := disk.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return contents{}, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.SortFunc(names, cmp.Compare)
	return contents{
		names: names, changed: st.Mtim, inode: st.Ino,
		settled: begun.Sub(time.Unix(st.Mtim.Unix())).Abs() > filecache.SettleTime, // the clock may have been set back
	}, err
}
