package host

import (
	"errors"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"dcni/pkg/firewall"
	"dcni/pkg/host/agent"
	"dcni/pkg/host/lan"
	"dcni/pkg/host/links"
	"dcni/pkg/host/rtnl"
	"dcni/pkg/host/vxlan"
	"dcni/pkg/host/xfrm"
	"dcni/pkg/wire"
)

// overlay is what package vxlan makes: a [wire.Vxlan], [wire.FDB], [wire.Neigh] or
// [wire.Rule].
type overlay struct {
	wire.Kind
	probed string // kind of link that the kernel must have; "": none
}

func (o overlay) Probe() error {
	if o.probed == "" {
		return o.Kind.Probe()
	}
	return links.ProbeKind(o.probed)
}

// vxlan returns the host's network namespace as package vxlan sees it.
func (h *Host) vxlan() vxlan.Machine {
	return vxlan.Machine{
		Link:    func(name string) (*rtnl.Conn, *rtnl.Link, error) { return h.spaces.Link("", name) },
		Changed: h.spaces.Changed,
		Library: func() (*netlink.Handle, error) { return h.spaces.Handle("") },
	}
}

// Entries lists the entries of an overlay network, see [vxlan.Machine.Entries], and the ways back
// to nodes that connections came through: what is to be compared with those that are wanted.
func (h *Host) Entries(bridge, device string) ([]wire.Object, error) {
	h.spaces.Changed() // dnetd lives long
	list, err := h.vxlan().Entries(bridge, device)
	ways, failed := h.vxlan().Ways(bridge, firewall.MarkMask)
	senders, unread := h.rules.Senders(bridge)
	return slices.Concat(list, ways, senders), errors.Join(err, failed, unread)
}

// PutNodes has VXLAN taken from the nodes at these addresses only.
func (h *Host) PutNodes(list []netip.Addr) error {
	_, err := h.Ensure(&firewall.Nodes{Addresses: list})
	return err
}

// Announce tells the containers on a bridge of this host who has which address. Each has a
// MAC.
func (h *Host) Announce(bridge string, list []*wire.Neigh) error {
	_, l, err := h.spaces.Link("", bridge)
	if err != nil {
		return err
	}
	owners := make([]lan.Owner, len(list))
	for i, n := range list {
		mac, err := net.ParseMAC(n.MAC)
		if err != nil {
			return err
		}
		owners[i] = lan.Owner{Address: n.IP, MAC: mac}
	}
	return h.spaces.Run("", func() error { return lan.AnnounceAll(l.Index, owners) })
}

// StartCluster has dnetd start dclusterd, where none answers and the host is a node of a
// cluster.
func (h *Host) StartCluster() error {
	_, err := h.dnetd().Ask(agent.Request{Op: agent.Cluster})
	return err
}

// peers is a [wire.Peers].
type peers struct {
	h *Host
	o *wire.Peers
}

// Ensure has dnetd enter them; [Host.Finish] waits until it has, or a while. It is no error
// where it can't: dnetd enters them later, and all the rest of the attachment is there. It
// changes nothing that this call could undo.
func (p peers) Ensure() (bool, error) {
	p.h.asked.Go(func() { _, _ = p.h.dnetd().Ask(agent.Request{Op: agent.Sync, Peers: p.o}) })
	return false, nil
}

// Check asks dnetd, which knows what there is to be. It waits for what Ensure began: healing
// looks whether that has helped.
func (p peers) Check() error {
	p.h.Finish()
	_, err := p.h.dnetd().Call(agent.AnswerTimeout, agent.Request{Op: agent.Know, Peers: p.o})
	return err
}

// Remove has dnetd enter none any more, where one runs, and takes away those on the
// bridge and the device. Of an encrypted network dnetd takes its record out of the store,
// for which it may need most of a second.
func (p peers) Remove() error {
	p.h.Finish() // or dnetd enters them afterwards
	_, err := p.h.dnetd().Call(agent.AnswerTimeout, agent.Request{Op: agent.Forget, Peers: p.o})
	if err != nil && !errors.Is(err, agent.ErrAbsent) {
		return err
	}
	list, err := p.h.Entries(p.o.Bridge, p.o.Vxlan)
	if err != nil {
		return err
	}
	return errors.Join(wire.Undo(p.h, list), p.h.records.DeletePeerNames(p.o.Network)) // a dnetd that was killed left them
}

func (p peers) Probe() error { return p.h.dnetd().Probe() }

// xfrmObject is a [wire.XfrmState] or a [wire.XfrmPolicy].
type xfrmObject struct {
	kernel *xfrm.Kernel
	o      wire.Object
}

func (x xfrmObject) Ensure() (bool, error) { return x.kernel.Ensure(x.o) }
func (x xfrmObject) Check() error          { return x.kernel.Check(x.o) }
func (x xfrmObject) Remove() error         { return x.kernel.Remove(x.o) }
func (x xfrmObject) Probe() error          { return x.kernel.Probe(x.o) }
