package records

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/ipam"
	"dcni/pkg/jsonenc"
	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// State is how far an attachment has come.
type State string

// An attachment is Adding from before its first side effect until ADD is
// done, and Deleting from the first step of DEL. A record that is found in
// either state under the attachment's lock belongs to a process that died.
const (
	Adding   State = "adding"
	Up       State = "up"
	Deleting State = "deleting"
)

// A Creator says whether a CNI runtime or dnet makes and ends an attachment. A
// runtime's GC leaves alone what dnet made.
type Creator string

// The creators.
const (
	ByCNI  Creator = "cni"
	ByDnet Creator = "dnet"
)

// A Record is what one plugin of a chain attached: enough to check, delete and
// heal it, and to answer names from.
type Record struct {
	wire.Attachment
	Plugin  string    `json:"plugin"`
	State   State     `json:"state"`
	Creator Creator   `json:"creator"`
	Program string    `json:"program,omitempty"` // absolute path of the plugin, for dnetd
	Since   time.Time `json:"since"`             // when this state was entered

	NetNS  string `json:"netns"`            // CNI_NETNS
	Cookie uint64 `json:"cookie"`           // SO_NETNS_COOKIE: a path may come to mean another namespace
	Target uint64 `json:"target,omitempty"` // cookie of the namespace that the path was made to lead to

	Host []string     `json:"host,omitempty"`  // keys of the host's objects that it uses and that go with their last user
	Info network.Info `json:"traits,omitzero"` // of the network, for plugins further down the chain

	Config    json.RawMessage    `json:"config,omitempty"`  // the configuration as the plugin was given it
	Backend   string             `json:"backend,omitempty"` // nftables or iptables
	IPAM      IPAM               `json:"ipam,omitzero"`     // where an IPAM gave addresses
	MTU       int                `json:"mtu,omitempty"`     // bytes
	MAC       string             `json:"mac,omitempty"`     // of the sandbox's interface
	Addresses []ipam.Assigned    `json:"addresses,omitempty"`
	Subnets   []ipam.Subnet      `json:"subnets,omitempty"`  // all of the network's
	Routes    []ipam.Route       `json:"routes,omitempty"`   // besides the default ones
	Firewall  *firewall.Network  `json:"firewall,omitempty"` // what the network allows
	Endpoint  *firewall.Endpoint `json:"endpoint,omitempty"` // the ports published
	Name      string             `json:"name,omitempty"`     // the container's, as the runtime calls it; not always a domain name
	Names     []string           `json:"names,omitempty"`
	Resolver  *names.Resolver    `json:"resolver,omitempty"` // what dnetd answers the sandbox
	Result    json.RawMessage    `json:"result,omitempty"`   // what ADD printed, as CNI 1.1.0
}

// IPAM says where the addresses came from, so that DEL can give them back.
type IPAM struct {
	Type    string `json:"type"`
	DataDir string `json:"dataDir,omitempty"` // of dipam
}

func (s Store) attachments() string { return filepath.Join(s.Run, "attachments") }

func (s Store) recordPath(a wire.Attachment, plugin string) string {
	return filepath.Join(s.attachments(), a.Network, a.Container, a.IfName, plugin+".json")
}

