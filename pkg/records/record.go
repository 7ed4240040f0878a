package records

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/ipam"
	"dcni/pkg/jsonenc"
	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/records/disk"
	"dcni/pkg/wire"
)

// State is how far an attachment has come.
type State string

// An attachment is Adding from before its first side effect until ADD is
// done, and Deleting from the first step of DEL. A record that is found in
// either state under the attachment's lock belongs to a process that died. Of an
// attachment that is Lost no more is known than its identity: its record can't be read.
const (
	Adding   State = "adding"
	Up       State = "up"
	Deleting State = "deleting"
	Lost     State = "lost"
)

// A Creator says what makes and ends an attachment: a CNI runtime, dnet for a container of
// its own, `dnet connect` for a container of whichever runtime, or dnetd for the node itself. A runtime's
// GC leaves alone what it did not make: of what was connected, and the node's, as long as the sandbox is there.
type Creator string

// The creators.
const (
	ByCNI     Creator = "cni"
	ByDnet    Creator = "dnet"
	ByConnect Creator = "connect"
	ByIngress Creator = "ingress" // dnetd, for the ports of a network's services
)

// A Record is what one plugin of a chain attached: enough to check, delete and
// heal it, and to answer names from.
type Record struct {
	Version int `json:"version"` // of this format
	wire.Attachment
	Plugin  string  `json:"plugin"`
	State   State   `json:"state"`
	Creator Creator `json:"creator"`
	Program string  `json:"program,omitempty"` // absolute path of the plugin, for dnetd
	Moment          // when this state was entered

	NetNS  string `json:"netns"`            // CNI_NETNS
	Cookie uint64 `json:"cookie"`           // SO_NETNS_COOKIE: a path may come to mean another namespace
	Target uint64 `json:"target,omitempty"` // cookie of the namespace that the path was made to lead to
	Source string `json:"source,omitempty"` // path of that namespace
	Donor  string `json:"donor,omitempty"`  // ID of the container whose namespace that is

	// Foreign says that another suite's network had a default route in the sandbox.
	Foreign bool `json:"foreign,omitempty"`

	Host []string     `json:"host,omitempty"`  // keys of the host's objects that it uses and that go with their last user
	Info network.Info `json:"traits,omitzero"` // of the network, for plugins further down the chain

	Config    json.RawMessage    `json:"config,omitempty"`  // the configuration as the plugin was given it
	Backend   string             `json:"backend,omitempty"` // nftables or iptables
	IPAM      IPAM               `json:"ipam,omitzero"`     // where an IPAM gave addresses
	MTU       int                `json:"mtu,omitempty"`     // bytes
	MAC       string             `json:"mac,omitempty"`     // of the sandbox's interface
	Adopted   bool               `json:"adopted,omitempty"` // the bridge is another owner's
	Overlay   *network.Overlay   `json:"overlay,omitempty"` // what the cluster says of an overlay network
	Parent    *network.Parent    `json:"parent,omitempty"`  // of the sandbox's interface
	Addresses []ipam.Assigned    `json:"addresses,omitempty"`
	IPv6Off   bool               `json:"ipv6Off,omitempty"`  // the sandbox's owner has switched IPv6 off: the addresses of IPv6 are not there
	Subnets   []ipam.Subnet      `json:"subnets,omitempty"`  // all of the network's
	Routes    []ipam.Route       `json:"routes,omitempty"`   // besides the default ones
	Firewall  *firewall.Network  `json:"firewall,omitempty"` // what the network allows
	Endpoint  *firewall.Endpoint `json:"endpoint,omitempty"` // the ports published
	Holder    string             `json:"holder,omitempty"`   // the runtime's program, if that binds these ports itself
	Member    *firewall.Member   `json:"member,omitempty"`   // the addresses on a bridge of another owner's
	Name      string             `json:"name,omitempty"`     // the container's, as the runtime calls it; not always a domain name
	Names     []string           `json:"names,omitempty"`
	Links     []names.Link       `json:"links,omitempty"`     // of the container, on this network
	Exposed   []firewall.Exposed `json:"exposed,omitempty"`   // to those that link to the container, besides what is published
	Bandwidth *network.Bandwidth `json:"bandwidth,omitempty"` // that the runtime allows the container
	Sysctls   []network.Setting  `json:"sysctls,omitempty"`   // of the interface, as they were asked for
	Resolver  *names.Resolver    `json:"resolver,omitempty"`  // what dnetd answers the sandbox
	Result    json.RawMessage    `json:"result,omitempty"`    // what ADD printed, as CNI 1.1.0

	// Remade says that healing has made the interface again, or has begun to, and that plugins
	// further down the chain had set something of it.
	Remade bool `json:"remade,omitempty"`

	BridgePort *firewall.BridgePort `json:"bridgePort,omitempty"` // as the rules of frames know the host's end
}

