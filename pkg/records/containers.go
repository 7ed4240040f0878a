package records

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"dcni/pkg/firewall"
	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/records/disk"
)

// Stage is how far a container of dnet has come.
type Stage string

// A container is Created from its first record until its command runs, and
// Exited when all that it had on the host is gone. A caller that holds its lock and
// finds another stage knows that its dnet died.
const (
	Created Stage = "created"
	Running Stage = "running"
	Exited  Stage = "exited"
)

// A Container is a command that `dnet run` started. Its record is
// <Run>/containers/<ID>/config.json; beside it are the files that are mounted
// in it (resolv.conf, hosts, hostname) and what libcni remembers of its
// networks.
type Container struct {
	Version int `json:"version"` // of this format

	ID       string    `json:"id"` // 64 hexadecimal digits
	Name     string    `json:"name"`
	Hostname string    `json:"hostname"`
	Command  []string  `json:"command"`
	Stage    Stage     `json:"stage"`
	Created  time.Time `json:"created"`
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	ExitCode int       `json:"exitCode"`
	Remove   bool      `json:"remove"` // forgotten when it ends

	Process  Process         `json:"process,omitzero"` // the first one
	Networks []Attachment    `json:"networks,omitempty"`
	Ports    []firewall.Port `json:"ports,omitempty"` // that were to be published; what its networks publish is in their records
	Kept     []firewall.Port `json:"kept,omitempty"`  // that it published when it left the last network that publishes, with the numbers that were chosen
	Links    []names.Link    `json:"links,omitempty"` // on the default bridge, which has no names
	Donor    string          `json:"donor,omitempty"` // ID of the container whose network namespace it joined

	Labels  map[string]string `json:"labels,omitempty"`
	User    string            `json:"user,omitempty"`    // as typed; "": root
	Exposed []string          `json:"exposed,omitempty"` // ports, "80/tcp", published or not
	Env     []string          `json:"env,omitempty"`     // NAME=VALUE that was set
	Workdir string            `json:"workdir,omitempty"`
	Output  bool              `json:"output,omitempty"` // what it prints is kept, see package output
	// Options are the flags of `dnet run`, in dnet's own form, for a start once more.
	Options json.RawMessage `json:"options,omitempty"`
	// Wanted are the networks that it is to be on when it is started once more, in dnet's own form. Nothing: those of
	// Options, or it is in another one's network namespace.
	Wanted json.RawMessage `json:"wanted,omitempty"`

	// Unreadable is why the record can't be read. No more is known then than ID, Name, Stage, Networks and when its
	// folder changed last (Created).
	Unreadable error `json:"-"`
}

// NeverRan reports whether a container's command has not run, this time or before.
func (c *Container) NeverRan() bool { return c.Stage == Created && c.Started.IsZero() }

// A Process is identified by its number and its start time, which tells it from a
// later process of the same number. It also holds the namespaces that it was given.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot (proc(5), stat)
	NetNS uint64 `json:"netns"` // inode; 0: the host's
	MntNS uint64 `json:"mntns"` // inode
	UTSNS uint64 `json:"utsns"` // inode
}

// An Attachment is a network of a container with all that DEL needs to be told.
type Attachment struct {
	Network string          `json:"network"` // name
	IfName  string          `json:"ifname"`
	Conf    json.RawMessage `json:"conf"` // the network's configuration list at that time
	Args    [][2]string     `json:"args,omitempty"`
	Values  map[string]any  `json:"capabilityArgs,omitempty"`
	Path    []string        `json:"path"` // CNI_PATH
	// DriverOpts are the endpoint's options as they were asked for, which the rest says in its way.
	DriverOpts map[string]string `json:"driverOpts,omitempty"`
}

// ContainerDir returns the folder of a container.
func (s Store) ContainerDir(id string) string { return filepath.Join(s.containers(), id) }

func (s Store) containers() string { return filepath.Join(s.Run, "containers") }

func (s Store) containerPath(id string) string {
	return filepath.Join(s.ContainerDir(id), "config.json")
}

// LockContainer waits until it gets the lock of a container. The container's dnet
// holds it from before the first record until after the last one; the kernel frees
// the lock when that dnet dies.
func (s Store) LockContainer(id string) (*Lock, error) { return s.lock(kindContainer, id) }

// TryLockContainer takes a container's lock if it is free. ok is false, with no
// error, if another process holds it.
func (s Store) TryLockContainer(id string) (l *Lock, ok bool, err error) {
	return s.try(kindContainer, id)
}

// AddContainer writes the first record of a container, whose lock the caller
// holds. Under a lock of the list, free compares the new container's name with the
// others: its error refuses the container.
func (s Store) AddContainer(c *Container, free func(others []*Container) error) error {
	lock, err := s.lock(kindContainerList, "")
	if err != nil {
		return err
	}
	defer lock.Unlock()
	others, err := s.readContainers(s.isContainer)
	if err != nil {
		return err
	}
	if err := free(others); err != nil {
		return err
	}
	return s.PutContainer(c)
}

