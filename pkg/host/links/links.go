// Package links has a machine's links, their addresses and routes, and the settings of the
// kernel: for each kind of object what makes, compares and removes it.
package links

import (
	"dcni/pkg/host/spaces"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// Links works on the links of namespaces that are open.
type Links struct {
	*spaces.Set
	Records records.Store
}

// Of returns the kind of an object; nil for one that is none of this package's.
func (h *Links) Of(o wire.Object) wire.Kind {
	switch o := o.(type) {
	case *wire.Bridge:
		return bridge{h, o}
	case *wire.Veth:
		return veth{h, o}
	case *wire.RateLimit:
		return rateLimit{h, o}
	case *wire.Up:
		return up{h, o}
	case *wire.Sysctl:
		return setting{h, o}
	case *wire.Autoconf:
		return autoconf{h, o}
	case *wire.Addr:
		return addr{h, o}
	case *wire.NoAddr:
		return noAddr{h, o}
	case *wire.Route:
		return route{h, o}
	case *wire.SourceRoutes:
		return sourceRoutes{h, o}
	case *wire.MovedRoutes:
		return movedRoutes{h, o}
	case *wire.Borrowed:
		return borrowed{h, o}
	}
	return nil
}
