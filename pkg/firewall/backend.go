package firewall

import (
	"errors"
	"fmt"
	"net/netip"

	"dcni/pkg/wire"
)

// A Backend carries the policy out on a host. An object is a [Network], an [Endpoint],
// a [Member], a [Linked], to be made so a [Takeover] or, to be removed, an [Owned].
type Backend interface {
	// Install makes sure that the constant rules are there. If they are not, it installs
	// them with all that desired returns.
	Install(desired func() (*Desired, error)) (installed bool, err error)
	// Restore puts in what is up, and does not ask which port is whose.
	Restore(up *Desired) error
	// Ensure makes o so.
	Ensure(o wire.Object) (changed bool, err error)
	// Check returns nil, or how the host differs from o.
	Check(o wire.Object) error
	// Remove takes o away; nil if it is gone already.
	Remove(o wire.Object) error
	// Probe tells whether the rules are there, or could be installed.
	Probe() error
	// Owners lists the comments of all attachments that have something on the host, see
	// [Comment].
	Owners() ([]string, error)
	// Claims lists the ports of the host that it publishes.
	Claims() ([]Claim, error)
	// Close gives back what the backend has open.
	Close()
}

// ErrTaken says why dcni can't have the sets and chains that it needs.
var ErrTaken = errors.New("its sets or chains are not dcni's")

// The backends, by the names that configurations have for them.
const (
	NFTables = "nftables"
	IPTables = "iptables"
)

// Desired is what the sets must hold when the rules are installed.
type Desired struct {
	Networks  []*Network
	Members   []*Member
	Endpoints []*Endpoint
}

// Takeover is an endpoint that takes over the ports which another attachment of its container
// has. At no moment are they not published, and what listens there is the container's own
// runtime, which holds them: nothing is asked for anew.
type Takeover struct {
	*Endpoint
	From wire.Attachment
}

// Owned is all that a backend has of one endpoint, whatever that is.
type Owned struct {
	Comment string // see [Comment]
	Port    bool   // its bridge port's as well, see [BridgePort]
}

// Key names the owner.
func (o *Owned) Key() string { return "elements of " + o.Comment }

// String returns the key.
func (o *Owned) String() string { return o.Key() }

// Root marks the elements as what is removed by itself.
func (o *Owned) Root() {}

// Passing is what the rules of a backend are about: a bridge, or one address on it.
type Passing struct {
	Bridge  string
	Address netip.Addr // the zero one: all of the bridge
}

// Router is the host where dcni switched forwarding on: it routes for networks only.
type Router struct{ Closed []Family }

// Key is always the same.
func (r *Router) Key() string { return "router" }

func (r *Router) String() string { return fmt.Sprintf("router closed for %v", r.Closed) }

// InternalBridge is the bridge of an internal network. A backend can check one: it is the
// network that makes it so.
type InternalBridge struct{ Bridge string }

// Key names the bridge.
func (b *InternalBridge) Key() string { return "internal bridge " + b.Bridge }

// String returns the key.
func (b *InternalBridge) String() string { return b.Key() }

// ErrNotInternal says that a bridge is no internal network's.
var ErrNotInternal = errors.New("not the bridge of an internal network")

// Installation is all that a backend has on the host. It can be removed, and is kept while a
// network uses it, the host is closed as a router, or users have rules in it.
type Installation struct{}

// Key is always the same.
func (Installation) Key() string { return "installation" }

// String returns the key.
func (Installation) String() string { return "installation" }
