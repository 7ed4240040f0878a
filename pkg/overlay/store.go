// Package overlay is what a cluster's nodes agree on: which networks there are, which
// node has which endpoint and address, and what a node has to know of the others so
// that its containers reach theirs.
//
// All of it is kept in a [Store], as JSON below keys that [Keys] makes. What a node
// makes of it is pure: [Picture.Objects] returns the forwarding and neighbour entries
// of a network as [wire.Object]s, and dnetd applies them as a desired set.
package overlay

import (
	"context"
	"errors"
	"fmt"
)

// A Store is the control plane: keys of UTF-8 in order, values of a few hundred bytes, changed
// several at a time and only if they are as the caller saw them. It has three
// implementations: package memory, package etcd, and package remote, by which plugins
// and dnetd use the store that dclusterd has open. One test holds for all
// (storetest.Contract).
//
// Another backend needs as much: compare-and-set over several keys at once, one counter
// of revisions for the whole store, changes from a revision on, and keys that go when
// their writer stops renewing them.
//
// Every method may return [ErrUnavailable], wrapped: the store does not answer, or has
// no quorum. What a Commit did then is unknown: read again. A method whose context
// ended returns the context's error, wrapped; with its deadline ErrUnavailable as well.
type Store interface {
	// Get returns an entry, [ErrNotFound] where there is none.
	Get(ctx context.Context, key string) (Entry, error)
	// List calls each with every entry whose key begins with prefix, in the order of
	// the keys, all as they were at one revision, which it returns. It asks for them
	// page by page. An error of each ends it, and is returned.
	List(ctx context.Context, prefix string, each func(Entry) error) (revision int64, err error)
	// Commit makes all changes at one revision if every condition holds, and none
	// otherwise. It reports whether it did, and the store's revision.
	Commit(ctx context.Context, t Txn) (done bool, revision int64, err error)
	// Watch calls each with all changes of keys that begin with prefix, those of one
	// revision together, from the first revision after the given one on, until the
	// context ends, each returns an error, or the store can't go on: [ErrCompacted]
	// where it has forgotten what came next (list again, and watch from there),
	// ErrUnavailable where this client, or the member that it asks, is cut off.
	Watch(ctx context.Context, prefix string, after int64, each func(revision int64, changes []Event) error) error
	// Keep writes an entry, and renews it until the context ends, when it deletes it.
	// If it can't renew it, or the writer dies, the entry is gone after ttl seconds,
	// after a change of the store's leader twice as much. It returns ErrUnavailable
	// when the entry has gone, or may have.
	Keep(ctx context.Context, key string, value []byte, ttl int) error
}

// An Entry is a key with its value.
type Entry struct {
	Key      string `json:"key"`
	Value    []byte `json:"value,omitempty"`
	Created  int64  `json:"created"`  // the revision at which the key was made
	Modified int64  `json:"modified"` // at which its value was last written
}

// An Event is a change that was made.
type Event struct {
	Entry
	Deleted bool `json:"deleted,omitempty"` // Value and Created are zero then
}

// A Txn is a transaction.
type Txn struct {
	If   []Condition `json:"if,omitempty"`
	Then []Change    `json:"then"` // of different keys
}

// MaxChanges is how many conditions, and changes, a transaction may have (etcd's
// --max-txn-ops).
const MaxChanges = 128

// A Condition holds if a key was made at a revision, or last written at one. Of the two
// revisions, one is given; with both zero it holds if there is no such key.
type Condition struct {
	Key      string `json:"key"`
	Created  int64  `json:"created,omitempty"`
	Modified int64  `json:"modified,omitempty"`
}

// A Change writes or deletes a key. To delete one that is not there is no error.
type Change struct {
	Key    string `json:"key"`
	Value  []byte `json:"value,omitempty"`
	Delete bool   `json:"delete,omitempty"`
	TTL    int    `json:"ttl,omitempty"` // seconds until a written key goes; 0: it stays
}

// Validate returns what no store takes: a key that is empty or changed twice, more than
// [MaxChanges], a condition on both revisions, a deletion with a value or a TTL.
func (t Txn) Validate() error {
	if n := max(len(t.If), len(t.Then)); n > MaxChanges {
		return fmt.Errorf("a transaction of %d: it has at most %d conditions, and as many changes", n, MaxChanges)
	}
	for i, c := range t.If {
		switch {
		case c.Key == "":
			return fmt.Errorf("condition %d: its key is empty", i)
		case c.Created != 0 && c.Modified != 0:
			return fmt.Errorf("condition %d, of %q: it is on one revision, created or modified", i, c.Key)
		case c.Created < 0 || c.Modified < 0:
			return fmt.Errorf("condition %d, of %q: revisions are not negative", i, c.Key)
		}
	}
	seen := make(map[string]bool, len(t.Then))
	for i, c := range t.Then {
		switch {
		case c.Key == "":
			return fmt.Errorf("change %d: its key is empty", i)
		case seen[c.Key]:
			return fmt.Errorf("change %d, of %q: a transaction changes a key once", i, c.Key)
		case c.TTL < 0:
			return fmt.Errorf("change %d, of %q: a TTL of %d s, which is negative", i, c.Key, c.TTL)
		case c.Delete && (len(c.Value) > 0 || c.TTL != 0):
			return fmt.Errorf("change %d, of %q: what is deleted has no value and no TTL", i, c.Key)
		}
		seen[c.Key] = true
	}
	return nil
}

// The errors of a store.
var (
	ErrNotFound    = errors.New("not found")
	ErrUnavailable = errors.New("the cluster's store is not available")
	ErrCompacted   = errors.New("the revision was compacted")
)
