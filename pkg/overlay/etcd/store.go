package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"dcni/pkg/overlay"
)

var _ overlay.Store = (*Store)(nil)

// page is how many entries are asked for at once. A cluster of 10,000 that every node
// lists whole costs the member 910 MB.
const page = 500

// Get returns an entry.
func (s *Store) Get(ctx context.Context, key string) (overlay.Entry, error) {
	kv, err := s.get(ctx, key)
	if err != nil {
		return overlay.Entry{}, err
	}
	return entry(kv), nil
}

func (s *Store) get(ctx context.Context, key string) (*mvccpb.KeyValue, error) {
	if key == "" { // which etcd has no name for
		return nil, fmt.Errorf("no key: %w", overlay.ErrNotFound)
	}
	limited, cancel := s.led(ctx)
	defer cancel()
	r, err := s.client.Get(limited, key)
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	if len(r.Kvs) == 0 {
		return nil, fmt.Errorf("%s: %w", key, overlay.ErrNotFound)
	}
	return r.Kvs[0], nil
}

func entry(kv *mvccpb.KeyValue) overlay.Entry {
	return overlay.Entry{Key: string(kv.Key), Value: kv.Value, Created: kv.CreateRevision, Modified: kv.ModRevision}
}

// scope returns the first key that begins with a prefix, and the end of all of them.
func scope(prefix string) (first string, end clientv3.OpOption) {
	if prefix == "" {
		return "\x00", clientv3.WithFromKey()
	}
	return prefix, clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix))
}

// List calls each with the entries below a prefix.
func (s *Store) List(ctx context.Context, prefix string, each func(overlay.Entry) error) (revision int64, err error) {
	key, end := scope(prefix)
	for {
		r, err := s.list(ctx, key, end, revision)
		if err != nil {
			return 0, err
		}
		if revision == 0 {
			revision = r.Header.Revision
		}
		for _, kv := range r.Kvs {
			if err := each(entry(kv)); err != nil {
				return 0, err
			}
		}
		if !r.More || len(r.Kvs) == 0 {
			return revision, nil
		}
		key = string(r.Kvs[len(r.Kvs)-1].Key) + "\x00" // the least that comes after
	}
}

// pageShare is how many times as long as other requests a page may take. Where all nodes
// list at once, those that give up and begin anew are what a busy member never catches up
// with.
const pageShare = 4

// list returns a page, as it was at a revision; 0: now.
func (s *Store) list(ctx context.Context, key string, end clientv3.OpOption, revision int64) (*clientv3.GetResponse, error) {
	patience := s.patience()
	if patience == s.timeout {
		patience *= pageShare
	}
	limited, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), patience)
	defer cancel()
	r, err := s.client.Get(limited, key, end, clientv3.WithRev(revision), clientv3.WithLimit(page))
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil, s.silent(patience)
	}
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	return r, nil
}

// Commit makes changes if the conditions hold.
func (s *Store) Commit(ctx context.Context, t overlay.Txn) (bool, int64, error) {
	if err := t.Validate(); err != nil {
		return false, 0, err
	}
	leases, err := s.grantAll(ctx, t.Then)
	if err != nil {
		return false, 0, err
	}
	limited, cancel := s.led(ctx)
	defer cancel()
	r, err := s.client.Txn(limited).If(comparisons(t.If)...).Then(operations(t.Then, leases)...).Commit()
	if err != nil { // the changes may have been made: their leases end with their time
		return false, 0, s.failed(ctx, err)
	}
	if !r.Succeeded {
		s.revokeAll(leases)
	}
	return r.Succeeded, r.Header.Revision, nil
}

func comparisons(conditions []overlay.Condition) []clientv3.Cmp {
	var list []clientv3.Cmp
	for _, c := range conditions {
		if c.Modified != 0 {
			list = append(list, clientv3.Compare(clientv3.ModRevision(c.Key), "=", c.Modified))
		} else { // an absent key was made at 0
			list = append(list, clientv3.Compare(clientv3.CreateRevision(c.Key), "=", c.Created))
		}
	}
	return list
}

func operations(changes []overlay.Change, leases map[int]clientv3.LeaseID) []clientv3.Op {
	var list []clientv3.Op
	for _, c := range changes {
		if c.Delete {
			list = append(list, clientv3.OpDelete(c.Key))
		} else {
			list = append(list, clientv3.OpPut(c.Key, string(c.Value), clientv3.WithLease(leases[c.TTL])))
		}
	}
	return list
}

// grantAll makes a lease for each TTL of changes; 0 has none.
func (s *Store) grantAll(ctx context.Context, changes []overlay.Change) (map[int]clientv3.LeaseID, error) {
	leases := map[int]clientv3.LeaseID{}
	for _, c := range changes {
		if c.TTL == 0 || leases[c.TTL] != clientv3.NoLease {
			continue
		}
		id, err := s.grant(ctx, c.TTL)
		if err != nil {
			s.revokeAll(leases)
			return nil, err
		}
		leases[c.TTL] = id
	}
	return leases, nil
}

func (s *Store) grant(ctx context.Context, ttl int) (clientv3.LeaseID, error) {
	limited, cancel := s.led(ctx)
	defer cancel()
	r, err := s.client.Grant(limited, int64(ttl))
	if err != nil {
		return clientv3.NoLease, s.failed(ctx, err)
	}
	return r.ID, nil
}

func (s *Store) revokeAll(leases map[int]clientv3.LeaseID) {
	for _, id := range leases {
		s.revoke(id)
	}
}

// revokeTimeout is short: a lease that isn't revoked ends by itself.
const revokeTimeout = 2 * time.Second

// revoke ends a lease, and deletes what hangs on it. The caller's context may have ended.
func (s *Store) revoke(id clientv3.LeaseID) {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(s.client.Ctx()), min(revokeTimeout, s.timeout))
	defer cancel()
	_, _ = s.client.Revoke(ctx, id)
}
