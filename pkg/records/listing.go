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

	"dcni/pkg/wire"
)

// A Mark is a record by its name: nothing of it was read.
type Mark struct {
	wire.Attachment
	Plugin string
}

// Marks lists all records by their names, sorted. It opens directories and no
// record. Who calls it often has a [Listing].
func (s Store) Marks() ([]Mark, error) { return NewListing(s).Marks() }

// A Listing is a store whose records are listed again and again. It remembers what
// is in each directory, and opens none that has not changed since. Its methods may
// be called from several goroutines.
type Listing struct {
	Store
	mu   sync.Mutex
	dirs map[string]contents // by path
}

// NewListing returns one that remembers nothing yet.
func NewListing(s Store) *Listing { return &Listing{Store: s} }

// contents are what is in a directory.
type contents struct {
	names   []string // sorted
	changed unix.Timespec
	inode   uint64
	settled bool // any change after these names were read shows in the time
}

// settleTime is how old a directory's last change has to be for the next to have
// another time: the kernel's clock for files goes in ticks, of 10 ms at most.
const settleTime = 100 * time.Millisecond

// Marks lists all records by their names, sorted. Those that come or go meanwhile
// may be missing.
func (l *Listing) Marks() ([]Mark, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := listingWalk{before: l.dirs, now: make(map[string]contents, len(l.dirs))}
	var marks []Mark
	root := l.attachments()
	for _, network := range w.names(root) {
		for _, container := range w.names(filepath.Join(root, network)) {
			for _, ifname := range w.names(filepath.Join(root, network, container)) {
				a := wire.Attachment{Network: network, Container: container, IfName: ifname}
				for _, file := range w.names(filepath.Join(root, network, container, ifname)) {
					if plugin, is := strings.CutSuffix(file, ".json"); is {
						marks = append(marks, Mark{a, plugin})
					}
				}
			}
		}
	}
	l.dirs = w.now
	return marks, errors.Join(w.errs...)
}

// Stamps returns the attachments that a plugin has a record of, with the time
// when that was written. What vanishes meanwhile is left out.
func (l *Listing) Stamps(plugin string) (map[wire.Attachment]time.Time, error) {
	marks, err := l.Marks()
	stamps := map[wire.Attachment]time.Time{}
	for _, m := range marks {
		if m.Plugin != plugin {
			continue
		}
		if st, err := os.Lstat(l.recordPath(m.Attachment, plugin)); err == nil {
			stamps[m.Attachment] = st.ModTime()
		}
	}
	return stamps, err
}

// A listingWalk is one look at all directories.
type listingWalk struct {
	before, now map[string]contents
	errs        []error
}

// names returns what is in a directory: nothing if it is none, or not any more.
func (w *listingWalk) names(dir string) []string {
	c, err := w.look(dir)
	switch {
	case err == nil:
		w.now[dir] = c
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR):
		w.errs = append(w.errs, err)
	}
	return c.names
}

// look returns what is in a directory, as it was read before if that still holds.
func (w *listingWalk) look(dir string) (contents, error) {
	begun := time.Now()
	var st unix.Stat_t
	if _, err := retry(func() (int, error) { return 0, unix.Stat(dir, &st) }); err != nil {
		return contents{}, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	before, known := w.before[dir]
	if known && before.settled && before.changed == st.Mtim && before.inode == st.Ino {
		return before, nil
	}
	f, err := openFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return contents{}, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.SortFunc(names, cmp.Compare)
	return contents{
		names: names, changed: st.Mtim, inode: st.Ino,
		settled: begun.Sub(time.Unix(st.Mtim.Unix())) > settleTime,
	}, err
}
