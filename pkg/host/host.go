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
	"os"
	"runtime/debug"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/agent"
	"dcni/pkg/host/nft"
	"dcni/pkg/host/nlsock"
	"dcni/pkg/host/rtnl"
	"dcni/pkg/host/xfrm"
	"dcni/pkg/names"
	"dcni/pkg/netns"
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
	installed bool    // the rules were missing, and were installed
	root      sandbox // the namespace that the process was started in

	mu        sync.Mutex
	sandboxes map[string]*sandbox
	ifaces    map[linkName]*rtnl.Link // see iface
	proc      *os.File                // see ownProc; nil until first used
	ipsec     *xfrm.Conn              // see xfrm; nil until first used
}

type linkName struct{ netns, name string }

// kind is what this package has for each kind of object.
type kind interface {
	ensure() (bool, error)
	check() error
	remove() error
	probe() error
}

// New opens the machine. The store's records are what the firewall's elements
// are installed from when another program flushed them. Close it after use.
func New(store records.Store) (*Host, error) {
	rt, err := rtnl.Dial()
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	h := &Host{
		records: store, root: sandbox{rt: rt},
		sandboxes: map[string]*sandbox{}, ifaces: map[linkName]*rtnl.Link{},
	}
	nftables := nft.New()
	nftables.Siblings, nftables.EndpointOf, nftables.IsGatewayEndpoint = h.siblingAttachments, h.endpoint, h.isGatewayEndpoint
	nftables.Closed = h.closedFamilies
	h.fw = nftables
	return h, nil
}

// Close lets go of sockets and namespaces.
func (h *Host) Close() {
	h.root.close()
	h.fw.Close()
	if h.proc != nil {
		h.proc.Close()
	}
	if h.ipsec != nil {
		h.ipsec.Close()
	}
	for _, s := range h.sandboxes {
		s.close()
	}
}

