package records

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"dcni/pkg/network"
	"dcni/pkg/records/disk"
	"dcni/pkg/wire"
)

// Donors returns the containers whose network namespace another one may join: those of
// our records, those that libcni has kept of whatever plugins, and those of dnet. Of one
// thing of which two tell, the records count. A file that can't be read hides no other.
func (s Store) Donors() ([]network.Donor, error) {
	list, err := s.List("")
	if err != nil && len(list) == 0 {
		return nil, err
	}
	all := donors{at: map[string]int{}, recorded: map[wire.Attachment]bool{}}
	for _, r := range wholeResults(list) {
		all.record(r)
	}
	all.connected(s)
	all.kept(libcniResults)
	containers, err := s.Containers()
	for _, c := range containers {
		all.container(c)
	}
	all.followers(containers)
	slices.SortFunc(all.list, func(a, b network.Donor) int { return cmp.Compare(a.Container, b.Container) })
	return all.list, err
}

// wholeResults returns one record for each attachment, with the result of its whole
// chain: where a chained plugin has a record as well, that has it.
func wholeResults(list []*Record) []*Record {
	out := Interfaces(list)
	at := map[wire.Attachment]int{}
	for i, r := range out {
		at[r.Attachment] = i
	}
	for _, r := range list {
		if i := at[r.Attachment]; r != out[i] && r.State == Up {
			whole := *out[i]
			whole.Result = r.Result
			out[i] = &whole
		}
	}
	return out
}

// donors are containers by ID.
type donors struct {
	list     []network.Donor
	at       map[string]int
	recorded map[wire.Attachment]bool // of these, libcni has no more to tell
}

// of returns the container of an ID, for a moment.
func (d *donors) of(id string) *network.Donor {
	i, known := d.at[id]
	if !known {
		i = len(d.list)
		d.at[id] = i
		d.list = append(d.list, network.Donor{Container: id, State: network.Exited})
	}
	return &d.list[i]
}

// record adds what a record tells. A container that is being attached does not run yet.
func (d *donors) record(r *Record) {
	d.recorded[r.Attachment] = true
	one := d.of(r.Container)
	addName(one, r.Name)
	if r.State == Adding {
		one.State = network.Created
	}
	if r.State != Up {
		return
	}
	at := network.Namespace{Path: r.NetNS, Cookie: r.Cookie}
	if r.Target != 0 {
		at = network.Namespace{Path: r.Source, Cookie: r.Target}
	}
	one.Namespaces = append(one.Namespaces, at)
	one.Attachments = append(one.Attachments, network.Donation{Network: r.Attachment.Network, IfName: r.IfName, Result: r.Result})
}

func addName(one *network.Donor, name string) {
	if name != "" && !slices.Contains(one.Names, name) {
		one.Names = append(one.Names, name)
	}
}

// connected adds the networks of other suites' plugins that dnet has connected containers to:
// they have no record. It adds the containers that dnet has disconnected and whose ports it keeps.
func (d *donors) connected(s Store) {
	containers, _ := s.Connected() // none, or what can't be read hides no other
	for _, id := range containers {
		list, _ := s.Connections(id)
		if k, err := s.KeptPorts(id); err == nil { // it may be on no network now
			one := d.of(id)
			one.Namespaces = append(one.Namespaces, network.Namespace{Path: k.NetNS, Cookie: k.Cookie})
			for _, name := range k.Names {
				addName(one, name)
			}
		}
		for _, l := range list {
			if d.recorded[l.Of()] || !l.Up {
				continue
			}
			one := d.of(id)
			one.Namespaces = append(one.Namespaces, network.Namespace{Path: l.NetNS, Cookie: l.Cookie})
			one.Attachments = append(one.Attachments, network.Donation{Network: l.Network, IfName: l.IfName, Result: l.Result})
		}
	}
}