// Put writes a record whole. A DEL may remove a directory on the path at any time:
// Put then starts again.
func (s Store) Put(r *Record) error {
	if err := checkWords(r.Attachment); err != nil {
		return err
	}
	data, err := jsonenc.Marshal(r, "  ")
	if err != nil {
		return fmt.Errorf("record of %s: %w", r.Attachment, err)
	}
	path := s.recordPath(r.Attachment, r.Plugin)
	for {
		err := s.writeFile(path, append(data, '\n'))
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
}

// Get reads a record. The error is fs.ErrNotExist where there is none.
func (s Store) Get(a wire.Attachment, plugin string) (*Record, error) {
	return readRecord(s.recordPath(a, plugin))
}

// InfoFromChain returns what the records of other plugins of the same chain, for the
// same attachment, tell of the network.
func (s Store) InfoFromChain(a wire.Attachment, plugin string) (network.Info, error) {
	dir := filepath.Dir(s.recordPath(a, plugin))
	files, err := namesIn(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return network.Info{}, nil
	}
	var all network.Info
	for _, file := range files {
		name, isRecord := strings.CutSuffix(file, ".json")
		if !isRecord || name == plugin {
			continue
		}
		data, err := readFile(filepath.Join(dir, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var info network.Info
		if err == nil {
			info, err = infoIn(data)
		}
		if err != nil {
			return all, fmt.Errorf("record %s: %w", filepath.Join(dir, file), err)
		}
		all = all.And(info)
	}
	return all, err
}

// infoIn returns what is said of the network in a record that is up. It decodes only those: the
// whole record takes much longer.
func infoIn(record []byte) (network.Info, error) {
	var r struct {
		State State        `json:"state"`
		Info  network.Info `json:"traits"`
	}
	if err := json.Unmarshal(record, &r); err != nil || r.State != Up {
		return network.Info{}, err
	}
	return r.Info, nil
}

func readRecord(path string) (*Record, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	r := &Record{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("record %s: %w", path, err)
	}
	return r, nil
}

// Delete removes a record and the directories that it leaves empty: a
// container's goes with its last attachment.
func (s Store) Delete(a wire.Attachment, plugin string) error {
	path := s.recordPath(a, plugin)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for dir := filepath.Dir(path); dir != s.attachments(); dir = filepath.Dir(dir) {
		// rmdir(2) itself refuses a directory that has other entries.
		if err := unix.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return nil
}

// Prune removes the empty directories of a network's attachments, or of all
// networks' for "". An ADD that dies before it wrote its record leaves them, and so
// does a DEL that dies after it removed the record. An ADD at work makes them again.
func (s Store) Prune(network string) {
	if network == "" {
		network = "*"
	}
	dir := filepath.Join(s.attachments(), network)
	for _, pattern := range []string{"*/*", "*", ""} {
		paths, _ := filepath.Glob(filepath.Join(dir, pattern)) // no pattern of ours is bad
		for _, path := range paths {
			_ = unix.Rmdir(path) // not empty: in use
		}
	}
}

// List returns the records of a network, or of all networks for "", sorted by
// path. It leaves out records that are removed during the call.
func (s Store) List(network string) ([]*Record, error) {
	if network == "" {
		network = "*"
	}
	return s.read(network, "*")
}

// OfContainer returns the records of a container, on all its networks.
func (s Store) OfContainer(container string) ([]*Record, error) { return s.read("*", container) }

// OfAttachment returns the records of an attachment, one for each plugin.
func (s Store) OfAttachment(a wire.Attachment) ([]*Record, error) {
	dir := filepath.Dir(s.recordPath(a, "any"))
	files, err := namesIn(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	errs := []error{err}
	var list []*Record
	for _, file := range files {
		if !strings.HasSuffix(file, ".json") {
			continue
		}
		r, err := readRecord(filepath.Join(dir, file))
		switch {
		case err == nil:
			list = append(list, r)
		case !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, err)
		}
	}
	return list, errors.Join(errs...)
}

// read reads the records of a network and a container; either may be "*".
func (s Store) read(network, container string) ([]*Record, error) {
	paths, err := filepath.Glob(filepath.Join(s.attachments(), network, container, "*", "*.json"))
	if err != nil {
		return nil, err
	}
	var list []*Record
	var errs []error
	for _, path := range paths {
		r, err := readRecord(path)
		switch {
		case err == nil:
			list = append(list, r)
		case !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, err)
		}
	}
	return list, errors.Join(errs...)
}

// Attached reports whether a network has an attachment, in whatever state. It
// looks no further than the first.
func (s Store) Attached(network string) (bool, error) {
	attached := false
	err := filepath.WalkDir(filepath.Join(s.attachments(), network), func(_ string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // none, or it was removed during the walk
			return nil
		case err != nil:
			return err
		case !d.IsDir():
			attached = true
			return fs.SkipAll
		}
		return nil
	})
	return attached, err
}

// Others reports whether a network, or any for "", has attachments besides one.
func (s Store) Others(network string, besides wire.Attachment) (bool, error) {
	if network == "" {
		network = "*"
	}
	paths, err := filepath.Glob(filepath.Join(s.attachments(), network, "*", "*", "*.json"))
	if err != nil {
		return false, err
	}
	own := filepath.Join(s.attachments(), besides.Network, besides.Container, besides.IfName) + "/"
	for _, path := range paths {
		if !strings.HasPrefix(path, own) {
			return true, nil
		}
	}
	return false, nil
}

// Interfaces returns one record for each attachment: that of the plugin that made
// the interface; where that is no plugin of ours, a chained one's.
func Interfaces(list []*Record) []*Record {
	at := map[wire.Attachment]int{}
	var out []*Record
	for _, r := range list {
		i, known := at[r.Attachment]
		switch {
		case !known:
			at[r.Attachment] = len(out)
			out = append(out, r)
		case out[i].Resolver != nil: // the first one was chained
			out[i] = r
		}
	}
	return out
}
