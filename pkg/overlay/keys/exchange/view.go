package exchange

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"dcni/pkg/overlay"
	"dcni/pkg/overlay/keys"
)

// A view is what the store says. It outlives the store's absence.
type view struct {
	cluster, self string
	port          int // UDP, of encrypted networks
	verifier      keys.Verifier
	log           *slog.Logger

	store *Store // nil while it is away
	nodes map[string]overlay.Node
	alive map[string]bool
	keys  map[string]keys.Keys // what is believed of records, and of the pages for this node
	left  map[string]bool      // their record is gone
	own   []byte               // this node's record in the store; nil: none
	made  string               // which store it is: the value of its key overlay.Keys.Recovery
	// written is what this process wrote last; nil: nothing, or it is not known whether
	// that is there.
	written   []byte
	writtenAt int64 // the revision
	rotate    int64 // the revision at which all were last asked to rotate
}

// local is this node's address, as others know it.
func (v *view) local() netip.Addr { return v.nodes[v.self].Address }

// input is what the machine is told of other nodes. While the store is away, nothing is
// known of who is in touch with it.
func (v *view) input() keys.Input {
	in := keys.Input{Local: v.local(), Port: v.port, Nodes: map[string]keys.Node{}, Keys: map[string]keys.Keys{}}
	for name, n := range v.nodes {
		if name == v.self {
			continue
		}
		in.Nodes[name] = keys.Node{Address: n.Address, Alive: v.store != nil && v.alive[name]}
		if k, ok := v.keys[name]; ok && k.Sender != nil {
			in.Keys[name] = k
		}
	}
	return in
}