// IPAM says where the addresses came from, so that DEL can give them back.
type IPAM struct {
	Type    string `json:"type"`
	DataDir string `json:"dataDir,omitempty"` // of dipam
}

// Enter has the record enter a state now.
func (r *Record) Enter(s State) {
	r.State, r.Moment = s, Now()
}

// Compare orders records by when their states were entered, the oldest first.
func (r *Record) Compare(o *Record) int { return r.Moment.Compare(o.Moment) }

// A Moment is when something began, by two clocks. The time of day is for people, and may be set
// while containers run. The clock that counts from the machine's start is never set: moments
// are compared by it.
type Moment struct {
	Since     time.Time     `json:"since"`
	SinceBoot time.Duration `json:"sinceBoot,omitempty"` // nanoseconds; 0: not known
}

// Now returns the present moment.
func Now() Moment { return Moment{time.Now().UTC(), sinceBoot()} }

// Age returns how long ago it was. The time of day may have been set back since.
func (m Moment) Age() time.Duration {
	if m.SinceBoot == 0 {
		return time.Since(m.Since).Abs()
	}
	return sinceBoot() - m.SinceBoot
}

// Compare orders moments, the oldest first. Those that are not known by the clock that is never
// set are of an older version, so they are older.
func (m Moment) Compare(o Moment) int {
	return cmp.Or(cmp.Compare(m.SinceBoot, o.SinceBoot), m.Since.Compare(o.Since))
}

// sinceBoot returns how long ago the machine was started, suspension included; 0 if the kernel
// does not say.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// AddressesThere returns the addresses that are in the sandbox.
func (r *Record) AddressesThere() []ipam.Assigned {
	if r.IPv6Off {
		return network.Endpoint{Addresses: r.Addresses}.WithoutIPv6().Addresses
	}
	return r.Addresses
}

// IPsThere returns the same without prefixes.
func (r *Record) IPsThere() (list []netip.Addr) {
	for _, a := range r.AddressesThere() {
		list = append(list, a.Address.Addr())
	}
	return list
}

// Candidate returns the attachment's network as one that may be the container's gateway network.
func (r *Record) Candidate() network.Candidate {
	c := network.CandidateOf(r.Network, r.Info, r.Subnets)
	c.NoRoute4, c.NoRoute6 = !r.leads(4), !r.leads(6)
	return c
}

// leads reports whether there is a default route of a family by the attachment. An ipvlan of mode l3 has
// one without a gateway.
func (r *Record) leads(family int) bool {
	routed := r.Parent != nil && r.Parent.Kind == wire.KindIpvlan && r.Parent.Mode != "l2"
	byAddress := slices.ContainsFunc(r.AddressesThere(), func(a ipam.Assigned) bool {
		return a.Address.Addr().Is6() == (family == 6) && (a.Gateway.IsValid() || routed)
	})
	return byAddress || slices.ContainsFunc(r.Routes, func(route ipam.Route) bool { return route.Dst == network.DefaultRoute(family) })
}

func (s Store) attachments() string { return filepath.Join(s.Run, "attachments") }

func (s Store) recordPath(a wire.Attachment, plugin string) string {
	return filepath.Join(s.attachments(), a.Network, a.Container, a.IfName, plugin+".json")
}

// Put writes a record whole. A DEL may remove a directory on the path at any time:
// Put then starts again.
func (s Store) Put(r *Record) error {
	return s.put(r, s.writeFile)
}

