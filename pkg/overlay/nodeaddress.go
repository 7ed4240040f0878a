package overlay

import (
	"context"
	"errors"
	"net/netip"
	"strings"

	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// The bridge of a network with NodeAddresses has an address on each node that is the node's
// own, besides the gateway's, which all nodes have: by it the host and containers of other
// nodes reach each other. In the store it is an endpoint without a container, whose MAC is
// the node's router MAC. A node claims it with its first container on the network, and has
// it until the node or the network is removed.

// nodeAttachment stands for a node where keys have an attachment. A runtime's has a container.
func nodeAttachment(network string) wire.Attachment { return wire.Attachment{Network: network} }

// OfNode reports whether an endpoint is a node's own, and no container's.
func (e Endpoint) OfNode() bool { return e.Container == "" }

// OfNode reports whether a key is that of an endpoint which is a node's own.
func (k Keys) OfNode(key string) bool {
	network, owner, _ := strings.Cut(strings.TrimPrefix(key, k.Prefix+"ep/"), "/")
	return ParseOwner([]byte(owner)).Attachment == AttachmentKey(nodeAttachment(network))
}

// OfIngress reports whether an endpoint is a node's, for the ports of services.
func (e Endpoint) OfIngress() bool { return service.IsIngress(e.Container) }

// OfContainer reports whether a key of an endpoint is that of a container's.
func (k Keys) OfContainer(key string) bool {
	network, owner, _ := strings.Cut(strings.TrimPrefix(key, k.Prefix+"ep/"), "/")
	return !k.OfNode(key) && ParseOwner([]byte(owner)).Attachment != AttachmentKey(service.IngressOf(network))
}

// ClaimNode returns this node's own addresses on a network, one of each family. It claims
// them if the node has none yet.
func (c Cluster) ClaimNode(ctx context.Context, n Existing) ([]netip.Prefix, error) {
	ep, err := c.EndpointOf(ctx, nodeAttachment(n.Name))
	if err == nil {
		return n.withLengths(ep.Addresses), nil
	}
	if !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	got, err := c.Claim(ctx, Claim{Attachment: nodeAttachment(n.Name), Generation: n.Generation, MAC: RouterMAC(c.Node, n.Name), Ready: true})
	if refused, is := errors.AsType[*wire.Error](err); is {
		return nil, &wire.Error{Code: refused.Code, Msg: "nodeAddresses: node " + c.Node + " needs an address as well", Err: err}
	}
	if err != nil {
		return nil, err
	}
	list := make([]netip.Prefix, len(got.Addresses))
	for i, a := range got.Addresses {
		list[i] = a.Address
	}
	return list, nil
}

// RecoverNode claims again the addresses that this node has on a network, as
// [Cluster.Recover] does for its containers.
func (c Cluster) RecoverNode(ctx context.Context, network string, have []netip.Prefix) ([]Conflict, error) {
	ep := Endpoint{MAC: RouterMAC(c.Node, network), Ready: true}
	for _, p := range have {
		ep.Addresses = append(ep.Addresses, p.Addr())
	}
	return c.Recover(ctx, network, []Endpoint{ep})
}

// CheckNode returns an error if the store does not have these as the node's own addresses.
func (c Cluster) CheckNode(ctx context.Context, n Existing) error {
	_, err := c.EndpointOf(ctx, nodeAttachment(n.Name))
	if errors.Is(err, ErrNotFound) {
		return errors.New("the cluster does not know that node " + c.Node + " has an address on network " + n.Name)
	}
	return err
}

// withLengths returns addresses with the lengths of the subnets that they are in.
func (n Network) withLengths(list []netip.Addr) (out []netip.Prefix) {
	for _, a := range list {
		for _, s := range n.Subnets {
			if s.Prefix.Contains(a) {
				out = append(out, netip.PrefixFrom(a, s.Prefix.Bits()))
			}
		}
	}
	return out
}

// containers returns those endpoints that are containers'.
func containers(eps []Placed) (list []Placed) {
	for _, e := range eps {
		if !e.OfNode() && !e.OfIngress() {
			list = append(list, e)
		}
	}
	return list
}
