// Package host is the real machine: the [wire.Host] of Linux. It carries objects out
// through the packages below it, which are of one subject each: spaces (the namespaces that
// are open), links (links, addresses, routes, settings), parents (macvlans and ipvlans),
// rules (the firewall, with locks and records), shared (namespaces that containers share),
// nameserver, services, vxlan and xfrm. Below those are the kernel's languages: rtnl, nlsock, nft,
// nstable, conntrack, proc; and agent, which talks to dnetd. Two programs are started: dnetd,
// where none runs, and the reaper of a bind, which outlives its plugin.
//
// Each kind of object has the same four short methods, [wire.Kind]. The switch in
// [Host.kind] says which package has it.
package host

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"dcni/pkg/firewall"
	"dcni/pkg/host/agent"
	"dcni/pkg/host/links"
	"dcni/pkg/host/nameserver"
	"dcni/pkg/host/parents"
	"dcni/pkg/host/permit"
	"dcni/pkg/host/rules"
	"dcni/pkg/host/services"
	"dcni/pkg/host/shared"
	"dcni/pkg/host/spaces"
	"dcni/pkg/host/xfrm"
	"dcni/pkg/names"
	"dcni/pkg/records"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// Host is the machine that the process runs on, as seen from the network
// namespace that it was started in.
type Host struct {
	// NeverStartDnetd says that dnetd is not started where none answers: the caller is
	// dnetd, which may be about to end.
	NeverStartDnetd bool

	records records.Store
	spaces  *spaces.Set
	links   *links.Links
	parents *parents.Parents
	rules   *rules.Rules
	ipsec   *xfrm.Kernel
	asked   sync.WaitGroup // requests to dnetd that Ensure did not wait for
}

// New opens the machine. The store's records are what the firewall's elements
// are installed from when another program flushed them. Close it after use.
func New(store records.Store) (*Host, error) {
	open, err := spaces.New()
	if err != nil {
		return nil, err
	}
	h := &Host{records: store, spaces: open, links: &links.Links{Set: open, Records: store}, ipsec: &xfrm.Kernel{}}
	h.parents = &parents.Parents{Links: h.links}
	h.rules = rules.New(h.links, h.ipsec)
	return h, nil
}

// Finish waits for dnetd where Ensure did not: what it does there goes on beside what is
// made here.
func (h *Host) Finish() { h.asked.Wait() }

// Close lets go of sockets and namespaces.
func (h *Host) Close() {
	h.Finish()
	h.spaces.Close()
	h.rules.Close()
	h.ipsec.Close()
}

func (h *Host) kind(o wire.Object) wire.Kind {
	switch o := o.(type) {
	case *wire.Bridge, *wire.Veth, *wire.RateLimit, *wire.Up, *wire.Addr, *wire.NoAddr, *wire.Route, *wire.SourceRoutes, *wire.MovedRoutes, *wire.Sysctl, *wire.Autoconf, *wire.Borrowed:
		return h.links.Of(o)
	case *wire.Parent, *wire.SharedLink, *wire.Child, *wire.HostAccess:
		return h.parents.Of(o)
	case *service.Client:
		return h.services().Of(o)
	case *wire.NetNSBind, *wire.SharedLo:
		return h.shared().Of(o)
	case *names.Resolver:
		return h.resolvers().Of(o)
	case *wire.Announcement:
		return announcement{h, o}
	case *firewall.Permit:
		return h.permits().Of(o)
	case *wire.Permission:
		return permission{o}
	case *wire.XfrmState, *wire.XfrmPolicy:
		return xfrmObject{h.ipsec, o}
	case *wire.Vxlan:
		return overlay{h.vxlan().Of(o), "vxlan"}
	case *wire.FDB, *wire.Neigh, *wire.Rule:
		return overlay{h.vxlan().Of(o), ""}
	case *wire.Peers:
		return peers{h, o}
	}
	if k := h.rules.Of(o); k != nil {
		return k
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
				errs[i] = wire.OpErrorOf("remove", o, err)
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

// shared is what containers share.
func (h *Host) shared() shared.Shared { return shared.Shared{Set: h.spaces, Records: h.records} }

// permits are what other programs' chains let pass.
func (h *Host) permits() permit.Permits {
	return permit.Permits{
		Records: h.records, Bridges: h.rules.ForeignBridges,
		Uplink: func() string { name, _ := h.spaces.Root.RT.Uplink(); return name },
	}
}

// resolvers are the name servers of sandboxes.
func (h *Host) resolvers() nameserver.Resolvers {
	return nameserver.Resolvers{Set: h.spaces, Records: h.records, Dnetd: h.dnetd()}
}

// services are the virtual addresses of services in sandboxes.
func (h *Host) services() services.Services {
	return services.Services{Set: h.spaces, Records: h.records, Await: h.Finish, Ports: h.rules}
}
