package overlay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// A Cluster is what a node does with the store. Each method is done as a whole or not at
// all, by a transaction, however many nodes are at it. Where the store is not available,
// the error is [ErrUnavailable], wrapped, and what was asked for may have been done: every
// method but CreateNetwork and CreateService may be called again.
type Cluster struct {
	Store Store
	Keys  Keys
	Node  string       // this one's name
	Now   func() int64 // seconds since 1970; nil: it is never too late for a node that is dead
	Warn  func(error)  // takes what is passed over because it can't be read, an [UnreadableError]; nil: nothing does
}

// most is how often a transaction is tried again that another node's came before. One
// node's at least is done each time, so it only ends where the store is ill.
const most = 200

// again calls try until it reports that it is done.
func again(what string, try func() (done bool, err error)) error {
	for range most {
		if done, err := try(); done || err != nil {
			return err
		}
	}
	return wire.Errorf(wire.CodeTryAgain, "%s: other nodes' changes came before it %d times: try again later", what, most)
}

// An Existing is a network of the cluster.
type Existing struct {
	Name       string `json:"name"`
	Generation int64  `json:"generation"`
	Network
}

// read decodes a value.
func read[T any](e Entry) (T, error) {
	var v T
	if err := json.Unmarshal(e.Value, &v); err != nil {
		return v, fmt.Errorf("%s: %w", e.Key, err)
	}
	return v, nil
}

// put is the change that writes a value.
func put(key string, value any) Change {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err) // of types that are all here
	}
	return Change{Key: key, Value: data}
}

// remove is the change that deletes a key.
func remove(key string) Change { return Change{Key: key, Delete: true} }

// unchanged is the condition that an entry is as it was read.
func unchanged(e Entry) Condition { return Condition{Key: e.Key, Modified: e.Modified} }

// get returns an entry, its zero value but for the key where there is none.
func (c Cluster) get(ctx context.Context, key string) (Entry, error) {
	e, err := c.Store.Get(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return Entry{Key: key}, nil
	}
	return e, err
}

// list returns the entries below a prefix.
func (c Cluster) list(ctx context.Context, prefix string) (entries []Entry, err error) {
	_, err = c.Store.List(ctx, prefix, func(e Entry) error {
		entries = append(entries, e)
		return nil
	})
	return entries, err
}

// An UnreadableError is that of values that can't be read.
type UnreadableError struct {
	Names []string // of their networks, or nodes
	Err   error
}

func (e *UnreadableError) Error() string { return e.Err.Error() }
func (e *UnreadableError) Unwrap() error { return e.Err }

func (e *UnreadableError) add(name string, err error) {
	e.Names, e.Err = append(e.Names, name), errors.Join(e.Err, err)
}

// orNil is the error, if there is one.
func (e *UnreadableError) orNil() error {
	if e.Err == nil {
		return nil
	}
	return e
}

// passOver takes an [UnreadableError] for what it is to a caller that can do without those
// values: it warns, and returns their names. Any other error it returns.
func (c Cluster) passOver(err error) (names []string, _ error) {
	unread, is := errors.AsType[*UnreadableError](err)
	if !is {
		return nil, err
	}
	if c.Warn != nil {
		c.Warn(unread)
	}
	return unread.Names, nil
}

// Networks returns all networks, by name. Where a network's value can't be read, the error
// is an [UnreadableError], and the other networks are returned all the same. A key whose
// name no network can have is none: a slash would lead files of that name elsewhere.
func (c Cluster) Networks(ctx context.Context) ([]Existing, error) {
	entries, err := c.list(ctx, c.Keys.Network(""))
	if err != nil {
		return nil, err
	}
	out := make([]Existing, 0, len(entries))
	var unread UnreadableError
	for _, e := range entries {
		n, err := c.Keys.existing(e)
		switch {
		case !network.ValidName(n.Name) || network.CheckLength(n.Name) != nil:
		case err != nil:
			unread.add(n.Name, err)
		default:
			out = append(out, n)
		}
	}
	return out, unread.orNil()
}

// Network returns a network. Where there is none of that name, the error is one of the
// configuration, and an [ErrNotFound] as well.
func (c Cluster) Network(ctx context.Context, name string) (Existing, error) {
	e, err := c.Store.Get(ctx, c.Keys.Network(name))
	if errors.Is(err, ErrNotFound) {
		return Existing{}, missingError(name)
	}
	if err != nil {
		return Existing{}, err
	}
	return c.Keys.existing(e)
}

// A missingError is that of a network that is not there, by its name.
type missingError string

func (e missingError) Error() string {
	return fmt.Sprintf("network %q: not in the cluster; dnet create -d overlay makes it", string(e))
}

// Unwrap says that it is an error of the configuration, and why.
func (e missingError) Unwrap() []error {
	return []error{&wire.Error{Code: wire.CodeConfig, Msg: e.Error()}, ErrNotFound}
}

// existing reads an entry as a network.
func (k Keys) existing(e Entry) (Existing, error) {
	n, err := read[Network](e)
	return Existing{Name: strings.TrimPrefix(e.Key, k.Network("")), Generation: e.Created, Network: n}, err
}

// Nodes returns the cluster's nodes by name. Where a node's value can't be read, the error is
// an [UnreadableError], and the other nodes are returned all the same.
func (c Cluster) Nodes(ctx context.Context) (map[string]Node, error) {
	entries, err := c.list(ctx, c.Keys.Node(""))
	if err != nil {
		return nil, err
	}
	nodes := make(map[string]Node, len(entries))
	var unread UnreadableError
	for _, e := range entries {
		name := strings.TrimPrefix(e.Key, c.Keys.Node(""))
		if n, err := read[Node](e); err != nil {
			unread.add(name, err)
		} else {
			nodes[name] = n
		}
	}
	return nodes, unread.orNil()
}

// A Placed is an endpoint with where it is.
type Placed struct {
	Owner
	Created int64 // the revision at which it was claimed
	Endpoint
}

// Endpoints returns a network's endpoints on all nodes, by node.
func (c Cluster) Endpoints(ctx context.Context, network string) ([]Placed, error) {
	return c.endpoints(ctx, network, c.Keys.Endpoint(network, "", ""))
}

func (c Cluster) endpoints(ctx context.Context, network, prefix string) ([]Placed, error) {
	entries, err := c.list(ctx, prefix)
	if err != nil {
		return nil, err
	}
	out := make([]Placed, len(entries))
	for i, e := range entries {
		if out[i], err = c.Keys.placed(network, e); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// placed reads an entry as an endpoint of a network.
func (k Keys) placed(network string, e Entry) (Placed, error) {
	ep, err := read[Endpoint](e)
	owner := ParseOwner([]byte(strings.TrimPrefix(e.Key, k.Endpoint(network, "", ""))))
	return Placed{Owner: owner, Created: e.Created, Endpoint: ep}, err
}

// attachment returns whose endpoint it is.
func (e Endpoint) attachment(network string) wire.Attachment {
	return wire.Attachment{Network: network, Container: e.Container, IfName: e.IfName}
}

// narrowest returns the node through whose underlay the least fits, its name and how much.
func narrowest(nodes map[string]Node, encrypted bool) (name string, room int) {
	for _, n := range slices.Sorted(maps.Keys(nodes)) {
		if r := nodes[n].Tunnel(encrypted).MTU(); name == "" || r < room {
			name, room = n, r
		}
	}
	return name, room
}
