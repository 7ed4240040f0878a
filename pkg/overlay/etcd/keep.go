package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"dcni/pkg/overlay"
)

// Keep keeps an entry. It renews its lease, and looks whether the entry is there, three
// times a TTL.
func (s *Store) Keep(ctx context.Context, key string, value []byte, ttl int) error {
	t := overlay.Txn{Then: []overlay.Change{{Key: key, Value: value, TTL: ttl}}}
	if err := t.Validate(); err != nil {
		return err
	}
	if ttl < 1 {
		return fmt.Errorf("%s: kept with a TTL of %d s, must be 1 or more", key, ttl)
	}
	begun := time.Now()
	lease, err := s.grant(ctx, ttl)
	if err != nil {
		return err
	}
	defer s.revoke(lease)
	limited, cancel := s.led(ctx)
	defer cancel()
	if _, err := s.client.Put(limited, key, string(value), clientv3.WithLease(lease)); err != nil {
		return s.failed(ctx, err)
	}
	k := keeper{store: s, key: key, lease: lease, ttl: time.Duration(ttl) * time.Second, renewed: begun}
	return k.renew(ctx)
}

// A keeper keeps an entry that was written.
type keeper struct {
	store   *Store
	key     string
	lease   clientv3.LeaseID
	ttl     time.Duration
	renewed time.Time // when the last renewal that succeeded was asked for
}

// errLost says that the entry is another's by now, or gone.
var errLost = errors.New("was deleted, or written by another")

// renew renews the entry until the context ends, or its time is over.
func (k *keeper) renew(ctx context.Context) error {
	wait := k.ttl / 3
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		asked := time.Now()
		err := k.once(ctx)
		switch {
		case err == nil:
			k.renewed, wait = asked, k.ttl/3
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errLost):
			return fmt.Errorf("%w: %s %w", overlay.ErrUnavailable, k.key, err)
		case time.Now().After(k.renewed.Add(k.ttl)):
			return fmt.Errorf("%s was not renewed for %v: %w", k.key, k.ttl, err)
		default:
			wait = min(k.ttl/10, time.Second)
		}
	}
}

// once renews the lease and looks at the entry, while there is time left.
func (k *keeper) once(ctx context.Context) error {
	limited, cancel := context.WithDeadline(ctx, k.renewed.Add(k.ttl))
	defer cancel()
	limited, stop := k.store.led(limited)
	defer stop()
	err := k.store.turn(limited, func() error {
		_, err := k.store.client.KeepAliveOnce(limited, k.lease)
		if errors.Is(err, io.EOF) { // the member had refused before the client had sent
			err = rpctypes.ErrNoLeader
		}
		return err
	})
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return errLost
	} else if err != nil {
		return k.store.failed(ctx, err)
	}
	kv, err := k.store.get(limited, k.key)
	switch {
	case errors.Is(err, overlay.ErrNotFound):
		return errLost
	case err == nil && clientv3.LeaseID(kv.Lease) != k.lease:
		return errLost
	}
	return err
}
