// Package cnitest runs a plugin's verbs against a machine in memory and real
// records in a temporary directory, and lets them fail or die at any step.
//
// [Matrix] is the crash matrix: the one test that every plugin passes.
package cnitest

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"dcni/pkg/cni"
	"dcni/pkg/ipam"
	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/overlay/memory"
	"dcni/pkg/records"
	"dcni/pkg/wire"
	"dcni/pkg/wire/wiretest"
)

// A World is a machine, its disk, and one plugin.
type World struct {
	Host   *wiretest.Host
	Store  records.Store
	Engine *cni.Engine
	// Others are the addresses that other machines have on the LAN of the networks, with
	// their MACs.
	Others map[netip.Addr]string
	// Chain is what is known of the list of plugins of each attachment.
	Chain network.Chain
	// Cluster is the store of the cluster that the machine is a node of.
	Cluster *memory.Store

	t         testing.TB
	sandboxes map[string]sandbox // by path; those that never changed are not in it
	entered   map[string]uint64  // cookies of the sandboxes that a verb has open, by path
	owners    map[string]owner   // by keys of objects

	fault   func(step int) error // is asked before each step of a verb
	deed    func() error         // is asked after each change
	step    int                  // of the verb that is watched
	taken   []*records.Lock      // the locks that the verb that is watched took
	dead    bool                 // it has died
	other   *process             // another one in the middle of a verb, or nil
	inOther bool                 // it is its turn
}

// NewWorld returns an empty one.
func NewWorld(t testing.TB, plugin *network.Plugin) *World {
	dir := tempDir(t)
	w := &World{
		Host:      wiretest.New(),
		Store:     records.Store{Run: filepath.Join(dir, "run"), Lib: filepath.Join(dir, "lib")},
		t:         t,
		sandboxes: map[string]sandbox{},
		entered:   map[string]uint64{},
		owners:    map[string]owner{},
		Cluster:   newCluster(t),
	}
	w.Host.Step = func(string, wire.Object) error { return w.next() }
	w.Host.After = func(string, wire.Object) error { return w.done() }
	source, m, s := cni.Source(w.Store, noHost{}, w.openCluster), machine{w.Host, w}, store{w.Store, w}
	w.Engine = &cni.Engine{
		Plugin: w.noted(plugin),
		Host:   m, Namespaces: m, Sandboxes: m, NetNSAddresses: m, LAN: m, Facts: m, Owned: m, Donors: m,
		Locks: s, Records: s, Sharers: s, Chains: s, Index: s,
		Source: func(d network.Description) cni.Addresses {
			d.IPAM.Own.DataDir = w.Store.Lib
			return addresses{source(d), w, d.IPAM.Type == network.IPAMCluster}
		},
		Log: io.Discard,
	}
	return w
}

