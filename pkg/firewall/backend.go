package firewall

import "dcni/pkg/wire"

// A Backend carries the policy out on a host. An object is a [Network], an [Endpoint]
// or, to be removed, an [Owned].
type Backend interface {
	// Install makes sure that the constant rules are there. If they are not, it installs
	// them with all that desired returns.
	Install(desired func() ([]*Network, []*Endpoint, error)) (installed bool, err error)
	// Uninstall takes the rules away if no network uses them.
	Uninstall() error
	// Ensure makes o so.
	Ensure(o wire.Object) (changed bool, err error)
	// Check returns nil, or how the host differs from o.
	Check(o wire.Object) error
	// Remove takes o away; nil if it is gone already.
	Remove(o wire.Object) error
	// Probe tells whether the rules are there, or could be installed.
	Probe() error
	// Owners lists the comments of all endpoints that have something on the host, see
	// [Comment].
	Owners() ([]string, error)
	// IsInternal reports whether a bridge is that of an internal network.
	IsInternal(bridge string) (bool, error)
	// Close gives back what the backend has open.
	Close()
}

// Owned is all that a backend has of one endpoint, whatever that is.
type Owned struct{ Comment string } // see [Comment]

// Key names the owner.
func (o *Owned) Key() string { return "elements of " + o.Comment }

// String returns the key.
func (o *Owned) String() string { return o.Key() }

// Root marks the elements as what is removed by itself.
func (o *Owned) Root() {}
