package nft

import (
	"errors"

	"dcni/pkg/firewall"
	"dcni/pkg/wire"
)

var _ firewall.Backend = (*Firewall)(nil)

// Ensure makes a network, an endpoint, a member or the router so. The caller holds the lock of the firewall.
func (f *Firewall) Ensure(o wire.Object) (changed bool, err error) {
	switch o := o.(type) {
	case *firewall.Network:
		return f.EnsureNetwork(o)
	case *firewall.Endpoint:
		return f.EnsureEndpoint(o)
	case *firewall.Takeover:
		return f.publish(o.Endpoint, firewall.Comment(o.From), getAll)
	case *firewall.Member:
		return f.ensureMember(o)
	case *firewall.Linked:
		return f.ensureLinked(o)
	case *firewall.Router:
		return true, f.closeRouter(o)
	case *firewall.Underlay:
		return f.ensureUnderlay(o)
	case *firewall.Nodes:
		return f.ensureNodes(o)
	case *firewall.Encrypted:
		return f.ensureEncrypted(o)
	case *firewall.FrameRules:
		return f.ensureFrames(o)
	case *firewall.BridgePort:
		return f.ensurePort(o)
	case *firewall.Sender:
		return f.ensureSender(o)
	case *firewall.Ingress:
		return f.ensureIngress(o)
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
	case *firewall.Member:
		return f.checkMember(o)
	case *firewall.Linked:
		return f.checkLinked(o)
	case *firewall.Router:
		return f.checkRouter(o)
	case *firewall.Underlay:
		return f.checkUnderlay(o)
	case *firewall.Nodes:
		return f.checkNodes(o)
	case *firewall.InternalBridge:
		return f.checkInternal(o)
	case *firewall.Encrypted:
		return f.checkEncrypted(o)
	case *firewall.FrameRules:
		return f.checkFrames()
	case *firewall.BridgePort:
		return f.checkPort(o)
	case *firewall.Sender:
		return f.checkSender(o)
	case *firewall.Ingress:
		return f.checkIngress(o)
	}
	return errors.ErrUnsupported
}

// Remove takes a network, an endpoint, a member, or all of an owner away.
func (f *Firewall) Remove(o wire.Object) error {
	if err := f.remove(o); !lacksNFTables(err) {
		return err
	}
	return nil
}

func (f *Firewall) remove(o wire.Object) error {
	switch o := o.(type) {
	case *firewall.Network:
		return f.RemoveNetwork(o)
	case *firewall.Endpoint:
		return f.RemoveEndpoint(o)
	case *firewall.Member:
		return f.removeMember(o)
	case *firewall.Underlay:
		return f.removeUnderlay(o)
	case *firewall.Owned:
		err := f.removeByComment(o.Comment)
		if o.Port {
			err = errors.Join(err, f.removePortOf(o.Comment))
		}
		return err
	case *firewall.FrameRules:
		return f.removeFrames()
	case *firewall.BridgePort:
		return f.removePort(o)
	case *firewall.Sender:
		return f.removeSender(o)
	case *firewall.Ingress:
		return f.removeIngress(o)
	case firewall.Installation:
		return f.uninstall()
	case *firewall.Encrypted:
		return f.removeEncrypted()
	}
	return errors.ErrUnsupported
}
