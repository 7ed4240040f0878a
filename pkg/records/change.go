package records

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dcni/pkg/jsonenc"
	"dcni/pkg/records/disk"
	"dcni/pkg/wire"
)

// A Change is what dcni changed of the host's own: how it was before, so that the
// last attachment that needs it can put it back. It is written before the change.
type Change struct {
	Key string `json:"key"` // of the object that made it
	// Was are the settings below /proc/sys, as they were.
	Was map[string]string `json:"was,omitempty"`

	// One of these says which object it was.
	Family  int          `json:"family,omitempty"`  // forwarding of it
	ForAll  bool         `json:"forAll,omitempty"`  // for others than containers as well
	Setting string       `json:"setting,omitempty"` // path below /proc/sys
	Address netip.Prefix `json:"address,omitzero"`  // was not on the link
	Port    uint16       `json:"port,omitempty"`    // UDP, closed to all but a cluster's nodes
	Dev     string       `json:"dev,omitempty"`     // the link; without an address: it was down

	// Permit is a bridge that other programs' forward chains In let pass, by Rules that were
	// put there, as iptables writes them: "-i br-web -j ACCEPT". Ports says that some were for
	// published ports.
	Permit string              `json:"permit,omitempty"`
	In     []string            `json:"in,omitempty"`
	Rules  map[string][]string `json:"rules,omitempty"` // by chain
	Ports  bool                `json:"ports,omitempty"`

	// Encrypted is a UDP port that is closed to what is not encrypted by ESP over Family.
	Encrypted uint16 `json:"encrypted,omitempty"`

	Frames bool `json:"frames,omitempty"` // the table of the bridge family

	Value string `json:"value,omitempty"` // that the setting was given

	// With a Kind, Dev is a link that was not there, see [wire.SharedLink].
	Kind   string `json:"kind,omitempty"`
	Parent string `json:"parent,omitempty"`
	VLAN   int    `json:"vlan,omitempty"`
	Index  int    `json:"index,omitempty"` // of the link: another one may have its name by now

	// Theirs says that nothing was changed: its owner had it so, and keeps it.
	Theirs bool `json:"theirs,omitempty"`

	// Unreadable says that its file can't be read: no more is known than what the name of
	// the file tells, and nothing can be put back.
	Unreadable bool `json:"-"`
}

// changes is where they are: one file for each object.
func (s Store) changes() string { return filepath.Join(s.Run, "host") }

func (s Store) changePath(key string) string {
	return filepath.Join(s.changes(), strings.NewReplacer("/", "+", " ", "_").Replace(key)+".json")
}

// PutChange writes a change whole. A file in its place that can't be read is moved away. The
// caller holds the lock of the host.
func (s Store) PutChange(c *Change) error {
	data, err := jsonenc.Marshal(c, "  ")
	if err != nil {
		return fmt.Errorf("change of %s: %w", c.Key, err)
	}
	path := s.changePath(c.Key)
	data = append(data, '\n')
	if why := checkChange(path); disk.IsUnreadable(why) {
		return s.Root(s.Run).ReplaceUnreadable(path, data, false, why)
	}
	return s.writeFile(path, data)
}

// Change reads the change that an object made; nil where there is none. One that
// can't be read says nothing of how it was.
func (s Store) Change(key string) (*Change, error) {
	c, err := readChange(s.changePath(key))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case disk.IsUnreadable(err):
		return &Change{Key: key, Unreadable: true}, nil
	case err != nil:
		return nil, err
	}
	c.Key = key
	return c, nil
}

// readChange reads a file; the error is a [disk.UnreadableError] if it is none of a change.
func readChange(path string) (*Change, error) {
	data, err := disk.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c := &Change{}
	if err = json.Unmarshal(data, c); err == nil && c.Key == "" {
		err = errNoKey
	}
	if err != nil {
		return nil, &disk.UnreadableError{Path: path, Err: err}
	}
	return c, nil
}

// errNoKey is why JSON is no change.
var errNoKey = errors.New("has no key")

