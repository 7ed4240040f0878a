package records

import (
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"dcni/pkg/ipam"
	"dcni/pkg/records/disk"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

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
	w := s.Cache.walk("clients " + network)
	defer w.end()
	dir := filepath.Join(s.attachments(), network)
	containers, err := namesIn(w, dir)
	lists, errs := make([][]Client, len(containers)), make([]error, len(containers))
	eachOf(len(containers), func(i int) {
		lists[i], errs[i] = clientsIn(w, filepath.Join(dir, containers[i]))
	})
	return slices.Concat(lists...), errors.Join(append(errs, err)...)
}

// clientsIn returns the clients below the directory of a container on a network.
func clientsIn(w *walk, dir string) (list []Client, err error) {
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
			c, err := remember(w, path, func() (Client, error) { return readClient(path) })
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
func namesIn(w *walk, dir string) ([]string, error) {
	list, err := remember(w, dir, func() ([]string, error) {
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
