package records

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/ipam"
	"dcni/pkg/jsonenc"
	"dcni/pkg/records/disk"
	"dcni/pkg/records/filecache"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// This file is about the services of networks: of those that are this host's alone, which are
// here, and of a cluster's, of which [Store.PutServed] keeps what is known.
//
// A service of this host's is <Lib>/services/<network>/<service>.json: it outlives the boot, as its network's
// file does. What is known of tasks goes with the boot: an empty file
// <Run>/drained/<network>/<container>:<ifname> says that a task is drained, and
// <Run>/healthy/<network>/<service>/<container>:<ifname> that its check has succeeded, which is
// of this host's tasks of a cluster's service as well. No word has a colon.

// ServiceOwner stands for a container's ID in the leases of virtual addresses. The service's
// name stands for its interface's there. No runtime has such an ID: they begin with a letter or
// a digit.
const ServiceOwner = "_service"

// A Service is a service as it is on disk.
type Service struct {
	Version int `json:"version"` // of this format
	service.Service
	Created time.Time `json:"created"`
}

// Owner returns what owns the leases of the service's virtual addresses.
func (s *Service) Owner() wire.Attachment {
	return wire.Attachment{Network: s.Network, Container: ServiceOwner, IfName: s.Name}
}

// LockServices waits until it gets the lock under which a network's services, and what its
// containers have of them, change.
func (s Store) LockServices(network string) (*Lock, error) { return s.lock(kindServices, network) }

func (s Store) servicesDir(network string) string { return filepath.Join(s.Lib, "services", network) }

func (s Store) servicePath(network, name string) string {
	return filepath.Join(s.servicesDir(network), name+".json")
}

// HasServices reports whether a network may have services: each ADD and DEL asks it.
func (s Store) HasServices(network string) bool {
	if info, err := os.Stat(s.servedPath(network)); err == nil {
		return info.Size() > 0
	}
	return disk.Exists(s.servicesDir(network))
}

// HasService reports whether a network has a service.
func (s Store) HasService(network, name string) bool {
	return CheckWords(wire.Attachment{Network: network, Container: ServiceOwner, IfName: name}) == nil &&
		disk.Exists(s.servicePath(network, name))
}

// PutService writes a service whole. The caller holds the lock of the network's services, as
// for the next.
func (s Store) PutService(v *Service) error {
	if err := CheckWords(v.Owner()); err != nil {
		return err
	}
	v.Version = disk.Format
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("service %s of network %s: %w", v.Name, v.Network, err)
	}
	return s.Root(s.Lib).Replace(s.servicePath(v.Network, v.Name), append(data, '\n'), true)
}

// RemoveService forgets a service, with what is known of its tasks.
func (s Store) RemoveService(network, name string) error {
	err := s.forgetChecks(network, name)
	if e := os.Remove(s.servicePath(network, name)); e != nil && !errors.Is(e, fs.ErrNotExist) {
		return errors.Join(err, e)
	}
	if unix.Rmdir(s.servicesDir(network)) == nil { // else it is not empty: there are others
		err = errors.Join(err, os.RemoveAll(s.drainedDir(network)))
		_ = unix.Rmdir(filepath.Dir(s.drainedDir(network)))
	}
	_ = unix.Rmdir(filepath.Dir(s.servicesDir(network)))
	return err
}

// forgetChecks forgets what is known of a service's checks.
func (s Store) forgetChecks(network, service string) error {
	err := os.RemoveAll(filepath.Join(s.healthyDir(network), service))
	_ = unix.Rmdir(s.healthyDir(network)) // not empty: of other services
	_ = unix.Rmdir(filepath.Dir(s.healthyDir(network)))
	return err
}

// ServiceNetworks lists the networks that have services, sorted: this host's, and those of a
// cluster that it has containers on.
func (s Store) ServiceNetworks() ([]string, error) {
	list, err := disk.NamesIn(filepath.Join(s.Lib, "services"))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	for file := range s.marks(filepath.Dir(s.servedPath(""))) {
		if name, is := strings.CutSuffix(file, ".json"); is && s.HasServices(name) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return slices.Compact(list), err
}

// Services lists the services of a network of this host's by name. One that can't be read hides no other.
func (s Store) Services(network string) (list []*Service, err error) {
	w := s.Cache.Walk("services " + network)
	defer w.End()
	files, err := namesIn(w, s.servicesDir(network))
	errs := []error{err}
	for _, file := range files {
		name, is := strings.CutSuffix(file, ".json")
		if !is {
			continue
		}
		v, err := filecache.Remember(w, s.servicePath(network, name), func() (Service, error) {
			v, err := s.Service(network, name)
			if err != nil {
				return Service{}, err
			}
			return *v, nil
		})
		switch {
		case err == nil:
			list = append(list, &v)
		case !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, err)
		}
	}
	return list, errors.Join(errs...)
}