// CheckChange tells that an object made no change that is on record (fs.ErrNotExist), or that
// it can't be read (a [disk.UnreadableError]). Each ADD asks it.
func (s Store) CheckChange(key string) error { return checkChange(s.changePath(key)) }

// checkChange is readChange for a process that needs no more: the first use of the decoder for a
// struct of so many fields takes 20 times as long.
func checkChange(path string) error {
	data, err := disk.ReadFile(path)
	if err != nil {
		return err
	}
	unread := func(why error) error { return &disk.UnreadableError{Path: path, Err: why} }
	if !json.Valid(data) {
		return unread(errors.New("is not JSON"))
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return unread(errNoKey)
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		value, must := changeField(name)
		if value != nil && json.Unmarshal(fields[name], value) != nil {
			return unread(fmt.Errorf("%s is %s: must be %s", name, bytes.TrimSpace(fields[name]), must))
		}
	}
	if key := string(fields["key"]); key == "" || key == `""` || key == "null" {
		return unread(errNoKey)
	}
	return nil
}

// changeField returns where a field of a change can be decoded to, and what it must be; nil for
// a field that a change has not.
func changeField(name string) (value any, must string) {
	switch name {
	case "key", "setting", "dev", "permit", "value", "kind", "parent":
		return new(string), "a string"
	case "family", "vlan", "index":
		return new(int), "a number"
	case "port", "encrypted":
		return new(uint16), "a number of a port"
	case "forAll", "ports", "frames", "theirs":
		return new(bool), "true or false"
	case "address":
		return new(netip.Prefix), "an address with a length"
	case "was":
		return new(map[string]string), "an object of strings"
	case "in":
		return new([]string), "a list of strings"
	case "rules":
		return new(map[string][]string), "an object of lists of strings"
	}
	return nil, ""
}

// HasChange reports whether an object made a change. Each ADD asks it.
func (s Store) HasChange(key string) bool { return disk.Exists(s.changePath(key)) }

// Closed reports whether the host is closed as a router of a family, 4 or 6. Each ADD
// asks it.
func (s Store) Closed(family int) bool { return disk.Exists(s.closedPath(family)) }

// SetClosed notes whether the host is closed as a router of a family. The caller holds
// the lock of the host.
func (s Store) SetClosed(family int, closed bool) error {
	if closed {
		return s.writeFile(s.closedPath(family), nil)
	}
	return s.removeFile(s.closedPath(family))
}

