package records

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"dcni/pkg/records/disk"
	"dcni/pkg/wire"
)

// A lock is one byte of <Run>/lock, locked with an open file description lock:
// the kernel frees it when the process dies, and there is nothing to clean up.
// The byte's offset is a hash of what is locked, and the kind of lock is in its
// highest bits, so locks of different kinds never meet.
//
// Each lock opens the file itself. Locks of one description don't exclude one
// another, so with a shared descriptor two goroutines of dnetd would both get
// the same lock.
//
// Two names may share a byte, with a chance of one in 2^59: then one waits for
// the other for no reason. A process that held the first and asked for the second would
// wait for itself, so no process holds two locks of one kind. The order of kinds is
// API, agent, container, its connections, list of containers, attachment, services, host, network, firewall, registry, sandbox,
// epoch, start of the agent: a lock is asked for only under locks of kinds before it.
type kind int64

const (
	kindAttachment kind = iota + 1
	kindNetwork
	kindFirewall
	kindRegistry
	kindContainer
	kindContainerList
	kindAgent
	kindSandbox
	kindAgentStart
	kindHost
	kindEpoch
	kindConnections
	kindAPI
	kindServices
)

const kindShift = 59 // offsets are positive 64-bit numbers

// A Lock is held until Unlock.
type Lock struct{ fd int }

// LockAttachment waits until it gets the lock of an attachment, which each verb holds.
func (s Store) LockAttachment(a wire.Attachment) (*Lock, error) {
	return s.lock(kindAttachment, attachmentKey(a))
}

// TryLockAttachment takes the lock of an attachment if it is free. ok is false,
// with no error, if another holds it.
func (s Store) TryLockAttachment(a wire.Attachment) (l *Lock, ok bool, err error) {
	return s.try(kindAttachment, attachmentKey(a))
}

// LockAttachmentToRead waits until no other process changes an attachment. It needs no
// write: where no lock file is, there is nothing to wait for.
func (s Store) LockAttachmentToRead(a wire.Attachment) (*Lock, error) {
	return s.lockToRead(kindAttachment, attachmentKey(a))
}

// LockNetwork waits until it gets the lock under which the shared parts of a network
// change: its leases, its bridge.
func (s Store) LockNetwork(name string) (*Lock, error) { return s.lock(kindNetwork, name) }

// TryLockNetwork takes the lock of a network if it is free. ok is false, with no
// error, if another holds it.
func (s Store) TryLockNetwork(name string) (l *Lock, ok bool, err error) {
	return s.try(kindNetwork, name)
}

// LockNetworkToRead waits until no other process changes the shared parts of a network. It
// needs no write, see [Store.LockAttachmentToRead].
func (s Store) LockNetworkToRead(name string) (*Lock, error) { return s.lockToRead(kindNetwork, name) }

// LockRegistry waits until it gets the lock under which the registry of networks in a data
// directory changes.
func (s Store) LockRegistry(dataDir string) (*Lock, error) { return s.lock(kindRegistry, dataDir) }

// LockHost waits until it gets the lock under which objects of the host change that
// networks share.
func (s Store) LockHost() (*Lock, error) { return s.lock(kindHost, "") }

// TryLockHost takes the lock of LockHost if it is free. ok is false, with no error,
// if another holds it.
func (s Store) TryLockHost() (l *Lock, ok bool, err error) { return s.try(kindHost, "") }

// LockFirewall waits until it gets the lock under which the firewall of networks
// changes and host ports are chosen.
func (s Store) LockFirewall() (*Lock, error) { return s.lock(kindFirewall, "") }

// LockAgent waits until it gets the lock under which a dnetd begins at a socket.
func (s Store) LockAgent(socket string) (*Lock, error) { return s.lock(kindAgent, socket) }

// TryLockAPI takes the lock under which a `dnet api` serves at a socket, if it is free. ok is
// false, with no error, if another holds it.
func (s Store) TryLockAPI(socket string) (l *Lock, ok bool, err error) {
	return s.try(kindAPI, socket)
}