// put hands a record to a function that writes it.
func (s Store) put(r *Record, write func(path string, data []byte) error) error {
	if err := CheckWords(r.Attachment); err != nil {
		return err
	}
	r.Version = disk.Format
	data, err := jsonenc.Marshal(r, "  ")
	if err == nil && len(data) >= disk.MaxFile {
		err = fmt.Errorf("%d bytes; at most %d can be read again", len(data), disk.MaxFile)
	}
	if err != nil {
		return fmt.Errorf("record of %s: %w", r.Attachment, err)
	}
	path := s.recordPath(r.Attachment, r.Plugin)
	for {
		err := write(path, append(data, '\n'))
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
}

// Get reads a record. The error is fs.ErrNotExist where there is none, and an
// [disk.UnreadableError] where it can't be read.
func (s Store) Get(a wire.Attachment, plugin string) (*Record, error) {
	path := s.recordPath(a, plugin)
	data, err := disk.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &Record{}
	err = json.Unmarshal(data, r)
	if e := disk.Newer(path, r.Version); e != nil {
		return nil, e
	}
	if err == nil {
		err = r.check(a, plugin)
	}
	if err != nil {
		return nil, &disk.UnreadableError{Path: path, Err: err}
	}
	return r, nil
}

// check sees that a record is the one that its path says, and that what is planned from
// it is its own sandbox's and its own network's.
func (r *Record) check(a wire.Attachment, plugin string) error {
	switch {
	case r.Attachment != a || r.Plugin != plugin:
		return fmt.Errorf("it is of %s by %s", r.Attachment, r.Plugin)
	case r.State != Up && r.State != Adding && r.State != Deleting && r.State != Lost:
		return fmt.Errorf("state %q is not known", r.State)
	case r.State != Up || len(r.Config) == 0:
		return nil // nothing is planned from it
	case !filepath.IsAbs(r.NetNS):
		// An object without a namespace is the host's.
		return fmt.Errorf("netns %q: must be an absolute path", r.NetNS)
	}
	var config struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(r.Config, &config); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	if config.Name != r.Network {
		return fmt.Errorf("config: name %q: must be that of the network, %q", config.Name, r.Network)
	}
	return nil
}

// find is Get for lists, where an unreadable record must not hide the others: it is
// that of a lost attachment.
func (s Store) find(key RecordKey) (*Record, error) {
	r, err := s.Get(key.Attachment, key.Plugin)
	if disk.IsUnreadable(err) {
		return s.lost(key), nil
	}
	return r, err
}

// lost returns the record of an attachment of which no more is known.
func (s Store) lost(key RecordKey) *Record {
	r := &Record{Attachment: key.Attachment, Plugin: key.Plugin, State: Lost, Creator: ByCNI, Moment: Moment{Since: time.Now().UTC()}}
	if _, err := os.Lstat(s.ContainerDir(key.Container)); err == nil {
		r.Creator = ByDnet
	}
	return r
}

// Replace writes the record of a lost attachment in the place of one that can't be
// read, which is moved away, and returns it. On an error the old one is where it was.
// The caller holds the attachment's lock.
func (s Store) Replace(a wire.Attachment, plugin string, why error) (*Record, error) {
	r := s.lost(RecordKey{a, plugin})
	return r, s.put(r, func(path string, data []byte) error {
		return s.Root(s.Run).ReplaceUnreadable(path, data, false, why)
	})
}

// InfoFromChain returns what the records of other plugins of the same chain, for the
// same attachment, tell of the network.
func (s Store) InfoFromChain(a wire.Attachment, plugin string) (network.Info, error) {
	dir := filepath.Dir(s.recordPath(a, plugin))
	files, err := disk.NamesIn(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return network.Info{}, nil
	}
	var all network.Info
	for _, file := range files {
		name, isRecord := strings.CutSuffix(file, ".json")
		if !isRecord || name == plugin {
			continue
		}
		data, err := disk.ReadFile(filepath.Join(dir, file))
		if errors.Is(err, fs.ErrNotExist) || disk.IsUnreadable(err) {
			continue
		}
		if err != nil {
			return all, fmt.Errorf("record %s: %w", filepath.Join(dir, file), err)
		}
		info, _ := infoIn(data) // one that can't be read says nothing
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

// Delete removes a record and the directories that it leaves empty: a
// container's goes with its last attachment. What a killed writer left of it goes, too:
// no container has this one's ID again.
func (s Store) Delete(a wire.Attachment, plugin string) error {
	path := s.recordPath(a, plugin)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_ = unix.Unlink(s.Root(s.Run).TempName(path)) // it is rarely there
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
// path. It leaves out records that are removed during the call. An attachment whose
// record can't be read is [Lost].
func (s Store) List(network string) ([]*Record, error) {
	if network == "" {
		network = "*"
	}
	return s.read(network, "*", "*")
}

// oneOf returns a record of the first attachment that has a readable one: the one with a
// parent, if there is such, or the first.
func (s Store) oneOf(keys []RecordKey) (found *Record) {
	for _, key := range keys {
		if found != nil && key.Attachment != found.Attachment {
			return found
		}
		r, err := s.Get(key.Attachment, key.Plugin)
		if err == nil && (found == nil || r.Parent != nil) {
			found = r
		}
	}
	return found
}

// OneOfEach returns the record of one attachment of each network: that of the plugin that
// made its interface, if that is on a parent.
func (s Store) OneOfEach() ([]*Record, error) {
	networks, err := disk.NamesIn(s.attachments())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	slices.Sort(networks)
	var list []*Record
	errs := []error{err}
	for _, name := range networks {
		keys, err := s.keys(name, "*", "*")
		errs = append(errs, err)
		if r := s.oneOf(keys); r != nil {
			list = append(list, r)
		}
	}
	return list, errors.Join(errs...)
}

// OfContainer returns the records of a container, on all its networks.
func (s Store) OfContainer(container string) ([]*Record, error) { return s.read("*", container, "*") }

// Siblings returns the records of the other attachments of an attachment's
// container. One that can't be read is not among them: it answers for nothing.
func (s Store) Siblings(a wire.Attachment) []*Record {
	keys, _ := s.keys("*", a.Container, "*")
	var siblings []*Record
	for _, key := range keys {
		if key.Attachment == a {
			continue // its own, which no caller wants: to decode the first record is a tenth of an ADD
		}
		if r, err := s.find(key); err == nil {
			siblings = append(siblings, r)
		}
	}
	return siblings
}

// OfAttachment returns the records of an attachment, one for each plugin.
func (s Store) OfAttachment(a wire.Attachment) ([]*Record, error) {
	return s.read(a.Network, a.Container, a.IfName)
}

// read reads the records of a network, a container and an interface; each may be "*".
func (s Store) read(network, container, ifName string) ([]*Record, error) {
	w := cacheWalk{}
	var containers []wire.Attachment
	for _, network := range w.match(s.attachments(), network) {
		for _, container := range w.match(filepath.Join(s.attachments(), network), container) {
			containers = append(containers, wire.Attachment{Network: network, Container: container})
		}
	}
	lists, errs := make([][]*Record, len(containers)), make([]error, len(containers))
	eachOf(len(containers), func(i int) {
		lists[i], errs[i] = s.readContainer(containers[i].Network, containers[i].Container, ifName)
	})
	return slices.Concat(lists...), errors.Join(append(w.errs, errs...)...)
}

// readContainer reads the records of a container on a network.
func (s Store) readContainer(network, container, ifName string) ([]*Record, error) {
	keys, err := s.keys(network, container, ifName)
	list, failed := s.findAll(keys)
	return list, errors.Join(err, failed)
}

// findAll reads records, of which some may be gone by now.
func (s Store) findAll(keys []RecordKey) (list []*Record, err error) {
	var errs []error
	for _, key := range keys {
		r, err := s.find(key)
		switch {
		case err == nil:
			list = append(list, r)
		case !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, err)
		}
	}
	return list, errors.Join(errs...)
}

// eachOf calls do for each number below n, on all processors if there are many: to read
// thousands of small files takes more computing than waiting.
func eachOf(n int, do func(i int)) {
	const few = 100
	workers := runtime.GOMAXPROCS(0)
	if n < few {
		workers = 1
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				do(i)
			}
		})
	}
	wg.Wait()
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
	keys, err := s.keys(network, "*", "*")
	return slices.ContainsFunc(keys, func(k RecordKey) bool { return k.Attachment != besides }), err
}