// removeFile removes a file. A directory in its place is moved away.
func (s Store) removeFile(path string) error {
	err := os.Remove(path)
	if disk.IsDir(path) {
		err = s.Root(s.Run).Quarantine(path, disk.ErrIrregular)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (s Store) closedPath(family int) string {
	return filepath.Join(s.changes(), "closed"+strconv.Itoa(family))
}

// Changes lists all, sorted by their files' names. Of one that can't be read, that name
// tells which object made it.
func (s Store) Changes() ([]*Change, error) {
	files, err := disk.NamesIn(s.changes())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	slices.Sort(files)
	var list []*Change
	for _, file := range files {
		if !strings.HasSuffix(file, ".json") {
			continue
		}
		c, failed := readChange(filepath.Join(s.changes(), file))
		if failed != nil {
			c = changeNamed(strings.TrimSuffix(file, ".json"))
		}
		if c != nil && !errors.Is(failed, fs.ErrNotExist) {
			list = append(list, c)
		}
	}
	return list, err
}

// changeNamed returns what the name of a file tells of its change, see changePath; nil if
// it is none of ours.
func changeNamed(name string) *Change {
	c := &Change{Unreadable: true}
	kinds := []string{"link ", "borrowed up ", "borrowed sysctl ", "borrowed addr ", "underlay ", "encrypted ", "permit ", "forwarding ", "table bridge "}
	i := slices.IndexFunc(kinds, func(kind string) bool { return strings.HasPrefix(name, strings.ReplaceAll(kind, " ", "_")) })
	if i < 0 {
		return nil
	}
	kind, rest := kinds[i], name[len(kinds[i]):]
	var err error
	switch kind {
	case "link ", "borrowed up ":
		c.Dev = rest
	case "permit ":
		c.Permit = rest
	case "borrowed sysctl ":
		rest = strings.ReplaceAll(rest, "+", "/")
		c.Setting = rest
	case "borrowed addr ":
		var prefix string
		prefix, c.Dev, _ = strings.Cut(strings.Replace(rest, "+", "/", 1), "_dev_")
		c.Address, err = netip.ParsePrefix(prefix)
		rest = prefix + " dev " + c.Dev
	case "table bridge ":
		c.Frames = true
	case "underlay ":
		c.Port, err = portNamed(rest)
	case "encrypted ":
		c.Encrypted, err = portNamed(rest)
	default:
		var family string
		family, c.ForAll = strings.CutSuffix(rest, "_for_all")
		c.Family, err = strconv.Atoi(family)
		rest = strings.ReplaceAll(rest, "_", " ")
	}
	if err != nil || rest == "" {
		return nil
	}
	c.Key = kind + rest
	return c
}

func portNamed(text string) (uint16, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	return uint16(port), err
}

// DeleteChange forgets a change; a file that can't be read is moved away. The directory goes
// with the last.
func (s Store) DeleteChange(key string) error {
	path := s.changePath(key)
	err := checkChange(path)
	if disk.IsUnreadable(err) {
		err = s.Root(s.Run).Quarantine(path, err)
	} else {
		err = s.removeFile(path)
	}
	if err != nil {
		return err
	}
	_ = unix.Rmdir(s.changes()) // not empty: others are left
	return nil
}

// Unused returns those of the keys of the host's objects that no attachment needs
// but one, which may be the zero one. An attachment whose record does not say what it needs may need any: it is
// being added, or its record can't be read. One record of each network is read before
// all others, since those of a network mostly need the same: a network of thousands
// costs one read while another one needs what it does not.
func (s Store) Unused(keys []string, besides wire.Attachment) ([]string, error) {
	unused := slices.Clone(keys)
	own := filepath.Dir(s.recordPath(besides, "any"))
	networks, err := disk.NamesIn(s.attachments())
	if errors.Is(err, fs.ErrNotExist) {
		return unused, nil
	}
	if i := slices.Index(networks, besides.Network); i > 0 {
		networks[0], networks[i] = networks[i], networks[0] // its like are there
	}
	for _, onlyFirst := range []bool{true, false} {
		for _, network := range networks {
			if len(unused) == 0 || err != nil {
				return unused, err
			}
			unused, err = unusedIn(filepath.Join(s.attachments(), network), own, unused, onlyFirst)
		}
	}
	return unused, err
}

// unusedIn takes from the keys those that the records below a directory need, but for
// those of one directory; or that the first of them needs.
func unusedIn(dir, own string, unused []string, onlyFirst bool) ([]string, error) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		isRecord := false
		switch {
		case errors.Is(err, fs.ErrNotExist) || path == own:
			return skipOwn(path == own)
		case err != nil: // what can't be read may need all
			unused = nil
		case !d.IsDir() && strings.HasSuffix(path, ".json"):
			isRecord = true
			unused = slices.DeleteFunc(unused, neededBy(path))
		}
		if len(unused) == 0 || isRecord && onlyFirst {
			return fs.SkipAll
		}
		return nil
	})
	return unused, err
}

func skipOwn(is bool) error {
	if is {
		return fs.SkipDir
	}
	return nil
}

// neededBy returns whether the record of a path needs a key.
func neededBy(path string) func(key string) bool {
	var r struct {
		Version int      `json:"version"`
		State   State    `json:"state"`
		Host    []string `json:"host"`
	}
	data, err := disk.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) { // a DEL was faster
		return func(string) bool { return false }
	}
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err == nil {
		err = disk.Newer(path, r.Version)
	}
	return func(key string) bool {
		return err != nil || r.State == Adding || r.State == Lost || slices.Contains(r.Host, key)
	}
}
