package records

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/records/disk"
	"dcni/pkg/wire"
)

// A Connection is a network that `dnet connect` attached a running container to,
// whichever runtime's that is, with all that DEL needs to be told: the runtime
// does not know of it. It is <Run>/connections/<container>/<network>.json, written
// before ADD and removed after DEL. Beside it is what libcni remembers.
type Connection struct {
	Version int `json:"version"` // of this format

	Container string `json:"container"` // CNI_CONTAINERID
	Attachment
	CNIVersion string          `json:"cniVersion"` // that the plugins are spoken to in
	NetNS      string          `json:"netns"`      // path of the container's network namespace
	Cookie     uint64          `json:"cookie"`     // of that namespace, see [Record]
	Up         bool            `json:"up"`         // ADD is done, and DEL has not begun
	Moment                     // when ADD began
	Result     json.RawMessage `json:"result,omitempty"`
}

// Of returns the attachment's identity.
func (c *Connection) Of() wire.Attachment {
	return wire.Attachment{Network: c.Network, Container: c.Container, IfName: c.IfName}
}

func (s Store) connections() string { return filepath.Join(s.Run, "connections") }

// ConnectionDir returns the folder of a container's connections.
func (s Store) ConnectionDir(container string) string {
	return filepath.Join(s.connections(), container)
}

func (s Store) connectionPath(container, network string) string {
	return filepath.Join(s.ConnectionDir(container), network+".json")
}

// LockConnections waits until it gets the lock under which a container's connections
// change.
func (s Store) LockConnections(container string) (*Lock, error) {
	return s.lock(kindConnections, container)
}

// TryLockConnections takes that lock if it is free. ok is false, with no error, if
// another process holds it.
func (s Store) TryLockConnections(container string) (l *Lock, ok bool, err error) {
	return s.try(kindConnections, container)
}

// HasConnections reports whether a container may have connections. Each DEL asks it.
func (s Store) HasConnections(container string) bool { return disk.Exists(s.ConnectionDir(container)) }

// PutConnection writes a connection whole. What a killed writer leaves is in the folder of
// the container's connections, and goes with it. The caller holds the container's lock of
// connections, as for the next two.
func (s Store) PutConnection(c *Connection) error {
	if err := CheckWords(c.Of()); err != nil {
		return err
	}
	c.Version = disk.Format
	data, err := json.MarshalIndent(c, "", "  ")
	if err == nil {
		path := s.connectionPath(c.Container, c.Network)
		err = s.Root(s.Run).ReplaceFrom(path+".new", path, append(data, '\n'), 0o600, false)
	}
	if err != nil {
		return fmt.Errorf("connection of container %s to network %s: %w", c.Container, c.Network, err)
	}
	return nil
}

// RemoveConnection forgets a connection, and the folder when nothing else is in it.
func (s Store) RemoveConnection(c *Connection) error {
	err := os.Remove(s.connectionPath(c.Container, c.Network))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.removeConnectionDir(c.Container)
}

// removeConnectionDir removes the folder of a container's connections where neither a connection is
// in it nor ports are that are kept.
func (s Store) removeConnectionDir(container string) error {
	left, err := s.connectionFiles(container)
	if err != nil || len(left) > 0 || disk.Exists(s.keptPortsPath(container)) {
		return err
	}
	return os.RemoveAll(s.ConnectionDir(container))
}

// KeptPorts are what a container of another runtime published when it left the last network that
// published anything, with the numbers that were chosen. They are for the network that it is
// connected to next, and go when the container ends. They are
// <Run>/connections/<container>/ports.
type KeptPorts struct {
	Version int `json:"version"` // of this format

	Container string   `json:"container"`
	Names     []string `json:"names,omitempty"` // of the container
	NetNS     string   `json:"netns"`           // path of its network namespace
	Cookie    uint64   `json:"cookie"`          // of that namespace
	Moment
	Ports []firewall.Port `json:"ports"`
}

func (s Store) keptPortsPath(container string) string {
	return filepath.Join(s.ConnectionDir(container), "ports")
}

