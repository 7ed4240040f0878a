// Package host is the real machine: the [wire.Host] of Linux. It carries objects out
// through the packages below it: rtnl (links, addresses, routes), vxlan and xfrm (overlay
// networks and their encryption), nft (the firewall), nstable (what a sandbox has besides
// its links), conntrack, proc, and agent, which talks to dnetd. It starts two programs:
// dnetd, where none runs, and the reaper of a bind, which outlives its plugin.
//
// Each kind of object has the same four short methods. The switch in [Host.kind] is
// the only place that knows them all.
package host

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"dcni/pkg/firewall"
	"dcni/pkg/host/agent"
	"dcni/pkg/host/links"
	"dcni/pkg/host/nft"
	"dcni/pkg/host/spaces"
	"dcni/pkg/host/xfrm"
	"dcni/pkg/names"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// Host is the machine that the process runs on, as seen from the network
// namespace that it was started in.
type Host struct {
	// NeverStartDnetd says that dnetd is not started where none answers: the caller is
	// dnetd, which may be about to end.
	NeverStartDnetd bool

	records   records.Store
	fw        firewall.Backend
	installed bool // the rules were missing, and were installed
	spaces    *spaces.Set
	links     *links.Links

	mu    sync.Mutex
	ipsec *xfrm.Conn // see xfrm; nil until first used
}

// New opens the machine. The store's records are what the firewall's elements
// are installed from when another program flushed them. Close it after use.
func New(store records.Store) (*Host, error) {
	open, err := spaces.New()
	if err != nil {
		return nil, err
	}
	h := &Host{records: store, spaces: open, links: &links.Links{Set: open, Records: store}}
	nftables := nft.New()
	nftables.Siblings, nftables.EndpointOf, nftables.IsGatewayEndpoint = h.siblingAttachments, h.endpoint, h.isGatewayEndpoint
	nftables.Closed = h.closedFamilies
	h.fw = nftables
	return h, nil
}

// Close lets go of sockets and namespaces.
func (h *Host) Close() {
	h.spaces.Close()
	h.fw.Close()
	if h.ipsec != nil {
		h.ipsec.Close()
	}
}

func (h *Host) kind(o wire.Object) wire.Kind {
	switch o := o.(type) {
	case *wire.Bridge, *wire.Veth, *wire.Up, *wire.Addr, *wire.Route, *wire.Sysctl, *wire.Autoconf, *wire.Borrowed:
		return h.links.Of(o)
	case *wire.Child:
		return child{h, o}
	case *wire.Parent:
		return parent{h, o}
	case *wire.HostAccess:
		return hostAccess{h, o}
	case *wire.SharedLink:
		return sharedLink{h, o}
	case *wire.Forwarding:
		return forwarding{h, o}
	case *wire.ForwardAll:
		return forwardAll{h, o}
	case *wire.Announcement:
		return announcement{h, o}
	case *wire.Flows:
		return flows{h, o}
	case *wire.NetNSBind:
		return bind{h, o}
	case *wire.SharedLo:
		return sharedLo{h, o}
	case *wire.Permission:
		return permission{o}
	case *wire.XfrmState, *wire.XfrmPolicy:
		return xfrmObject{h, o}
	case *names.Resolver:
		return resolver{h, o}
	case *wire.Vxlan:
		return overlay{h.vxlan().Of(o), "vxlan"}
	case *wire.FDB, *wire.Neigh, *wire.Rule:
		return overlay{h.vxlan().Of(o), ""}
	case *wire.Peers:
		return peers{h, o}
	}
	return h.rulesKind(o)
}

// rulesKind is kind for what is in the firewall.
func (h *Host) rulesKind(o wire.Object) wire.Kind {
	switch o := o.(type) {
	case *firewall.Network:
		return fwNetwork{h, o}
	case *firewall.Endpoint:
		return fwEndpoint{h, o}
	case *firewall.Member:
		return fwMember{h, o}
	case *firewall.Underlay:
		return underlay{h, o}
	case *firewall.Nodes:
		return underlayNodes{h, o}
	case *firewall.Encrypted:
		return fwEncrypted{h, o}
	case *firewall.Owned:
		return fwOwned{h, o}
	}
	panic(fmt.Sprintf("host: no such kind of object: %T", o))
}

// Ensure makes o so.
func (h *Host) Ensure(o wire.Object) (bool, error) { return h.kind(o).Ensure() }

// Check returns nil, or how the machine differs from o.
func (h *Host) Check(o wire.Object) error { return h.kind(o).Check() }

// Remove takes o away; nil if it is gone already.
func (h *Host) Remove(o wire.Object) error { return h.kind(o).Remove() }

// Probe tells whether Ensure could work here.
func (h *Host) Probe(o wire.Object) error { return h.kind(o).Probe() }

// RemoveAll removes the objects at the same time: deleting a link and deleting
// set elements each wait for the kernel's RCU grace periods, and those pass
// for both at once.
func (h *Host) RemoveAll(objects []wire.Object) error {
	errs := make([]error, len(objects))
	var wg sync.WaitGroup
	for i, o := range objects {
		wg.Go(func() {
			if err := h.removeSafely(o); err != nil {
				errs[i] = &wire.OpError{Op: "remove", Object: o.String(), Err: err}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// removeSafely is Remove, with an error in place of a panic: one in a goroutine that
// does not recover ends the process, and dnetd heals many attachments.
func (h *Host) removeSafely(o wire.Object) (err error) {
	defer func() {
		if why := recover(); why != nil {
			err = fmt.Errorf("panic: %v\n%s", why, debug.Stack())
		}
	}()
	return h.Remove(o)
}

// dnetd asks the dnetd of this machine.
func (h *Host) dnetd() agent.Client {
	return agent.Client{Store: h.records, NeverStart: h.NeverStartDnetd}
}