// follow keeps the view as the store says, until the context ends.
func (e *Exchange) follow(ctx context.Context) {
	said := ""
	for ctx.Err() == nil {
		err := e.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if text := err.Error(); text != said {
			e.Log.Warn("encrypted networks go on with the keys there are", "error", err)
			said = text
		}
		wait := pause
		e.mu.Lock()
		if e.view != nil {
			e.view.store = nil
			wait += rand.N(time.Duration(len(e.view.nodes)+1) * listPause)
		}
		e.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// session follows the store for as long as it can go on.
func (e *Exchange) session(ctx context.Context) error {
	store, err := e.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }() // what was written was confirmed
	v, err := e.newView(ctx, store)
	if err != nil {
		return err
	}
	k := store.Keys
	prefixes := []string{k.Node(""), k.Alive(""), k.Key(""), k.KeyPage(overlay.KeyPageOf(store.Node), ""), k.Rotate()}
	from := make([]int64, len(prefixes))
	for i, prefix := range prefixes {
		from[i], err = store.List(ctx, prefix, func(entry overlay.Entry) error {
			v.take(overlay.Event{Entry: entry})
			return nil
		})
		if err != nil {
			return err
		}
	}
	e.see(v)
	return e.watch(ctx, v, prefixes, from)
}

// newView returns a view with nothing in it yet.
func (e *Exchange) newView(ctx context.Context, store *Store) (*view, error) {
	id, err := e.Identity()
	if err != nil {
		return nil, err
	}
	port, err := portOf(ctx, store)
	if err != nil {
		return nil, err
	}
	made, err := store.Get(ctx, store.Keys.Recovery())
	if err != nil && !errors.Is(err, overlay.ErrNotFound) {
		return nil, err
	}
	return &view{
		cluster: store.Cluster, self: store.Node, port: port, verifier: keys.Verifier{Cluster: store.Cluster, CA: id.CA}, log: e.Log,
		store: store, made: string(made.Value), nodes: map[string]overlay.Node{}, alive: map[string]bool{}, keys: map[string]keys.Keys{}, left: map[string]bool{},
	}, nil
}

// watch takes changes until one of the watches ends, and says why.
func (e *Exchange) watch(ctx context.Context, v *view, prefixes []string, from []int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended, store := make(chan error, len(prefixes)), v.store
	for i, prefix := range prefixes {
		go func() {
			ended <- store.Watch(ctx, prefix, from[i], func(_ int64, changes []overlay.Event) error {
				e.mu.Lock()
				for _, c := range changes {
					v.take(c)
				}
				e.at = time.Now()
				e.mu.Unlock()
				e.wake()
				return nil
			})
		}()
	}
	err := <-ended
	cancel()
	for range prefixes[1:] {
		<-ended //nolint:errcheck // they end because the first has
	}
	if err == nil {
		err = overlay.ErrUnavailable
	}
	return err
}

// portOf returns the port of encrypted networks.
func portOf(ctx context.Context, store *Store) (int, error) {
	entry, err := store.Get(ctx, store.Keys.Meta())
	if err != nil {
		return 0, err
	}
	var meta overlay.Meta
	if err := json.Unmarshal(entry.Value, &meta); err != nil {
		return 0, fmt.Errorf("the cluster's entry: %w", err)
	}
	const highest = 1<<16 - 1
	if meta.PortESP <= 0 || meta.PortESP > highest {
		return 0, fmt.Errorf("the cluster's entry: portESP %d: must be 1 to %d", meta.PortESP, highest)
	}
	return meta.PortESP, nil
}

// see replaces the view. A store that was made again, as of a snapshot, may have old pages
// beside the record: what was written to another one counts for nothing.
func (e *Exchange) see(v *view) {
	e.mu.Lock()
	if e.view != nil && e.view.cluster == v.cluster && e.view.self == v.self && e.view.made == v.made {
		v.written, v.writtenAt = e.view.written, e.view.writtenAt
	}
	e.view, e.at = v, time.Now()
	e.mu.Unlock()
	e.wake()
}

func (e *Exchange) wake() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// take notes one change. A value that can't be read, or that is not believed, counts as if
// it were not there.
func (v *view) take(c overlay.Event) {
	k := v.store.Keys
	switch {
	case c.Key == k.Rotate():
		v.rotate = c.Modified
	case strings.HasPrefix(c.Key, k.Alive("")):
		v.alive[strings.TrimPrefix(c.Key, k.Alive(""))] = !c.Deleted
	case strings.HasPrefix(c.Key, k.Node("")):
		v.takeNode(strings.TrimPrefix(c.Key, k.Node("")), c)
	case strings.HasPrefix(c.Key, k.Key("")):
		v.takeRecord(strings.TrimPrefix(c.Key, k.Key("")), c)
	case strings.HasPrefix(c.Key, k.KeyPage(overlay.KeyPageOf(v.self), "")):
		v.takePage(strings.TrimPrefix(c.Key, k.KeyPage(overlay.KeyPageOf(v.self), "")), c)
	}
}

func (v *view) takeNode(name string, c overlay.Event) {
	var n overlay.Node
	if !c.Deleted {
		if err := json.Unmarshal(c.Value, &n); err != nil {
			v.log.Warn("a node's entry can't be read", "node", name, "error", err)
			return
		}
		v.nodes[name] = n
		return
	}
	delete(v.nodes, name)
	delete(v.keys, name)
}

// takeRecord reads a key record. One that is refused leaves the one before: a client that can
// write to the store but not sign must not end what is well.
func (v *view) takeRecord(name string, c overlay.Event) {
	if name == v.self {
		if c.Modified > v.writtenAt {
			v.own = c.Value
		}
		return
	}
	if v.left[name] = c.Deleted; c.Deleted {
		return // states with it stay: its node's entry says whether that has left
	}
	sender, err := v.verifier.Record(name, c.Value, time.Now().Unix())
	if err != nil {
		v.refuse(name, err)
		return
	}
	k := v.keys[name]
	k.Sender = sender
	v.keys[name] = k
}

// takePage reads what another node says to this one. A page that is gone, or is refused,
// leaves the one before.
func (v *view) takePage(name string, c overlay.Event) {
	if name == v.self || c.Deleted {
		return
	}
	receiver, inbound, err := v.verifier.Page(name, v.self, c.Value, time.Now().Unix())
	if err != nil {
		v.refuse(name, err)
		return
	}
	k := v.keys[name]
	k.Receiver, k.Inbound = receiver, inbound
	v.keys[name] = k
}

func (v *view) refuse(name string, err error) {
	v.log.Error("a node's key record is refused: it may be forged", "node", name, "error", fmt.Sprint(err))
}