// LockSandbox waits until it gets the lock under which the shared parts of a network
// namespace change. The cookie identifies the namespace.
func (s Store) LockSandbox(cookie uint64) (*Lock, error) {
	return s.lock(kindSandbox, strconv.FormatUint(cookie, 16))
}

// TryLockAgentStart takes the lock under which plugins start dnetd, if it is
// free. ok is false, with no error, if another is starting it.
func (s Store) TryLockAgentStart() (l *Lock, ok bool, err error) { return s.try(kindAgentStart, "") }

func attachmentKey(a wire.Attachment) string {
	return a.Network + "\x00" + a.Container + "\x00" + a.IfName
}

func (s Store) lock(k kind, name string) (*Lock, error) {
	return s.take(k, name, unix.F_OFD_SETLKW)
}

// try takes a lock if it is free.
func (s Store) try(k kind, name string) (l *Lock, ok bool, err error) {
	l, err = s.take(k, name, unix.F_OFD_SETLK)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return nil, false, nil
	}
	return l, err == nil, err
}

func (s Store) take(k kind, name string, cmd int) (*Lock, error) {
	path := s.lockPath()
	fd, err := s.openLock(path)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	if err := setLock(fd, cmd, unix.F_WRLCK, lockOffset(k, name)); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &Lock{fd: fd}, nil
}

func (s Store) lockPath() string { return filepath.Join(s.Run, "lock") }

func lockOffset(k kind, name string) int64 {
	sum := sha256.Sum256([]byte(name))
	return int64(k)<<kindShift | int64(binary.BigEndian.Uint64(sum[:])>>(64-kindShift))
}

// lockToRead takes a lock that others may have for reading, too.
func (s Store) lockToRead(k kind, name string) (*Lock, error) {
	fd, err := disk.Open(s.lockPath(), unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ENOENT) {
		return &Lock{fd: -1}, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: s.lockPath(), Err: err}
	}
	if err := setLock(fd, unix.F_OFD_SETLKW, unix.F_RDLCK, lockOffset(k, name)); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("lock %s: %w", s.lockPath(), err)
	}
	return &Lock{fd: fd}, nil
}

// ContainerLocked reports whether a process holds the lock of a container: its dnet
// is alive. It takes no lock.
func (s Store) ContainerLocked(id string) bool {
	fd, err := disk.Open(s.lockPath(), unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	l := unix.Flock_t{Type: unix.F_WRLCK, Start: lockOffset(kindContainer, id), Len: 1}
	_, err = disk.Retry(func() (int, error) { return 0, unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &l) })
	return err == nil && l.Type != unix.F_UNLCK
}

// openLock opens the lock file and makes it, with its directory, the first time
// after a boot.
func (s Store) openLock(path string) (int, error) {
	fd, err := disk.Open(path, unix.O_RDWR|unix.O_CREAT, 0o600)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	if err := os.MkdirAll(s.Run, 0o755); err != nil {
		return -1, err
	}
	return disk.Open(path, unix.O_RDWR|unix.O_CREAT, 0o600)
}

func setLock(fd, cmd int, typ int16, offset int64) error {
	_, err := disk.Retry(func() (int, error) {
		return 0, unix.FcntlFlock(uintptr(fd), cmd, &unix.Flock_t{Type: typ, Start: offset, Len: 1})
	})
	return err
}

// Unlock releases the lock. A child between fork and exec shares the description,
// so closing alone could leave the lock held a moment longer.
func (l *Lock) Unlock() {
	if l == nil || l.fd < 0 {
		return
	}
	// Locks of all kinds of this description: there is one only.
	_, _ = disk.Retry(func() (int, error) {
		return 0, unix.FcntlFlock(uintptr(l.fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK})
	})
	unix.Close(l.fd)
	l.fd = -1
}
