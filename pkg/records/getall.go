package records

import (
	"errors"
	"io/fs"
	"runtime"
	"sync"
	"sync/atomic"
)

// GetAll returns the records of marks, in their order; those that vanish meanwhile
// are left out. It reads on all processors: with 1,000 of them, who waits for it
// has lost all that the records say.
func (s Store) GetAll(marks []Mark) ([]*Record, error) {
	found, errs := make([]*Record, len(marks)), make([]error, len(marks))
	var next atomic.Int64
	var readers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(marks)) {
		readers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(marks)); i = next.Add(1) - 1 {
				found[i], errs[i] = s.Get(marks[i].Attachment, marks[i].Plugin)
			}
		})
	}
	readers.Wait()
	list := make([]*Record, 0, len(marks))
	for i, err := range errs {
		switch {
		case err == nil:
			list = append(list, found[i])
		case errors.Is(err, fs.ErrNotExist):
			errs[i] = nil
		}
	}
	return list, errors.Join(errs...)
}
