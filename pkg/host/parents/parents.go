// Package parents has what is made on a link of the host's: macvlans and ipvlans, the links
// that networks share as their parent, and the host's own way to containers on them.
package parents

import (
	"dcni/pkg/host/links"
	"dcni/pkg/wire"
)

// Parents works on the links of namespaces that are open.
type Parents struct{ *links.Links }

// Of returns the kind of an object; nil for one that is none of this package's.
func (h *Parents) Of(o wire.Object) wire.Kind {
	switch o := o.(type) {
	case *wire.Parent:
		return parent{h, o}
	case *wire.SharedLink:
		return sharedLink{h, o}
	case *wire.Child:
		return child{h, o}
	case *wire.HostAccess:
		return hostAccess{h, o}
	}
	return nil
}
