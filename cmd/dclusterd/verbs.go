package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"dcni/pkg/cluster"
)

// admin does what `dnet cluster` asks for.
func (d *daemon) admin(ctx context.Context, verb string, args json.RawMessage) (json.RawMessage, error) {
	switch verb {
	case cluster.Init:
		return do(ctx, args, d.init)
	case cluster.Join:
		return do(ctx, args, d.join)
	case cluster.Leave:
		return do(ctx, args, d.leave)
	case cluster.Reset:
		return do(ctx, args, d.reset)
	case cluster.Restore:
		return do(ctx, args, d.restore)
	case cluster.Status:
		return do(ctx, args, d.status)
	}
	n, err := d.here()
	if err != nil {
		return nil, err
	}
	switch verb {
	case cluster.Token:
		return do(ctx, args, n.token)
	case cluster.Nodes:
		return do(ctx, args, n.nodes)
	case cluster.RemoveNode:
		return do(ctx, args, n.removeNode)
	case cluster.Sync:
		return do(ctx, args, func(ctx context.Context, _ nothing) (nothing, error) {
			return nothing{}, errors.Join(n.files.sync(ctx), n.ingress.sync(ctx))
		})
	case cluster.Publish:
		return do(ctx, args, n.ingress.publish)
	case cluster.Members:
		return do(ctx, args, n.setMembers)
	case cluster.Rotate:
		return do(ctx, args, n.rotate)
	case cluster.Renew:
		return do(ctx, args, n.renewNow)
	case cluster.Snapshot:
		return do(ctx, args, n.snapshot)
	}
	return nil, fmt.Errorf("dclusterd: unknown request %q: dnet is of another version", verb)
}

// nothing is what a verb has no arguments, or no answer, by.
type nothing struct{}

// do reads the arguments, calls the verb and writes its answer.
func do[Q, A any](ctx context.Context, args json.RawMessage, verb func(context.Context, Q) (A, error)) (json.RawMessage, error) {
	var q Q
	if len(args) > 0 {
		if err := json.Unmarshal(args, &q); err != nil {
			return nil, err
		}
	}
	a, err := verb(ctx, q)
	if err != nil {
		return nil, err
	}
	return json.Marshal(a)
}