// tempDir is like t.TempDir, in memory where the system has such a place: a
// matrix makes thousands of worlds.
func tempDir(t testing.TB) string {
	const memory = "/dev/shm"
	dir, err := os.MkdirTemp(memory, "cnitest-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // nothing depends on it
	return dir
}

// noted returns the plugin with modes that tell whose their objects are.
func (w *World) noted(plugin *network.Plugin) *network.Plugin {
	p := *plugin
	p.Parse = func(conf network.Conf) (network.Mode, error) {
		mode, err := plugin.Parse(conf)
		if err != nil {
			return nil, err
		}
		return noted{mode, w}, nil
	}
	return &p
}

// Request is one call for a container, as a runtime would make it.
func (w *World) Request(t testing.TB, container, conf string) *cni.Request {
	r, err := cni.ParseRequest(&cni.Call{
		ContainerID: container, NetNS: "/run/netns/" + container, IfName: "eth0",
		Args: "K8S_POD_NAME=" + container, Conf: []byte(conf),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// State is the whole world as text: the machine, the records, the leases and
// the registered networks. What is remembered of other machines is left out: an ADD that
// fails keeps it.
func (w *World) State(t testing.TB) string {
	var lines []string
	for _, dir := range []string{filepath.Join(w.Store.Run, "attachments"), filepath.Join(w.Store.Lib, "leases"), filepath.Join(w.Store.Lib, "networks")} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			hidden := strings.HasPrefix(d.Name(), ".")
			if d.IsDir() && (hidden || d.Name() == "by-others") {
				return fs.SkipDir
			}
			if !d.IsDir() && !hidden {
				lines = append(lines, strings.TrimPrefix(path, filepath.Dir(w.Store.Run))+contents(path))
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	lines = append(lines, w.claims(t)...)
	slices.Sort(lines)
	return w.Host.String() + strings.Join(lines, "\n")
}

// contents returns what a file of the registry says, and where a lease leads.
// Records say when they were written, so they differ.
func contents(path string) string {
	if target, err := os.Readlink(path); err == nil {
		return " -> " + target
	}
	if filepath.Base(filepath.Dir(path)) != "networks" {
		return ""
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return " " + err.Error()
	}
	return " " + string(text)
}

// machine gives the machine in memory what the engine asks besides.
type machine struct {
	*wiretest.Host
	w *World
}

// Ensure wants the lock that a change needs.
func (m machine) Ensure(o wire.Object) (bool, error) {
	changed, err := m.Host.Ensure(o)
	if changed {
		m.w.changing(o)
	}
	return changed, err
}

// Remove wants the lock that a change needs.
func (m machine) Remove(o wire.Object) error {
	m.w.changing(o)
	return m.Host.Remove(o)
}

// A sandbox is what a path leads to.
type sandbox struct {
	fate fate
	made int // how many sandboxes there have been at the path before
}

// A fate is what became of a sandbox.
type fate int

const (
	alive  fate = iota
	gone        // with all that was in it
	hidden      // it lives; its path leads to it in another mount namespace only
)

// Vanish is the end of a container's sandbox.
func (w *World) Vanish(container string) {
	path := sandboxes + container
	w.sandboxes[path] = sandbox{gone, w.sandboxes[path].made}
	w.Host.Vanish(path)
	w.Host.Lose("path " + path)
}

// Hide takes a container's sandbox from its path.
func (w *World) Hide(container string) {
	path := sandboxes + container
	w.sandboxes[path] = sandbox{hidden, w.sandboxes[path].made}
}

// Exchange puts another, empty sandbox at a container's path. The one before
// lives for as long as a verb has it open.
func (w *World) Exchange(container string) {
	path := sandboxes + container
	w.sandboxes[path] = sandbox{alive, w.sandboxes[path].made + 1}
	w.Host.Lose("path " + path)
	if w.fault == nil { // no verb is under way that has it open
		w.Host.Vanish(path)
	}
}

func (m machine) DefaultRouteMTU() int                 { return 1500 }
func (m machine) PortHolder() string                   { return "" }
func (m machine) ProcessesIn(string) ([]string, error) { return nil, nil }

// hostCookie is the host's own namespace's.
const hostCookie = 1

// sandboxes is where paths of sandboxes begin.
const sandboxes = "/run/netns/"

// cookieOf returns the cookie of a sandbox: a number that its path gives, and
// how many there have been before.
func (w *World) cookieOf(netns string) uint64 {
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, netns, " ", w.sandboxes[netns].made) // never fails
	return h.Sum64()
}

// boundTo returns the cookie of the namespace that a path was made to lead to, 0 if none.
func (w *World) boundTo(netns string) uint64 {
	if !w.Host.Has("path " + netns) {
		return 0
	}
	for _, key := range w.Host.Keys() {
		if b, ok := w.Host.Get(key).(*wire.NetNSBind); ok && b.Path == netns {
			return b.Shared
		}
	}
	return 0
}

// donor is the container whose network others may join. It is always there.
const donor = "donor"

func (w *World) donorCookie() uint64 { return w.cookieOf(sandboxes + donor) }

// Donors lists the one.
func (m machine) Donors() ([]network.Donor, error) {
	if err := m.w.next(); err != nil {
		return nil, err
	}
	result := []byte(`{"cniVersion": "1.1.0", "ips": [{"address": "127.0.0.1/8"}, {"address": "::1/128"}]}`)
	return []network.Donor{{
		Container: donor, Namespaces: []network.Namespace{{Path: sandboxes + donor, Cookie: m.w.donorCookie()}},
		Attachments: []network.Donation{{Network: "web", IfName: "eth0", Result: result}},
	}}, nil
}

// NetNSOf finds the donor by its path.
func (m machine) NetNSOf(d *network.Donor) (string, wire.Sandbox) {
	for _, at := range d.Namespaces {
		if found, err := m.look(at.Path); err == nil && found.Cookie == at.Cookie {
			return at.Path, found
		}
	}
	return "", wire.Sandbox{}
}

// OpenNetNS knows sandboxes by /run/netns. Any other path is the host's, if it was not
// made to lead elsewhere.
func (m machine) OpenNetNS(netns string) (wire.Sandbox, error) {
	if err := m.w.next(); err != nil {
		return wire.Sandbox{}, err
	}
	found, err := m.look(netns)
	if err == nil {
		m.w.entered[netns] = found.Cookie
	}
	return found, err
}

func (m machine) look(netns string) (wire.Sandbox, error) {
	if !strings.HasPrefix(netns, sandboxes) {
		return wire.Sandbox{Cookie: hostCookie, Own: true}, nil
	}
	if cookie := m.w.boundTo(netns); cookie != 0 {
		return wire.Sandbox{Cookie: cookie, Own: cookie == hostCookie}, nil
	}
	if m.w.sandboxes[netns].fate != alive {
		return wire.Sandbox{}, wire.Errorf(wire.CodeNetNS, "CNI_NETNS %q: no such network namespace", netns)
	}
	return wire.Sandbox{Cookie: m.w.cookieOf(netns)}, nil
}

// SameNetNS reports whether the path leads where it did when it was entered. A bind
// that the verb itself made does not count.
func (m machine) SameNetNS(netns string) bool {
	cookie, open := m.w.entered[netns]
	s := m.w.sandboxes[netns]
	bound := m.Has("path "+netns) || cookie == hostCookie || cookie == m.w.donorCookie()
	return open && s.fate == alive && (bound || cookie == m.w.cookieOf(netns))
}

func (m machine) CloseNetNS(netns string) { delete(m.w.entered, netns) }

func (m machine) NetNSAlive(netns string, cookie uint64) bool {
	found, err := m.look(netns)
	return err == nil && found.Cookie == cookie
}

func (m machine) ReferencedNetNS() (map[uint64]bool, error) {
	if err := m.w.next(); err != nil {
		return nil, err
	}
	cookies := map[uint64]bool{hostCookie: true, m.w.donorCookie(): true}
	for netns, s := range m.w.sandboxes {
		if s.fate == hidden {
			cookies[m.w.cookieOf(netns)] = true
		}
	}
	return cookies, nil
}

// Bundle knows of none.
func (m machine) Bundle(string) names.Identity { return names.Identity{} }

func (m machine) NetNSInfo(netns string) (wire.NetNSInfo, error) {
	found, err := m.look(netns)
	return wire.NetNSInfo{Sandbox: found}, err
}

func (m machine) Addresses(netns string) ([]netip.Prefix, error) { return m.Loopback(netns) }

func (m machine) Loopback(string) ([]netip.Prefix, error) {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128")}, nil
}

func (m machine) HasLink(netns, name string) (bool, error) {
	if netns == "" {
		return m.Has("link " + name), nil
	}
	return m.Has("link " + name + " netns " + netns), nil
}

func (m machine) HasChild(owner wire.Attachment) (bool, error) {
	if err := m.w.next(); err != nil {
		return false, err
	}
	for _, key := range m.Keys() {
		if c, ok := m.Get(key).(*wire.Child); ok && c.Owner == owner {
			return true, nil
		}
	}
	return false, nil
}

// DefaultRoutes lists none: what is not in a plan is on no machine in memory.
func (m machine) DefaultRoutes(string, string) ([]*wire.Route, error) { return nil, nil }

// IPv6Off looks for the setting of the whole sandbox.
func (m machine) IPv6Off(netns, _ string) (bool, error) {
	return m.Has((&wire.Sysctl{NetNS: netns, Path: "net/ipv6/conf/all/disable_ipv6"}).Key()), nil
}

// Detect begins to ask the LAN.
func (m machine) Detect(d wire.Detection) (wire.Waiter, error) {
	if err := m.w.next(); err != nil {
		return nil, err
	}
	link := "link " + d.Link
	if d.NetNS != "" {
		link += " netns " + d.NetNS
	}
	if up := (&wire.Up{NetNS: d.NetNS, Dev: d.Link}); !m.Has(link) || !m.Has(up.Key()) && d.NetNS != "" {
		return nil, errors.New("network is down")
	}
	return waiter{m, d}, nil
}

// waiter is a detection on a machine in memory.
type waiter struct {
	m machine
	d wire.Detection
}

// Wait tells which addresses others have. None of them is on the link by now.
func (w waiter) Wait() (taken []wire.Conflict, err error) {
	if err := w.m.w.next(); err != nil {
		return nil, err
	}
	for _, a := range w.d.Addresses {
		if strings.Contains(w.m.String(), "addr "+a.String()+"/") {
			w.m.w.t.Errorf("%s is there before the LAN was asked for it", a)
		}
		if mac, ok := w.m.w.Others[a]; ok {
			taken = append(taken, wire.Conflict{Address: a, MAC: mac})
		}
	}
	return taken, nil
}

func (w waiter) Close() {}

// WaitAll waits for one after the other, so that the steps of a verb have an order.
func (m machine) WaitAll(list []wire.Waiter) []wire.Detected {
	found := make([]wire.Detected, len(list))
	for i, w := range list {
		found[i].Taken, found[i].Err = w.Wait()
	}
	return found
}

func (m machine) Orphans() ([]wire.Orphan, error) {
	if err := m.w.next(); err != nil {
		return nil, err
	}
	return m.Host.Orphans(), nil
}

// HostObjects lists what is left of the host's objects that go with their last user.
func (m machine) HostObjects() ([]wire.Object, error) {
	if err := m.w.next(); err != nil {
		return nil, err
	}
	var list []wire.Object
	for _, key := range m.Keys() {
		if of := m.w.owners[key]; of.part == ofHost && of.root {
			list = append(list, m.Get(key))
		}
	}
	return list, nil
}

// Adopts says that every bridge is dcni's.
func (m machine) Adopts(*wire.Bridge) (bool, error) { return false, nil }

// Parent is any link.
func (m machine) Parent(names ...string) (wire.LinkInfo, error) {
	if err := m.w.next(); err != nil {
		return wire.LinkInfo{}, err
	}
	return wire.LinkInfo{
		Name: names[0], MTU: 1500, MAC: "02:00:00:00:00:01", Up: true,
		Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")},
	}, nil
}

// noHost knows nothing of any host.
type noHost struct{}

func (noHost) Routes() ([]ipam.HostRoute, error) { return nil, nil }
func (noHost) Nameservers() []netip.Addr         { return nil }
func (noHost) ID() string                        { return "test" }

// add runs ADD and returns its result.
func (w *World) add(t testing.TB, container, conf string) (*types100.Result, error) {
	return w.Engine.Add(w.Request(t, container, conf))
}
