package wire

import "net/netip"

// A Sandbox is the network namespace that is found at CNI_NETNS.
type Sandbox struct {
	Cookie uint64 // SO_NETNS_COOKIE: a namespace's number for its whole life, and no other's after it
	Own    bool   // it is the host's own
}

// LinkInfo is what there is to know of a link of the host's that is to be a parent.
type LinkInfo struct {
	Name      string
	MTU       int // bytes
	MAC       string
	Up        bool
	Addresses []netip.Prefix
}

// NetNSInfo is what else there is to know of a sandbox for a plugin that makes no
// interface in it.
type NetNSInfo struct {
	Sandbox
	Links []string // by name: all but lo and what the kernel puts into every namespace; none if it is the host's own
	// Fixed says that the path is a process's own, /proc/PID/ns/net, which can't
	// be made to lead elsewhere: the kernel mounts nothing over it.
	Fixed     bool
	Processes []string // that are in it, as "12 (sleep)"; looked for only where it is to share another's
}
