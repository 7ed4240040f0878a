// Package rules has what the firewall is to hold: networks, endpoints, ports that are
// closed, and whether the host forwards. Package nft carries that out; here is what it
// takes locks and records for: who else is there, what was found, and what is installed
// again after another program flushed it.
package rules

import (
	"errors"
	"sync"

	"dcni/pkg/firewall"
	"dcni/pkg/host/iptables"
	"dcni/pkg/host/links"
	"dcni/pkg/host/nft"
	"dcni/pkg/host/xfrm"
	"dcni/pkg/wire"
)

// Rules works on the firewall of the host. It is for one piece of work.
type Rules struct {
	*links.Links
	IPsec *xfrm.Kernel

	nft       firewall.Backend
	senders   func(bridge string) ([]*firewall.Sender, error)
	ipt       *iptables.Firewall
	installed bool // nftables' rules were missing, and were installed

	mu      sync.Mutex
	checked map[string]error // what CheckIngress has said of a network: each of its containers asks
}

// New returns the rules of the host. The records are what elements are installed from
// when another program flushed them. Close them after use.
func New(l *links.Links, ipsec *xfrm.Kernel) *Rules {
	h := &Rules{Links: l, IPsec: ipsec}
	nftables := nft.New()
	nftables.Siblings, nftables.EndpointOf, nftables.IsGatewayEndpoint = h.siblingAttachments, h.endpoint, h.isGatewayEndpoint
	nftables.Closed, nftables.Others = h.closedByNFTables, h.claimsOfIPTables
	h.nft, h.senders = nftables, nftables.Senders
	h.ipt = &iptables.Firewall{
		Siblings: h.siblingAttachments, EndpointOf: h.endpoint, IsGatewayEndpoint: h.isGatewayEndpoint,
		Families: h.familiesByIPTables, Closed: h.closedFamilies, Others: h.claimsOfNFTables,
		Passing: func() ([]firewall.Passing, error) {
			list, err := nftables.Passing()
			return list, h.ifThere(err)
		},
	}
	return h
}

// Close lets go of the firewall's socket.
func (h *Rules) Close() { h.nft.Close() }

// Of returns the kind of an object; nil for one that is none of this package's.
func (h *Rules) Of(o wire.Object) wire.Kind {
	switch o := o.(type) {
	case *firewall.Network:
		return fwNetwork{h, o}
	case *firewall.Endpoint:
		return fwEndpoint{h, o}
	case *firewall.Member:
		return fwMember{h, o}
	case *firewall.Links:
		return fwLinks{h, o}
	case *firewall.Sender:
		return fwSender{h, o}
	case *firewall.Underlay:
		return underlay{h, o}
	case *firewall.Nodes:
		return underlayNodes{h, o}
	case *firewall.Encrypted:
		return fwEncrypted{h, o}
	case *firewall.Owned:
		return fwOwned{h, o}
	case *firewall.FrameRules:
		return frameRules{h, o}
	case *firewall.BridgePort:
		return bridgePort{h, o}
	case *wire.Forwarding:
		return forwarding{h, o}
	case *wire.ForwardAll:
		return forwardAll{h, o}
	case *wire.Flows:
		return flows{h, o}
	}
	return nil
}

// Internal reports whether a link of the host is the bridge of an internal network, from
// which nothing that is published may be reached.
func (h *Rules) Internal(link string) (bool, error) {
	for _, backend := range h.backends() {
		err := backend.Check(&firewall.InternalBridge{Bridge: link})
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, firewall.ErrNotInternal) && h.ifThere(err) != nil {
			return false, err
		}
	}
	return false, nil
}
