package wire

// NetNSBind makes a sandbox's path lead to another network namespace: a process
// that joins the sandbox by its path, as a container's first process does, is in
// that one. It is a bind mount over the sandbox's own, and private: a mount over
// the path of a namespace that is shared must not show here.
//
// It lasts until the container's first process has joined. A program that is given
// the path later would work on the shared namespace: containerd, for one, has the
// plugin loopback take lo down in it when a pod stops.
type NetNSBind struct {
	Owner    Attachment
	Path     string // CNI_NETNS, a mounted file; "" where only the owner is known
	Source   string // path of the namespace to share
	Original uint64 // cookie of the sandbox's own namespace, see [Sandbox]
	Shared   uint64 // cookie of the namespace to share; that of Original: nothing is to be done
}

// Key names the owner.
func (b *NetNSBind) Key() string { return "bind " + b.Owner.String() }

// Provides names the path: no other attachment may make it lead elsewhere.
func (b *NetNSBind) Provides() []string { return []string{"path " + b.Path} }

// Root marks the bind as what DEL removes: it may still be there.
func (b *NetNSBind) Root() {}

func (b *NetNSBind) String() string { return "mount --bind --make-private " + b.Source + " sandbox" }

// SharedLo says that lo is up in a namespace that is shared: by it the containers reach
// each other. The container that the namespace was made for may be gone: then those of the
// owner's processes lead there. Nothing is to be removed: lo goes with the namespace.
type SharedLo struct {
	Owner  Attachment
	Source string // path of the namespace
	Shared uint64 // its cookie
}

// Key names the owner.
func (l *SharedLo) Key() string { return "shared lo " + l.Owner.String() }

func (l *SharedLo) String() string { return "link lo up netns " + l.Source }

// Outside returns nil: lo is in a sandbox.
func (l *SharedLo) Outside() Object { return nil }

// Permission says that root allows on this host what a container could misuse.
// The right to write CNI configurations does not include it.
type Permission struct {
	Path string // a file in a directory of its own, both writable by root only
	What string // is allowed, as in "to share the host's network"
}

// Key is the file.
func (p *Permission) Key() string { return "permission " + p.Path }

func (p *Permission) String() string { return "allowed by " + p.Path }
