package overlay

import (
	"context"

	"dcni/pkg/wire"
)

// Meta returns what the whole cluster has.
func (c Cluster) Meta(ctx context.Context) (Meta, error) {
	e, err := c.Store.Get(ctx, c.Keys.Meta())
	if err != nil {
		return Meta{}, err
	}
	return read[Meta](e)
}

// EndpointOf returns the endpoint of an attachment of this node, [ErrNotFound] where it
// has none.
func (c Cluster) EndpointOf(ctx context.Context, a wire.Attachment) (Endpoint, error) {
	e, err := c.Store.Get(ctx, c.Keys.Endpoint(a.Network, c.Node, AttachmentKey(a)))
	if err != nil {
		return Endpoint{}, err
	}
	return read[Endpoint](e)
}