func (h *Host) kind(o wire.Object) kind {
	switch o := o.(type) {
	case *wire.Bridge:
		return bridge{h, o}
	case *wire.Veth:
		return veth{h, o}
	case *wire.Child:
		return child{h, o}
	case *wire.Parent:
		return parent{h, o}
	case *wire.HostAccess:
		return hostAccess{h, o}
	case *wire.SharedLink:
		return sharedLink{h, o}
	case *wire.Up:
		return up{h, o}
	case *wire.Sysctl:
		return setting{h, o}
	case *wire.Autoconf:
		return autoconf{h, o}
	case *wire.Forwarding:
		return forwarding{h, o}
	case *wire.ForwardAll:
		return forwardAll{h, o}
	case *wire.Addr:
		return addr{h, o}
	case *wire.Route:
		return route{h, o}
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
	case *wire.Borrowed:
		return borrowed{h, o}
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
func (h *Host) rulesKind(o wire.Object) kind {
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
func (h *Host) Ensure(o wire.Object) (bool, error) { return h.kind(o).ensure() }

// Check returns nil, or how the machine differs from o.
func (h *Host) Check(o wire.Object) error { return h.kind(o).check() }

// Remove takes o away; nil if it is gone already.
func (h *Host) Remove(o wire.Object) error { return h.kind(o).remove() }

// Probe tells whether Ensure could work here.
func (h *Host) Probe(o wire.Object) error { return h.kind(o).probe() }

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

// A sandbox is a network namespace with sockets in it: a socket opened there
// keeps working from outside, so that only settings below /proc/sys need a
// thread inside.
type sandbox struct {
	ns    *netns.NS // nil for the host's own
	rt    *rtnl.Conn
	route *netlink.Handle // nil until first used
	nft   *nlsock.Conn    // nil until first used
}

func (s *sandbox) close() {
	s.rt.Close()
	if s.route != nil {
		s.route.Close()
	}
	if s.nft != nil {
		s.nft.Close()
	}
	if s.ns != nil {
		s.ns.Close()
	}
}

// do runs fn on a thread of the namespace.
func (s *sandbox) do(fn func() error) error {
	if s.ns == nil {
		return fn()
	}
	return s.ns.Do(fn)
}

// in returns a namespace by path: the host's own for "".
func (h *Host) in(netns string) (*sandbox, error) {
	if netns == "" {
		return &h.root, nil
	}
	return h.sandbox(netns)
}

// sandbox opens a network namespace by path, once for the life of the Host.
func (h *Host) sandbox(path string) (*sandbox, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s, ok := h.sandboxes[path]; ok {
		return s, nil
	}
	ns, err := netns.Open(path)
	if err != nil {
		return nil, netnsError(path, err)
	}
	s := &sandbox{ns: ns}
	err = ns.Do(func() (err error) {
		s.rt, err = rtnl.Dial()
		return err
	})
	if err != nil {
		ns.Close()
		return nil, netnsError(path, err)
	}
	h.sandboxes[path] = s
	return s, nil
}

// forget closes a namespace that was opened by a path: the path leads elsewhere
// from now on.
func (h *Host) forget(path string) {
	h.relink()
	h.mu.Lock()
	defer h.mu.Unlock()
	if s, ok := h.sandboxes[path]; ok {
		s.close()
		delete(h.sandboxes, path)
	}
}

func netnsError(path string, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return wire.Errorf(wire.CodeNetNS, "CNI_NETNS %q: no such network namespace", path)
	}
	return &wire.Error{Code: wire.CodeNetNS, Msg: fmt.Sprintf("CNI_NETNS %q: must be a network namespace", path), Err: err}
}

// handle returns the library's netlink handle of a namespace: the host's for "".
func (h *Host) handle(netns string) (*netlink.Handle, error) {
	s, err := h.in(netns)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.route == nil {
		err = s.do(func() (err error) {
			s.route, err = netlink.NewHandle(unix.NETLINK_ROUTE)
			return err
		})
	}
	return s.route, err
}

// run runs fn on a thread of a namespace: here for "".
func (h *Host) run(netns string, fn func() error) error {
	s, err := h.in(netns)
	if err != nil {
		return err
	}
	return s.do(fn)
}

// iface finds a link by name in a namespace. What it found is good until this
// Host changes a link: a Host is for one piece of work, in which several
// objects on one link come one after the other. If another program
// changes it in between, the kernel refuses the index.
func (h *Host) iface(netns, name string) (*rtnl.Conn, *rtnl.Link, error) {
	s, err := h.in(netns)
	if err != nil {
		return nil, nil, err
	}
	h.mu.Lock()
	found, ok := h.ifaces[linkName{netns, name}]
	h.mu.Unlock()
	if ok {
		return s.rt, found, nil
	}
	if found, err = s.rt.LinkByName(name); err != nil {
		return nil, nil, fmt.Errorf("link %s: %w", name, err)
	}
	h.mu.Lock()
	h.ifaces[linkName{netns, name}] = found
	h.mu.Unlock()
	return s.rt, found, nil
}

// relink forgets what iface found: a link is being changed.
func (h *Host) relink() {
	h.mu.Lock()
	clear(h.ifaces)
	h.mu.Unlock()
}

// libraryLink finds a link by name in a namespace, as the library has it.
func (h *Host) libraryLink(netns, name string) (*netlink.Handle, netlink.Link, error) {
	nl, err := h.handle(netns)
	if err != nil {
		return nil, nil, err
	}
	l, err := nl.LinkByName(name)
	if err != nil {
		return nil, nil, fmt.Errorf("link %s: %w", name, err)
	}
	return nl, l, nil
}

// notFound reports whether a link is not there.
func notFound(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.As(err, &missing) || errors.Is(err, unix.ENODEV)
}

// gone reports whether what was to be removed is not there any more, be it
// itself, its link, or its namespace.
func gone(err error) bool {
	var e *wire.Error
	return notFound(err) ||
		errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EADDRNOTAVAIL) ||
		errors.As(err, &e) && e.Code == wire.CodeNetNS
}

// wrapped says what an error happened at; nil stays nil.
func wrapped(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
