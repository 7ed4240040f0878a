package hostports

import (
	"os"
	"path/filepath"
	"slices"

	"dcni/pkg/host/proc"
)

// Reserved reports whether a listener only keeps its port for the container.
// Podman's conmon holds a socket for each published port of its container, and
// its command line names that. nerdctl, where that is our parent, has started
// one before it calls the plugins. Neither ever reads from the socket.
//
// What no process here is seen to hold is not reserved.
func Reserved(l Listener, container string) bool {
	for p := range proc.All() {
		if reserves(p, container) && p.HoldsSocket(l.inode) {
			return true
		}
	}
	return false
}

// reserves reports whether a process may hold ports for a container.
func reserves(p proc.Process, container string) bool {
	if int(p) == os.Getpid() {
		return false
	}
	if slices.Contains(p.Args(), container) {
		return true
	}
	// No other parent will do: a shell that tries a plugin by hand has its own
	// servers for children.
	caller := proc.Process(os.Getppid())
	return filepath.Base(caller.Executable()) == "nerdctl" && p.Parent() == caller
}