// Service reads a service. The error is fs.ErrNotExist where there is none.
func (s Store) Service(network, name string) (*Service, error) {
	path := s.servicePath(network, name)
	data, err := disk.ReadFile(path)
	if err != nil {
		return nil, err
	}
	v := &Service{}
	err = json.Unmarshal(data, v)
	if e := disk.Newer(path, v.Version); e != nil {
		return nil, e
	}
	if err == nil && (v.Network != network || v.Name != name) {
		err = fmt.Errorf("it is %s of network %s", v.Name, v.Network)
	}
	if err != nil {
		return nil, &disk.UnreadableError{Path: path, Err: err}
	}
	return v, nil
}

// ServicesOf returns what a network has of services, with the containers that are attached. Of
// a cluster's network it has the tasks on other nodes as well.
func (s Store) ServicesOf(network string) (service.Network, error) {
	return s.servicesOf(network, func() ([]Client, error) { return s.Clients(network) })
}

// ServicesAmong is ServicesOf for who has the network's clients.
func (s Store) ServicesAmong(network string, clients []Client) (service.Network, error) {
	return s.servicesOf(network, func() ([]Client, error) { return clients, nil })
}

func (s Store) servicesOf(network string, clients func() ([]Client, error)) (service.Network, error) {
	if s.KnowsServices(network) {
		p, err := s.Served(network)
		if errors.Is(err, fs.ErrNotExist) { // its last container here went just now
			err = nil
		}
		if err != nil || len(p.Services) == 0 {
			return service.Network{Name: network}, err
		}
		own, err := clients()
		return p.Join(s.endpoints(network, p.Services, own)), err
	}
	n := service.Network{Name: network}
	list, err := s.Services(network)
	if len(list) == 0 {
		return n, err
	}
	for _, v := range list {
		n.Services = append(n.Services, v.Service)
	}
	own, unread := clients()
	n.Endpoints = s.endpoints(network, n.Services, own)
	return n, errors.Join(err, unread)
}

// endpoints returns this host's containers on a network, as far as its services are concerned.
func (s Store) endpoints(network string, services []service.Service, clients []Client) (list []service.Endpoint) {
	drained, healthy := s.marks(s.drainedDir(network)), map[string][]string{}
	for _, v := range services {
		if v.Health != "" {
			for mark := range s.marks(filepath.Join(s.healthyDir(network), v.Name)) {
				healthy[mark] = append(healthy[mark], v.Name)
			}
		}
	}
	for _, c := range clients {
		mark := taskMark(c.Owner)
		c.Drained, c.Healthy = drained[mark], healthy[mark]
		list = append(list, c.Endpoint)
	}
	return list
}

