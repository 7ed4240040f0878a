package nft

import (
	"errors"

	"dcni/pkg/firewall"
	"dcni/pkg/wire"
)

var _ firewall.Backend = (*Firewall)(nil)

// Ensure makes a network or an endpoint so. The caller holds the lock of the firewall.
func (f *Firewall) Ensure(o wire.Object) (changed bool, err error) {
	switch o := o.(type) {
	case *firewall.Network:
		return f.EnsureNetwork(o)
	case *firewall.Endpoint:
		return f.EnsureEndpoint(o)
	}
	return false, errors.ErrUnsupported
}

// Check tells every difference.
func (f *Firewall) Check(o wire.Object) error {
	switch o := o.(type) {
	case *firewall.Network:
		return f.CheckNetwork(o)
	case *firewall.Endpoint:
		return f.CheckEndpoint(o)
	}
	return errors.ErrUnsupported
}

// Remove takes a network, an endpoint, or all of an owner away.
func (f *Firewall) Remove(o wire.Object) error {
	switch o := o.(type) {
	case *firewall.Network:
		return f.RemoveNetwork(o)
	case *firewall.Endpoint:
		return f.RemoveEndpoint(o)
	case *firewall.Owned:
		return f.removeByComment(o.Comment)
	}
	return errors.ErrUnsupported
}
