// Package shared is about network namespaces that containers share: whose may be joined,
// where it is, and how a path is bound to it until the container's first process has
// joined.
package shared

import (
	"dcni/pkg/host/spaces"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// Shared works on the namespaces of containers.
type Shared struct {
	*spaces.Set
	Records records.Store
}

// Of returns the kind of an object; nil for one that is none of this package's.
func (h Shared) Of(o wire.Object) wire.Kind {
	switch o := o.(type) {
	case *wire.NetNSBind:
		return bind{h, o}
	case *wire.SharedLo:
		return sharedLo{h, o}
	}
	return nil
}
