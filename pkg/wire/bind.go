package wire

// Bind makes a sandbox's path lead to another network namespace: who joins the
// sandbox by its path, as a container's first process does, is in that one. It
// is a bind mount over the sandbox's own, and private: a mount over the path of
// a namespace that is shared must not show here.
//
// It lasts until the container's first process has joined, for whatever is
// given that path later would work on the shared namespace: containerd, for
// one, has the plugin loopback take lo down in it when a pod stops.
type Bind struct {
	Owner  Attachment
	Path   string // CNI_NETNS, a mounted file; "" where only the owner is known
	Source string // path of the namespace to share
	Over   uint64 // cookie of the sandbox's own namespace, see [Sandbox]
	Target uint64 // cookie of the namespace to share; that of Over: nothing is to be done
}

// Key names the owner.
func (b *Bind) Key() string { return "bind " + b.Owner.String() }

// Provides names the path: no other may make it lead elsewhere.
func (b *Bind) Provides() []string { return []string{"path " + b.Path} }

// Root marks the bind as what DEL removes: it may still be there.
func (b *Bind) Root() {}

func (b *Bind) String() string { return "mount --bind --make-private " + b.Source + " sandbox" }

// Permission says that root allows on this host what a container could misuse.
// Who may only write networks into a runtime's configuration has it not thereby.
type Permission struct {
	Path string // a file in a directory of its own, both root's and nobody else's to write to
	What string // is allowed, as in "to share the host's network"
}

// Key is the file.
func (p *Permission) Key() string { return "permission " + p.Path }

func (p *Permission) String() string { return "allowed by " + p.Path }