// SweepContainers removes folders that no container has. A dnet leaves one if it dies
// while it writes the first record or removes the last one. Folders are made under
// the lock of the list only; SweepContainers takes that lock only if there is one to
// remove.
func (s Store) SweepContainers() error {
	if len(s.abandoned()) == 0 {
		return nil
	}
	lock, err := s.lock(kindContainerList, "")
	if err != nil {
		return err
	}
	defer lock.Unlock()
	var errs []error
	for _, dir := range s.abandoned() {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// abandoned lists the folders without a record that no container has.
func (s Store) abandoned() []string {
	var dirs []string
	entries, _ := os.ReadDir(s.containers()) // none yet
	for _, e := range entries {
		if !s.isContainer(e.Name()) {
			dirs = append(dirs, s.ContainerDir(e.Name()))
		}
	}
	return dirs
}

// isContainer reports whether a folder is a container's. One without a record is if its dnet
// runs, or if it is attached to a network. The caller holds the lock of the list if it must know.
func (s Store) isContainer(id string) bool {
	if _, err := os.Lstat(s.containerPath(id)); !errors.Is(err, fs.ErrNotExist) {
		return true
	}
	keys, err := s.keys("*", id, "*")
	return disk.Exists(s.ContainerDir(id)) && (err != nil || len(keys) > 0 || s.ContainerLocked(id) || len(s.keptOf(id)) > 0)
}

// PutContainer writes a container's record whole.
func (s Store) PutContainer(c *Container) error {
	c.Version = disk.Format
	data, err := json.MarshalIndent(c, "", "  ")
	if err == nil {
		err = s.writeFile(s.containerPath(c.ID), append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("record of container %s: %w", c.Name, err)
	}
	return nil
}

// Container reads a container's record. The error is fs.ErrNotExist where there
// is none.
func (s Store) Container(id string) (*Container, error) {
	path := s.containerPath(id)
	data, err := disk.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c := &Container{}
	err = json.Unmarshal(data, c)
	if e := disk.Newer(path, c.Version); e != nil {
		return nil, e
	}
	if err == nil && c.ID != id {
		err = fmt.Errorf("it is of container %q", c.ID)
	}
	if err != nil {
		return nil, &disk.UnreadableError{Path: path, Err: err}
	}
	return c, nil
}

// Containers lists the containers, the newest first. Of one whose record can't be read,
// or is not there, Unreadable is set.
func (s Store) Containers() ([]*Container, error) {
	return s.readContainers(func(id string) bool {
		// Between a folder and its record, and between their removals, there is the lock of the list. Nothing else is
		// asked for under that lock, so it can be asked for under any other.
		lock, err := s.lockToRead(kindContainerList, "")
		if err != nil {
			return false // not root: what is not there can't be told from what comes
		}
		defer lock.Unlock()
		return s.isContainer(id)
	})
}

// errNoRecord is why there is nothing to read. It is no fs.ErrNotExist, which means that there is
// no container.
var errNoRecord = errors.New("no such file")

// readContainers is Containers. there is asked whether one without a record is a container.
func (s Store) readContainers(there func(id string) bool) (list []*Container, err error) {
	entries, err := os.ReadDir(s.containers())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		id := e.Name()
		c, err := s.Container(id)
		if errors.Is(err, fs.ErrNotExist) && there(id) {
			if c, err = s.Container(id); errors.Is(err, fs.ErrNotExist) { // it may be written by now
				err = &disk.UnreadableError{Path: s.containerPath(id), Err: errNoRecord}
			}
		}
		switch {
		case errors.Is(err, fs.ErrNotExist): // not written yet, or gone
			continue
		case disk.IsUnreadable(err):
			c = s.unreadable(id, err)
		case err != nil:
			return nil, err
		}
		list = append(list, c)
	}
	slices.SortStableFunc(list, func(a, b *Container) int { return b.Created.Compare(a.Created) })
	return list, nil
}

// unreadable returns what is known of a container whose record can't be read: by the lock that
// its dnet holds, what libcni has kept in its folder, and the records of its attachments.
func (s Store) unreadable(id string, why error) *Container {
	c := &Container{ID: id, Name: id[:min(len(id), network.ShortID)], Stage: Exited, Unreadable: why}
	if s.ContainerLocked(id) {
		c.Stage = Running
	}
	if info, err := os.Stat(s.ContainerDir(id)); err == nil {
		c.Created = info.ModTime()
	}
	for _, k := range s.keptOf(id) {
		c.Networks = append(c.Networks, Attachment{
			Network: k.NetworkName, IfName: k.IfName, Conf: k.Config, Args: k.Args, Values: k.Values,
		})
		for _, arg := range k.Args {
			if arg[0] == "DNET_NAME" {
				c.Name = arg[1]
			}
		}
	}
	attached, _ := s.OfContainer(id) // of what can't be read either, no more is known
	for _, r := range attached {
		if r.Name != "" {
			c.Name = r.Name
		}
		if !slices.ContainsFunc(c.Networks, func(at Attachment) bool { return at.Network == r.Attachment.Network && at.IfName == r.IfName }) {
			c.Networks = append(c.Networks, Attachment{Network: r.Attachment.Network, IfName: r.IfName})
		}
	}
	return c
}

// statusFile is the name of a container's file that has its exit status where its record is
// removed.
const statusFile = "status"

// PutStatus writes the exit status of a container that is about to be forgotten, for those
// that have opened the file before.
func (s Store) PutStatus(id string, status int) error {
	return os.WriteFile(filepath.Join(s.ContainerDir(id), statusFile), []byte(strconv.Itoa(status)), 0o600)
}

// OpenStatus opens the file that a container's exit status will be in once it is forgotten.
// The error is fs.ErrNotExist for one that is forgotten already.
func (s Store) OpenStatus(id string) (*os.File, error) {
	if _, err := os.Lstat(s.containerPath(id)); err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join(s.ContainerDir(id), statusFile), os.O_RDONLY|os.O_CREATE, 0o600)
}

// ReadStatus reads the exit status of a container that is forgotten. false: its dnet died
// before it wrote it.
func ReadStatus(f *os.File) (status int, ok bool) {
	data, err := io.ReadAll(io.NewSectionReader(f, 0, 16))
	if err != nil {
		return 0, false
	}
	status, err = strconv.Atoi(string(data))
	return status, err == nil
}

// RemoveContainer forgets a container, whose lock the caller holds. It removes the
// record first: SweepContainers removes a folder without one.
func (s Store) RemoveContainer(id string) error {
	return s.forgetContainer(id, func(path string) error {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// ForgetUnreadable is RemoveContainer for a container whose record can't be read: the
// record is moved away.
func (s Store) ForgetUnreadable(id string, why error) error {
	return s.forgetContainer(id, func(path string) error { return s.Root(s.Run).Quarantine(path, why) })
}

func (s Store) forgetContainer(id string, remove func(path string) error) error {
	lock, err := s.lock(kindContainerList, "")
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := remove(s.containerPath(id)); err != nil {
		return err
	}
	return os.RemoveAll(s.ContainerDir(id))
}

// resultsDir is where libcni keeps what it attached, in a container's folder.
const resultsDir = "results"

// keptOf returns what libcni has kept of a container, in its folder.
func (s Store) keptOf(id string) []keptAttachment {
	return slices.DeleteFunc(keptFiles(filepath.Join(s.ContainerDir(id), resultsDir)), func(k keptAttachment) bool { return k.ContainerID != id })
}

// CheckResults removes from what libcni remembers of a container, whose lock the caller
// holds, what is no regular file: libcni would wait for what is at its other end.
func (s Store) CheckResults(id string) error {
	dir := filepath.Join(s.ContainerDir(id), resultsDir)
	files, err := disk.NamesIn(dir)
	if err != nil {
		return nil //nolint:nilerr // libcni finds none, and can do without
	}
	var errs []error
	for _, file := range files {
		if _, err := disk.ReadRegular(filepath.Join(dir, file)); disk.IsUnreadable(err) {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, file)))
		}
	}
	return errors.Join(errs...)
}

// WriteContainerFile writes a file that is to be mounted in a container, readable
// for all users there, and returns its path.
func (s Store) WriteContainerFile(id, name, text string) (string, error) {
	path := filepath.Join(s.ContainerDir(id), name)
	const readable = 0o644
	if err := os.WriteFile(path, []byte(text), readable); err != nil {
		return "", err
	}
	return path, os.Chmod(path, readable) // whatever the umask is
}

// An Asked is what a container's attachment was asked to have.
type Asked struct {
	IPv4, IPv6 netip.Addr // zero: any
	Aliases    []string
	Links      []string // NAME:ALIAS
	DriverOpts map[string]string
}

// Asked returns what the attachment was asked to have.
func (a Attachment) Asked() Asked {
	var values struct {
		IPs     []netip.Addr        `json:"ips"`
		Aliases map[string][]string `json:"aliases"`
	}
	// The values may have been read from a record, or not yet written to one.
	data, err := json.Marshal(a.Values)
	if err == nil {
		_ = json.Unmarshal(data, &values) // what is of another form was not asked for here
	}
	out := Asked{Aliases: values.Aliases[a.Network], DriverOpts: a.DriverOpts}
	for _, arg := range a.Args {
		ip, err := netip.ParseAddr(arg[1])
		switch {
		case arg[0] == "IP" && err == nil:
			values.IPs = append(values.IPs, ip)
		case arg[0] == names.ArgLinks && arg[1] != "":
			out.Links = strings.Split(arg[1], ",")
		}
	}
	for _, ip := range values.IPs {
		if ip.Is6() {
			out.IPv6 = ip
		} else {
			out.IPv4 = ip
		}
	}
	return out
}