// A keptAttachment is a file that libcni keeps (libcni, cachedInfo). Those before
// libcni 1.2 have no netns.
type keptAttachment struct {
	Kind        string          `json:"kind"`
	ContainerID string          `json:"containerId"`
	NetworkName string          `json:"networkName"`
	IfName      string          `json:"ifName"`
	NetNS       string          `json:"netns"`
	Args        [][2]string     `json:"cniArgs"`
	Values      map[string]any  `json:"capabilityArgs"`
	Config      []byte          `json:"config"` // the network's configuration list
	Result      json.RawMessage `json:"result"`
}

// maxKept is the limit of a file of libcni's that is read, in bytes.
const maxKept = 1 << 20

// kept adds what libcni has kept in a directory.
func (d *donors) kept(dir string) {
	for _, k := range keptFiles(dir) {
		d.keptOne(k)
	}
}

// keptFiles returns what libcni has kept in a directory.
func keptFiles(dir string) (list []keptAttachment) {
	names, _ := disk.NamesIn(dir) // none: libcni is not in use
	slices.Sort(names)
	for _, name := range names {
		data, err := disk.ReadLimited(filepath.Join(dir, name), 0, maxKept)
		var k keptAttachment
		if err == nil && json.Unmarshal(data, &k) == nil && k.Kind == "cniCacheV1" && k.ContainerID != "" {
			list = append(list, k)
		}
	}
	return list
}

func (d *donors) keptOne(k keptAttachment) {
	one := d.of(k.ContainerID)
	for _, arg := range k.Args {
		if arg[0] == "K8S_POD_NAME" || arg[0] == "DNET_NAME" {
			addName(one, arg[1])
		}
	}
	if path := k.sandbox(); path != "" && !d.recorded[wire.Attachment{Network: k.NetworkName, Container: k.ContainerID, IfName: k.IfName}] {
		one.Namespaces = append(one.Namespaces, network.Namespace{Path: path, Addresses: k.addresses()})
		one.Attachments = append(one.Attachments, network.Donation{Network: k.NetworkName, IfName: k.IfName, Result: k.Result})
	}
}

// sandbox returns the path of the container's network namespace, "" if it is not known.
func (k keptAttachment) sandbox() string {
	if k.NetNS != "" {
		return k.NetNS
	}
	var result struct {
		Interfaces []struct {
			Sandbox string `json:"sandbox"`
		} `json:"interfaces"`
	}
	_ = json.Unmarshal(k.Result, &result) // of no form that is known: no sandbox
	for _, i := range result.Interfaces {
		if strings.HasPrefix(i.Sandbox, "/") {
			return i.Sandbox
		}
	}
	return ""
}

// addresses returns what the container was given, without those that every namespace has.
func (k keptAttachment) addresses() (list []netip.Addr) {
	var result struct {
		IPs []struct {
			Address string `json:"address"`
		} `json:"ips"`
		IP4, IP6 struct { // before CNI 0.3
			IP string `json:"ip"`
		}
	}
	_ = json.Unmarshal(k.Result, &result) // of no form that is known: no addresses
	words := []string{result.IP4.IP, result.IP6.IP}
	for _, ip := range result.IPs {
		words = append(words, ip.Address)
	}
	for _, word := range words {
		if p, err := netip.ParsePrefix(word); err == nil && !p.Addr().IsLoopback() {
			list = append(list, p.Addr())
		}
	}
	return list
}

// container adds a container of dnet's.
func (d *donors) container(c *Container) {
	one := d.of(c.ID)
	addName(one, c.Name)
	if c.Unreadable != nil {
		return // the records of its attachments tell where it is
	}
	one.State = string(c.Stage)
	one.Namespaces = nil // also of a record that a dnet left which was killed
	if c.Stage == Running {
		one.Namespaces = []network.Namespace{{Path: fmt.Sprintf("/proc/%d/ns/net", c.Process.PID), Start: c.Process.Start}}
		one.State = network.Exited // if its process is gone
	}
}

// followers gives containers of dnet's that joined another one what that one was given.
func (d *donors) followers(list []*Container) {
	for _, c := range list {
		if c.Donor == "" {
			continue
		}
		if i, known := d.at[c.Donor]; known {
			d.of(c.ID).Attachments = d.list[i].Attachments
		}
	}
}
