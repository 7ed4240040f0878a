package records

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/records/disk"
)

// A Cache remembers what services need of files, for a process that looks at the same ones often, as dnetd: a file, or
// a directory, is read again when it is another one. nil remembers nothing. Several goroutines may use it.
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
// settled: see settleTime.
type identity struct {
	inode         uint64
	size          int64
	changed, born unix.Timespec
}

// A walk is one look at several paths. Those that it does not come to are forgotten when it ends.
type walk struct {
	cache  *Cache
	name   string
	before map[string]remembered
	mu     sync.Mutex
	now    map[string]remembered
}

// walk begins a look.
func (c *Cache) walk(name string) *walk {
	w := &walk{cache: c, name: name, now: map[string]remembered{}}
	if c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		w.before = c.walks[name] // no one changes it
	}
	return w
}

// end keeps what the walk came to.
func (w *walk) end() {
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

// remember returns what read returns for a path, which must not be changed: it may be of an earlier walk.
func remember[T any](w *walk, path string, read func() (T, error)) (T, error) {
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
	if err == nil && begun.Sub(time.Unix(st.Ctim.Unix())).Abs() > settleTime {
		w.keep(path, remembered{is, v})
	}
	return v, err
}

func (w *walk) keep(path string, r remembered) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now[path] = r
}
