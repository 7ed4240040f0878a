package cni

import (
	"net/netip"

	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// This file is what the engine works on: the machine, which is [host.Host], and the
// records, which are [records.Store]. Each interface is about one thing.

// Namespaces are the network namespaces of the machine.
type Namespaces interface {
	// OpenNetNS opens a sandbox. The error has code 8 when there is none at that
	// path.
	OpenNetNS(netns string) (wire.Sandbox, error)
	// SameNetNS reports whether a path still is the namespace that was entered.
	SameNetNS(netns string) bool
	// CloseNetNS lets go of a sandbox, "" for none, and forgets what links there are.
	CloseNetNS(netns string)
	// NetNSAlive reports whether the namespace of a cookie is still at a path. Where that
	// can't be told, it is true.
	NetNSAlive(netns string, cookie uint64) bool
	// ReferencedNetNS returns the cookies of the namespaces that a process may still use,
	// at whatever path.
	ReferencedNetNS() (map[uint64]bool, error)
}

// Sandboxes tells what is in a sandbox.
type Sandboxes interface {
	// HasLink reports whether a namespace has a link of that name.
	HasLink(netns, name string) (bool, error)
	// HasChild reports whether any namespace has an attachment's interface that is on a
	// parent, under whatever name.
	HasChild(owner wire.Attachment) (bool, error)
	// IPv6Off reports whether IPv6 is switched off on a namespace's link. The error
	// tells that there is none of that name.
	IPv6Off(netns, link string) (bool, error)
	// DefaultRoutes lists the default routes through a link of a namespace.
	DefaultRoutes(netns, link string) ([]*wire.Route, error)
	// NetNSInfo looks at a sandbox for a plugin that makes no interface in it.
	NetNSInfo(netns string) (wire.NetNSInfo, error)
	// ProcessesIn lists the processes in a namespace, as "12 (sleep)".
	ProcessesIn(netns string) ([]string, error)
}

// NetNSAddresses tells what addresses a namespace has.
type NetNSAddresses interface {
	// Addresses returns the addresses by which a namespace speaks to others,
	// at most one of each family; lo's where it can't, for "" the host's own.
	Addresses(netns string) ([]netip.Prefix, error)
	// Loopback returns the addresses that a namespace's lo has once it is up,
	// at most one of each family: 127.0.0.1/8 and ::1/128.
	Loopback(netns string) ([]netip.Prefix, error)
}

// LAN asks machines on a LAN.
type LAN interface {
	// Detect begins to ask a LAN for addresses. The link is up.
	Detect(d wire.Detection) (wire.Waiter, error)
	// WaitAll waits for several of those at the same time, and returns what each has found.
	WaitAll(list []wire.Waiter) []wire.Detected
}

// HostFacts is what the engine asks of the host besides.
type HostFacts interface {
	// Bundle returns what the OCI bundle of a container says of its names, and
	// its ID without the runtime's namespace; nothing where no bundle is found.
	Bundle(container string) names.Identity
	// DefaultRouteMTU returns the MTU in bytes of the default route, or of its link.
	DefaultRouteMTU() int
	// PortHolder returns the runtime's program if that binds the ports that it has
	// published; else "".
	PortHolder() string
	// Parent returns what the first of the links is like that is there, for one that is
	// to have children. The error says why it can't, or that there is none.
	Parent(names ...string) (wire.LinkInfo, error)
}

// Owned tells what on the host is dcni's.
type Owned interface {
	// HostObjects lists the host's objects that dcni made and that go with their last
	// user.
	HostObjects() ([]wire.Object, error)
	// Adopts reports whether a bridge is there and is not dcni's: another owner made it.
	Adopts(b *wire.Bridge) (bool, error)
	// Orphans lists roots on the machine that look like ours, each with its
	// owner as far as that can be told, for garbage collection.
	Orphans() ([]wire.Orphan, error)
}

// Locks keep processes from working on the same thing. The kernel frees them when
// a process dies.
type Locks interface {
	LockAttachment(a wire.Attachment) (*records.Lock, error)
	// LockAttachmentToRead is for a verb that changes nothing.
	LockAttachmentToRead(a wire.Attachment) (*records.Lock, error)
	TryLockAttachment(a wire.Attachment) (*records.Lock, bool, error)
	LockNetwork(name string) (*records.Lock, error)
	LockHost() (*records.Lock, error)
}

// Records are the records of attachments: the real ones are those of
// [records.Store].
type Records interface {
	Put(r *records.Record) error
	Get(a wire.Attachment, plugin string) (*records.Record, error)
	// Replace writes the record of a lost attachment in the place of one that can't be
	// read.
	Replace(a wire.Attachment, plugin string, why error) (*records.Record, error)
	Delete(a wire.Attachment, plugin string) error
}

// Sharers tells which attachments use what several share.
type Sharers interface {
	// OneOfEach returns one record of each network.
	OneOfEach() ([]*records.Record, error)
	// Others reports whether a network, "" for any, has attachments besides one.
	Others(network string, besides wire.Attachment) (bool, error)
	// Unused returns those of the keys of the host's objects that no attachment needs
	// besides one.
	Unused(keys []string, besides wire.Attachment) ([]string, error)
}

// Chains tells what is known of the list of plugins that made an attachment.
type Chains interface {
	// InfoFromChain returns what the other plugins of the attachment's chain have
	// recorded of the network.
	InfoFromChain(a wire.Attachment, plugin string) (network.Info, error)
	// ChainOf returns the list of plugins that an attachment was made by, nothing where
	// none is found.
	ChainOf(a wire.Attachment) network.Chain
}

// Index tells which records there are.
type Index interface {
	List(network string) ([]*records.Record, error)
	Keys() ([]records.RecordKey, error)
	GetAll(keys []records.RecordKey) ([]*records.Record, error)
	Prune(network string)
	// Probe tells whether an attachment could be recorded, and its leases in
	// data directories.
	Probe(dataDirs ...string) error
}
