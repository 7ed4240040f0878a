package records

import (
	"errors"
	"io/fs"
	"runtime"
	"sync"
	"sync/atomic"
)

// GetAll returns the records of some keys, in their order. It leaves out records that
// are removed during the call. An attachment whose record can't be read is [Lost].
// GetAll reads on all processors: the caller restores rules or attachments that were
// lost, and 1,000 reads in a row would delay that.
func (s Store) GetAll(keys []RecordKey) ([]*Record, error) {
	found, errs := make([]*Record, len(keys)), make([]error, len(keys))
	var next atomic.Int64
	var readers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(keys)) {
		readers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(keys)); i = next.Add(1) - 1 {
				found[i], errs[i] = s.find(keys[i])
			}
		})
	}
	readers.Wait()
	list := make([]*Record, 0, len(keys))
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