// Interfaces returns one record for each attachment of a container: that of the plugin that made
// the interface; where that is no plugin of ours, a chained one's.
func Interfaces(list []*Record) []*Record {
	at := map[wire.Attachment]int{}
	var out []*Record
	for _, r := range list {
		i, known := at[r.Attachment]
		switch {
		case r.Creator == ByIngress:
		case !known:
			at[r.Attachment] = len(out)
			out = append(out, r)
		case out[i].Resolver != nil: // the first one was chained
			out[i] = r
		}
	}
	return out
}

// Has reports whether an attachment is on record. One whose records can't be read may be.
func (s Store) Has(a wire.Attachment) bool {
	if a.Container == ServiceOwner {
		return s.HasService(a.Network, a.IfName)
	}
	keys, err := s.keys(a.Network, a.Container, a.IfName)
	return err != nil || len(keys) > 0
}

// CheckWords refuses an identity that can't be file names.
func CheckWords(a wire.Attachment) error {
	for _, w := range []struct{ field, value string }{
		{"network name", a.Network}, {"CNI_CONTAINERID", a.Container}, {"CNI_IFNAME", a.IfName},
	} {
		if w.value == "" || w.value == "." || w.value == ".." || len(w.value) > unix.NAME_MAX || strings.ContainsAny(w.value, "/\x00") {
			return wire.Errorf(wire.CodeEnv, "%s %q: must be 1 to %d bytes without '/'", w.field, w.value, unix.NAME_MAX)
		}
	}
	return nil
}
