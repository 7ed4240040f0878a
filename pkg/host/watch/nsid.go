package watch

import (
	"errors"

	"dcni/pkg/host/rtnl"
	"dcni/pkg/netns"
)

// NSIDs tells the numbers that network namespaces have here.
type NSIDs struct{ rt *rtnl.Conn }

// OpenNSIDs opens a socket to ask by. Close it after use.
func OpenNSIDs() (NSIDs, error) {
	rt, err := rtnl.Dial()
	return NSIDs{rt}, err
}

// Close lets go of the socket.
func (n NSIDs) Close() { n.rt.Close() }

// Of returns the number of the namespace at a path. The error tells that it has none.
func (n NSIDs) Of(path string) (int, error) {
	ns, err := netns.Open(path)
	if err != nil {
		return 0, err
	}
	defer ns.Close()
	id, err := n.rt.NSID(ns.Fd())
	if err == nil && id < 0 {
		err = errors.New("the namespace has no number here")
	}
	return id, err
}
