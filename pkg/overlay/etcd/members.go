package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"dcni/pkg/overlay"
)

// A Member is one of etcd's.
type Member struct {
	ID      string   `json:"id"`   // hexadecimal, as etcd's tools show it
	Name    string   `json:"name"` // "" for one that was added and never started
	Peer    []string `json:"peer"` // URLs
	Client  []string `json:"client"`
	Learner bool     `json:"learner,omitempty"` // has no vote

	// Of those that answer. Error says why one does not.
	Leader   bool   `json:"leader,omitempty"`
	Version  string `json:"version,omitempty"`
	Size     int64  `json:"size,omitempty"` // bytes, of the database
	Revision int64  `json:"revision,omitempty"`
	Error    string `json:"error,omitempty"`
}

// ErrNotReady says that a learner can't be promoted yet: it lacks too much.
var ErrNotReady = errors.New("the learner is not in sync yet")

// Members returns etcd's members, and asks each how it is.
func (s *Store) Members(ctx context.Context) ([]Member, error) {
	return s.members(ctx, s.led)
}

// KnownMembers returns the members that the one asked knows, and asks each how it is. It
// needs no quorum: who is to say which members are away asks so.
func (s *Store) KnownMembers(ctx context.Context) ([]Member, error) {
	return s.members(ctx, s.limit, clientv3.WithSerializable())
}

func (s *Store) members(ctx context.Context, limit func(context.Context) (context.Context, context.CancelFunc), opts ...clientv3.OpOption) ([]Member, error) {
	limited, cancel := limit(ctx)
	defer cancel()
	r, err := s.client.MemberList(limited, opts...)
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	list := make([]Member, len(r.Members))
	var asked sync.WaitGroup
	for i, m := range r.Members {
		list[i] = Member{ID: memberID(m.ID), Name: m.Name, Peer: m.PeerURLs, Client: m.ClientURLs, Learner: m.IsLearner}
		asked.Go(func() { s.ask(ctx, m.ID, &list[i]) })
	}
	asked.Wait()
	return list, nil
}

// MemberNames returns the names of etcd's members. None of them is asked itself: one that
// is gone takes no time.
func (s *Store) MemberNames(ctx context.Context) ([]string, error) {
	limited, cancel := s.led(ctx)
	defer cancel()
	r, err := s.client.MemberList(limited)
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	var list []string
	for _, m := range r.Members {
		list = append(list, m.Name)
	}
	return list, nil
}

// ask asks a member how it is.
func (s *Store) ask(ctx context.Context, id uint64, m *Member) {
	if len(m.Client) == 0 {
		m.Error = "it was never started"
		return
	}
	limited, cancel := s.limit(ctx)
	defer cancel()
	r, err := s.client.Status(limited, m.Client[0])
	if err != nil {
		m.Error = err.Error()
		return
	}
	m.Leader, m.Version, m.Size, m.Revision = r.Leader == id, r.Version, r.DbSize, r.Header.Revision
	if len(r.Errors) > 0 {
		m.Error = r.Errors[0]
	}
}

func memberID(id uint64) string { return strconv.FormatUint(id, 16) }

// AddLearner tells etcd of a new member without a vote, which is to be started with
// state Existing at a peer URL. It returns all members' peer URLs by name; the new one's
// is the given name.
func (s *Store) AddLearner(ctx context.Context, name, peer string) (map[string]string, error) {
	limited, cancel := s.led(ctx)
	defer cancel()
	r, err := s.client.MemberAddAsLearner(limited, []string{peer})
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	members := map[string]string{name: peer}
	for _, m := range r.Members {
		if m.ID != r.Member.ID && m.Name != "" && len(m.PeerURLs) > 0 {
			members[m.Name] = m.PeerURLs[0]
		}
	}
	return members, nil
}

// Promote gives a learner a vote, or returns ErrNotReady.
func (s *Store) Promote(ctx context.Context, id string) error {
	return s.change(ctx, id, func(ctx context.Context, id uint64) error {
		_, err := s.client.MemberPromote(ctx, id)
		if errors.Is(err, rpctypes.ErrMemberLearnerNotReady) {
			return ErrNotReady
		}
		return err
	})
}

// Remove removes a member, which stops. It returns overlay.ErrNotFound where there is
// none.
func (s *Store) Remove(ctx context.Context, id string) error {
	return s.change(ctx, id, func(ctx context.Context, id uint64) error {
		_, err := s.client.MemberRemove(ctx, id)
		return err
	})
}

// change changes a member.
func (s *Store) change(ctx context.Context, id string, call func(context.Context, uint64) error) error {
	n, err := strconv.ParseUint(id, 16, 64)
	if err != nil {
		return fmt.Errorf("etcd member %q: must be its ID, up to 16 hexadecimal digits", id)
	}
	limited, cancel := s.led(ctx)
	defer cancel()
	switch err := call(limited, n); {
	case err == nil:
		return nil
	case errors.Is(err, rpctypes.ErrMemberNotFound):
		return fmt.Errorf("etcd member %s: %w", id, overlay.ErrNotFound)
	case errors.Is(err, ErrNotReady):
		return fmt.Errorf("etcd member %s: %w", id, err)
	default:
		return s.failed(ctx, err)
	}
}

// Snapshot writes all that the store has, as `etcdctl snapshot save` does. Only the
// context limits its time.
func (s *Store) Snapshot(ctx context.Context, to io.Writer) error {
	r, err := s.client.SnapshotWithVersion(ctx)
	if err != nil {
		return s.failed(ctx, err)
	}
	defer r.Snapshot.Close()
	if _, err := io.Copy(to, r.Snapshot); err != nil {
		return fmt.Errorf("snapshot of etcd %s: %w", r.Version, err)
	}
	return nil
}

// Refresh asks etcd where its members are, and asks those from now on.
func (s *Store) Refresh(ctx context.Context) error {
	limited, cancel := s.led(ctx)
	defer cancel()
	if err := s.client.Sync(limited); err != nil {
		return s.failed(ctx, err)
	}
	return nil
}