// IsTask reports whether an attachment is a task of a service of a network of this host's. Of the services it reads those
// whose names it bears.
func (s Store) IsTask(r *Record) (bool, error) {
	if r.State != Up || r.IPAM.Type == "" {
		return false, nil
	}
	var errs []error
	for _, name := range append([]string{r.Name}, r.Names...) {
		name = strings.ToLower(name)
		if !s.HasService(r.Network, name) {
			continue
		}
		v, err := s.Service(r.Network, name)
		if err == nil && !v.Removing {
			return true, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return false, errors.Join(errs...)
}

// Meant returns the records of a network whose container a word may mean: by its name, its ID or the beginning of that.
// It decodes no others, which takes most of the time of [Store.List].
func (s Store) Meant(network, word string) (list []*Record, err error) {
	keys, err := s.keys(network, "*", "*")
	quoted, unsaid := jsonenc.Marshal(strings.TrimPrefix(word, "/"), "")
	keys = slices.DeleteFunc(keys, func(key RecordKey) bool {
		if strings.HasPrefix(key.Container, word) {
			return false
		}
		data, err := disk.ReadFile(s.recordPath(key.Attachment, key.Plugin))
		return err != nil || !bytes.Contains(data, quoted) // what can't be read has no name
	})
	list, failed := s.findAll(keys)
	return list, errors.Join(err, unsaid, failed)
}

func (s Store) drainedDir(network string) string { return filepath.Join(s.Run, "drained", network) }

func (s Store) healthyDir(network string) string { return filepath.Join(s.Run, "healthy", network) }

func taskMark(a wire.Attachment) string { return a.Container + ":" + a.IfName }

// marks returns the names in a directory; none where it is not there.
func (s Store) marks(dir string) map[string]bool {
	list, _ := disk.NamesIn(dir)
	names := make(map[string]bool, len(list))
	for _, name := range list {
		names[name] = true
	}
	return names
}

// Drain notes that an attachment is to get no more connections as a task, or that it is to
// get some again.
func (s Store) Drain(a wire.Attachment, drained bool) error {
	return s.mark(s.drainedDir(a.Network), a, drained)
}

// SetHealthy notes whether a service's last check of a task has succeeded.
func (s Store) SetHealthy(service string, a wire.Attachment, healthy bool) error {
	if err := CheckWords(wire.Attachment{Network: a.Network, Container: a.Container, IfName: service}); err != nil {
		return err
	}
	dir := filepath.Join(s.healthyDir(a.Network), service)
	err := s.mark(dir, a, healthy)
	if !healthy {
		_ = unix.Rmdir(s.healthyDir(a.Network)) // not empty: of other services
		_ = unix.Rmdir(filepath.Dir(s.healthyDir(a.Network)))
	}
	return err
}

// mark makes an empty file in a directory of marks, or removes it, with directories that it
// leaves empty.
func (s Store) mark(dir string, a wire.Attachment, on bool) error {
	if err := CheckWords(a); err != nil {
		return err
	}
	path := filepath.Join(dir, taskMark(a))
	if on {
		return s.writeFile(path, nil)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_ = unix.Rmdir(dir) // not empty: of other containers
	_ = unix.Rmdir(filepath.Dir(dir))
	return nil
}

// ForgetTask removes all marks of an attachment that goes.
func (s Store) ForgetTask(a wire.Attachment) error {
	errs := []error{s.Drain(a, false)}
	for service := range s.marks(s.healthyDir(a.Network)) {
		errs = append(errs, s.SetHealthy(service, a, false))
	}
	return errors.Join(errs...)
}

// TaskSince returns when a task came into its state: when it was attached, or drained, or
// its check succeeded first.
func (s Store) TaskSince(v service.Service, t service.Task) (since time.Time) {
	list, _ := s.OfAttachment(t.Owner)
	for _, r := range list {
		if r.Since.After(since) {
			since = r.Since
		}
	}
	path := filepath.Join(s.drainedDir(v.Network), taskMark(t.Owner))
	if t.State != service.Draining {
		path = filepath.Join(s.healthyDir(v.Network), v.Name, taskMark(t.Owner))
	}
	if info, err := os.Lstat(path); err == nil && info.ModTime().After(since) {
		since = info.ModTime()
	}
	return since
}

// A Client is what services need of a record: of a container that finds services, and may be a task of some.
type Client struct {
	service.Endpoint        // without what marks say of it
	Up               Moment // since when it is up
	NetNS            string // path of the sandbox
	Cookie           uint64 // of its namespace
	Leads            bool   // it has rules of its network's, so those of services as well
	there            bool   // it is up, and has addresses
}

// Clients returns the clients of a network that are up, sorted by the paths of their records. Of a record it decodes what
// it needs, which takes a fraction of the time.
func (s Store) Clients(network string) ([]Client, error) {
	w := s.Cache.Walk("clients " + network)
	defer w.End()
	dir := filepath.Join(s.attachments(), network)
	containers, err := namesIn(w, dir)
	lists, errs := make([][]Client, len(containers)), make([]error, len(containers))
	eachOf(len(containers), func(i int) {
		lists[i], errs[i] = clientsIn(w, filepath.Join(dir, containers[i]))
	})
	return slices.Concat(lists...), errors.Join(append(errs, err)...)
}

// clientsIn returns the clients below the directory of a container on a network.
func clientsIn(w *filecache.Walk, dir string) (list []Client, err error) {
	interfaces, err := namesIn(w, dir)
	errs := []error{err}
	for _, ifName := range interfaces {
		files, err := namesIn(w, filepath.Join(dir, ifName))
		errs = append(errs, err)
		for _, file := range files {
			if filepath.Ext(file) != ".json" {
				continue
			}
			path := filepath.Join(dir, ifName, file)
			c, err := filecache.Remember(w, path, func() (Client, error) { return readClient(path) })
			switch {
			case err == nil && c.there:
				list = append(list, c)
			case err != nil && !errors.Is(err, fs.ErrNotExist) && !disk.IsUnreadable(err): // of what can't be read no more is known than a name
				errs = append(errs, err)
			}
		}
	}
	return list, errors.Join(errs...)
}

// namesIn returns the names in a directory, sorted; none where there is none.
func namesIn(w *filecache.Walk, dir string) ([]string, error) {
	list, err := filecache.Remember(w, dir, func() ([]string, error) {
		list, err := disk.NamesIn(dir)
		slices.Sort(list)
		return list, err
	})
	if errors.Is(err, fs.ErrNotExist) || disk.IsUnreadable(disk.Unreadable(dir, err)) {
		return nil, nil
	}
	return list, err
}

// readClient reads the record at a path.
func readClient(path string) (c Client, err error) {
	data, err := disk.ReadFile(path)
	if err != nil {
		return c, err
	}
	var r struct {
		Version int `json:"version"`
		wire.Attachment
		Moment
		Plugin string `json:"plugin"`
		State  State  `json:"state"`
		NetNS  string `json:"netns"`
		Cookie uint64 `json:"cookie"`
		IPAM   struct {
			Type string `json:"type"`
		} `json:"ipam"`
		Addresses []ipam.Assigned `json:"addresses"`
		IPv6Off   bool            `json:"ipv6Off"`
		Firewall  *struct{}       `json:"firewall"`
		Name      string          `json:"name"`
		Names     []string        `json:"names"`
	}
	err = json.Unmarshal(data, &r)
	if e := disk.Newer(path, r.Version); e != nil {
		return c, e
	}
	whole := &Record{Attachment: r.Attachment, Plugin: r.Plugin, State: r.State, NetNS: r.NetNS, Addresses: r.Addresses, IPv6Off: r.IPv6Off}
	if err == nil {
		err = whole.check(ownerAt(path), strings.TrimSuffix(filepath.Base(path), ".json"))
	}
	if err != nil {
		return c, &disk.UnreadableError{Path: path, Err: err}
	}
	return Client{
		Endpoint: service.Endpoint{Owner: r.Attachment, Name: r.Name, Names: r.Names, Addresses: whole.IPsThere()},
		Up:       r.Moment, NetNS: r.NetNS, Cookie: r.Cookie, Leads: r.Firewall != nil, there: r.State == Up && r.IPAM.Type != "",
	}, nil
}

// ownerAt returns the attachment whose record is at a path.
func ownerAt(path string) wire.Attachment {
	dir := filepath.Dir(path)
	above := filepath.Dir(dir)
	return wire.Attachment{Network: filepath.Base(filepath.Dir(above)), Container: filepath.Base(above), IfName: filepath.Base(dir)}
}

// IngressNetNS is where the network namespace is mounted by which this node is on an overlay network
// for the ports of its services. It is there before the attachment's record, and after.
func (s Store) IngressNetNS(network string) string { return filepath.Join(s.ingressDir(), network) }

func (s Store) ingressDir() string { return filepath.Join(s.Run, "ingress") }

// Ingress returns on which networks this node is, or is half, for the ports of their services: of
// which generation each is in the cluster, 0 where the attachment is not up, or its
// namespace not mounted.
func (s Store) Ingress() (map[string]int64, error) {
	list, err := disk.NamesIn(s.ingressDir())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	on := map[string]int64{}
	for _, name := range list {
		on[name] = 0
		of, _ := s.OfAttachment(service.IngressOf(name)) // what can't be read is made again
		var at unix.Statfs_t
		mounted := unix.Statfs(s.IngressNetNS(name), &at) == nil && at.Type == unix.NSFS_MAGIC
		for _, r := range of {
			if mounted && r.State == Up && r.Overlay != nil {
				on[name] = r.Overlay.Generation
			}
		}
	}
	return on, err
}
