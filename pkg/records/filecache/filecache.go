// Package filecache remembers what was read of files, for a process that looks at the same ones often.
package filecache

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/records/disk"
)

// SettleTime is the age at which a file's or directory's last change is sure to have another
// time than the next: the kernel's clock for files goes in ticks of at most 10 ms.
const SettleTime = 100 * time.Millisecond

// A Cache remembers what was read of files and directories. Each is read again when it is another one. nil remembers
// nothing. Several goroutines may use it.
type Cache struct {
	mu    sync.Mutex
	walks map[string]map[string]remembered // by what was looked at, and path
}

// remembered is what was read at a path.
type remembered struct {
	is    identity
	value any
}

// An identity is of a file as it was when it was read. Another file in its place has another one, if the first had
// settled: see [SettleTime].
type identity struct {
	inode             uint64
	size              int64
	modified, changed unix.Timespec
}

// A Walk is one look at several paths. Those that it does not come to are forgotten when it ends.
type Walk struct {
	cache  *Cache
	name   string
	before map[string]remembered
	mu     sync.Mutex
	now    map[string]remembered
}

// Walk begins a look. Of looks of one name the next has what the last came to.
func (c *Cache) Walk(name string) *Walk {
	w := &Walk{cache: c, name: name, now: map[string]remembered{}}
	if c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		w.before = c.walks[name] // no one changes it
	}
	return w
}

// End keeps what the walk came to.
func (w *Walk) End() {
	if w.cache == nil {
		return
	}
	w.cache.mu.Lock()
	defer w.cache.mu.Unlock()
	if w.cache.walks == nil {
		w.cache.walks = map[string]map[string]remembered{}
	}
	if w.cache.walks[w.name] = w.now; len(w.now) == 0 {
		delete(w.cache.walks, w.name)
	}
}

// Remember returns what read returns for a path, which must not be changed: it may be of an earlier walk.
func Remember[T any](w *Walk, path string, read func() (T, error)) (T, error) {
	if w.cache == nil {
		return read()
	}
	begun := time.Now()
	var st unix.Stat_t
	if _, err := disk.Retry(func() (int, error) { return 0, unix.Lstat(path, &st) }); err != nil {
		return read() // its error says more
	}
	is := identity{st.Ino, st.Size, st.Mtim, st.Ctim}
	if r, known := w.before[path]; known && r.is == is {
		w.keep(path, r)
		return r.value.(T), nil
	}
	v, err := read()
	if err == nil && begun.Sub(time.Unix(st.Ctim.Unix())).Abs() > SettleTime {
		w.keep(path, remembered{is, v})
	}
	return v, err
}

func (w *Walk) keep(path string, r remembered) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now[path] = r
}