// PutKeptPorts writes the ports of a container whole. The caller holds the container's lock of
// connections, as for the next two.
func (s Store) PutKeptPorts(k *KeptPorts) error {
	k.Version = disk.Format
	data, err := json.MarshalIndent(k, "", "  ")
	if err == nil {
		path := s.keptPortsPath(k.Container)
		err = s.Root(s.Run).ReplaceFrom(path+".new", path, append(data, '\n'), 0o600, false)
	}
	if err != nil {
		return fmt.Errorf("ports of container %s: %w", k.Container, err)
	}
	return nil
}

// KeptPorts reads the ports of a container, fs.ErrNotExist if none are kept.
func (s Store) KeptPorts(container string) (*KeptPorts, error) {
	path := s.keptPortsPath(container)
	data, err := disk.ReadFile(path)
	if err != nil {
		return nil, err
	}
	k := &KeptPorts{}
	err = json.Unmarshal(data, k)
	if e := disk.Newer(path, k.Version); e != nil {
		return nil, e
	}
	if err == nil && k.Container != container {
		err = fmt.Errorf("it is of container %q", k.Container)
	}
	if err != nil {
		return nil, &disk.UnreadableError{Path: path, Err: err}
	}
	return k, nil
}

// ForgetKeptPorts removes the ports of a container, moves them away if they can't be read, and
// removes the folder when nothing else is in it.
func (s Store) ForgetKeptPorts(container string) error {
	path := s.keptPortsPath(container)
	_, bad := s.KeptPorts(container)
	var err error
	if disk.IsUnreadable(bad) {
		err = s.Root(s.Run).Quarantine(path, bad)
	} else if err = os.Remove(path); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return err
	}
	return s.removeConnectionDir(container)
}

// ForgetConnections removes the folder of a container's connections where no connection
// is in it: a dnet that died before its first record leaves one. It moves away
// what can't be read.
func (s Store) ForgetConnections(container string) error {
	files, err := s.connectionFiles(container)
	for _, name := range files {
		_, bad := s.connection(container, name)
		if unread, is := errors.AsType[*disk.UnreadableError](bad); is && !unread.Newer {
			err = errors.Join(err, s.Root(s.Run).Quarantine(unread.Path, bad))
		}
	}
	if err != nil {
		return err
	}
	return s.removeConnectionDir(container)
}

// connectionFiles lists the networks that a container is connected to.
func (s Store) connectionFiles(container string) (networks []string, err error) {
	files, err := disk.NamesIn(s.ConnectionDir(container))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	for _, file := range files {
		if name, is := strings.CutSuffix(file, ".json"); is {
			networks = append(networks, name)
		}
	}
	slices.Sort(networks)
	return networks, err
}

// Connections lists a container's connections, in the order in which they were made.
// One that can't be read hides no other.
func (s Store) Connections(container string) (list []*Connection, err error) {
	networks, err := s.connectionFiles(container)
	errs := []error{err}
	for _, name := range networks {
		c, err := s.connection(container, name)
		switch {
		case err == nil:
			list = append(list, c)
		case !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, err)
		}
	}
	slices.SortStableFunc(list, func(a, b *Connection) int { return a.Moment.Compare(b.Moment) })
	return list, errors.Join(errs...)
}

func (s Store) connection(container, network string) (*Connection, error) {
	path := s.connectionPath(container, network)
	data, err := disk.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c := &Connection{}
	err = json.Unmarshal(data, c)
	if e := disk.Newer(path, c.Version); e != nil {
		return nil, e
	}
	if err == nil && (c.Container != container || c.Network != network || c.IfName == "") {
		err = fmt.Errorf("it is of %s", c.Of())
	}
	if err != nil {
		return nil, &disk.UnreadableError{Path: path, Err: err}
	}
	return c, nil
}

// Connected lists the containers that have connections.
func (s Store) Connected() ([]string, error) {
	list, err := disk.NamesIn(s.connections())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	slices.Sort(list)
	return list, err
}
