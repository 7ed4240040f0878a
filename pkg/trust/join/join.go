// Package join is how a host becomes a node of a cluster that runs its own store. A node
// that has the CA's key listens at TCP port 2378 (the join door), with TLS 1.3:
//
//	POST /join    [Request] -> [Welcome]           a holder of a token
//	POST /renew   [RenewRequest] -> [Renewed]      nodes, by their certificate
//	POST /ca      [AuthorityRequest] -> [Authority] nodes with a member of the store, likewise
//
// Bodies are JSON. An error is a status of 400 or more with {"error": "a sentence"}. The
// client compares the CA's fingerprint with its token, and the door's certificate with
// that CA, before it sends anything.
package join

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"dcni/pkg/overlay"
	"dcni/pkg/trust"
)

// Port is the join door's.
const Port = 2378

// A Request asks to become a node.
type Request struct {
	Token   string       `json:"token"` // its ID
	Secret  string       `json:"secret"`
	Name    string       `json:"name"` // of the node
	Node    overlay.Node `json:"node"`
	Request []byte       `json:"request"` // for a certificate, PEM
}

// A Welcome is what a node is given.
type Welcome struct {
	Cluster   string     `json:"cluster"` // ID
	Prefix    string     `json:"prefix"`  // of the cluster's keys
	Endpoints []string   `json:"endpoints"`
	Kind      trust.Kind `json:"kind"`
	Cert      []byte     `json:"cert"`            // PEM
	CAKey     []byte     `json:"caKey,omitempty"` // PEM, for a [trust.Member]
}

// A RenewRequest asks for another certificate for the node of the connection.
type RenewRequest struct {
	Node    overlay.Node `json:"node"`
	Request []byte       `json:"request"` // PEM
}

// Renewed is it.
type Renewed struct {
	Cert []byte `json:"cert"` // PEM
}

// An AuthorityRequest asks for the CA's key, for the node of the connection.
type AuthorityRequest struct {
	ID string `json:"id"` // the node's
}

// An Authority is it.
type Authority struct {
	CAKey []byte `json:"caKey"` // PEM
}

// nameRule is what a node's name must be: it is a part of keys, and of a certificate.
const nameRule = "must be letters, digits, '-', '_' and '.', at most 63, the first a letter or a digit"

var nameText = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

// CheckName returns why a node can't have a name.
func CheckName(name string) error {
	if !nameText.MatchString(name) {
		return fmt.Errorf("node %q: %s", name, nameRule)
	}
	return nil
}

// A Conflict says that a node can't be what it asks to be.
type Conflict string

func (c Conflict) Error() string { return string(c) }

// idFile is where a host has its ID.
const idFile = "/var/lib/dcni/cluster/id"

// Place makes node/NAME, or takes it over from a node of that name that is dead, together
// with what more a transaction has. A host whose ID a node of another name has is refused,
// and so is a name whose node is alive. It reports false if the transaction did not hold:
// something has changed.
func Place(ctx context.Context, store overlay.Store, keys overlay.Keys, name string, node overlay.Node, more overlay.Txn) (bool, error) {
	if err := unique(ctx, store, keys, name, node.ID); err != nil {
		return false, err
	}
	before, err := store.Get(ctx, keys.Node(name))
	if err != nil && !errors.Is(err, overlay.ErrNotFound) {
		return false, err
	}
	value, err := json.Marshal(node)
	if err != nil {
		return false, err
	}
	txn := overlay.Txn{
		If:   append([]overlay.Condition{{Key: keys.Node(name), Modified: before.Modified}}, more.If...),
		Then: append([]overlay.Change{{Key: keys.Node(name), Value: value}}, more.Then...),
	}
	done, _, err := store.Commit(ctx, txn)
	return done, err
}

// unique looks for a living node of the name, and for any other of the ID.
func unique(ctx context.Context, store overlay.Store, keys overlay.Keys, name, id string) error {
	prefix := keys.Node("")
	_, err := store.List(ctx, prefix, func(e overlay.Entry) error {
		var other overlay.Node
		if err := json.Unmarshal(e.Value, &other); err != nil {
			return nil //nolint:nilerr // a node that can't be read has no ID to compare
		}
		at := strings.TrimPrefix(e.Key, prefix)
		if at != name && other.ID != id {
			return nil
		}
		_, err := store.Get(ctx, keys.Alive(at))
		alive := err == nil
		if err != nil && !errors.Is(err, overlay.ErrNotFound) {
			return err
		}
		return conflict(name, at, other.ID == id, alive)
	})
	return err
}

// conflict tells why a node of that name is in the way, if it is.
func conflict(name, at string, same, alive bool) error {
	switch {
	case same && alive:
		return Conflict(fmt.Sprintf("this host has the ID of node %q, which is alive: it is a clone of that host: remove %s here, and join again", at, idFile))
	case same && at != name:
		return Conflict(fmt.Sprintf("this host is node %q: join with --node %s, or remove that with `dnet cluster node rm %s`", at, at, at))
	case !same && alive:
		return Conflict(fmt.Sprintf("node %q is alive, and another host: choose another name with --node", at))
	}
	return nil
}
