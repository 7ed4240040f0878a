// Package cnitest runs a plugin's verbs against a machine in memory and real
// records in a temporary directory, and lets them fail or die at any step.
//
// [Matrix] is the crash matrix: the one test that every plugin passes.
package cnitest

import (
	"errors"
	"hash/fnv"
	"io"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"dcni/pkg/cni"
	"dcni/pkg/ipam"
	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
	"dcni/pkg/wire/wiretest"
)

// A World is a machine, its disk, and one plugin.
type World struct {
	Host   *wiretest.Host
	Store  records.Store
	Engine *cni.Engine

	fates map[string]fate // of sandboxes, by path; those that live are not in it

	// fault is asked before every step of a verb; see steps.
	fault func(step int) error
	step  int
}

// errDead is what a verb panics with where it is to die: the process is gone,
// its locks are the kernel's to free.
var errDead = errors.New("killed")

// NewWorld returns an empty one.
func NewWorld(t testing.TB, plugin *network.Plugin) *World {
	dir := t.TempDir()
	w := &World{
		Host:  wiretest.New(),
		fates: map[string]fate{},
		Store: records.Store{Run: filepath.Join(dir, "run"), Lib: filepath.Join(dir, "lib")},
	}
	w.Host.Step = func(string, wire.Object) error { return w.next() }
	source := cni.Source(w.Store, noHost{})
	w.Engine = &cni.Engine{
		Plugin: plugin,
		Host:   machine{w.Host, w}, Namespaces: machine{w.Host, w}, Sandboxes: machine{w.Host, w}, Facts: machine{w.Host, w},
		Locks: book{w.Store, w}, Records: book{w.Store, w}, Index: book{w.Store, w},
		Source: func(n network.Description) cni.Addresses {
			n.IPAM.Own.DataDir = w.Store.Lib
			return addresses{source(n), w}
		},
		Log: io.Discard,
	}
	return w
}

// next is one step.
func (w *World) next() error {
	w.step++
	if w.fault == nil {
		return nil
	}
	return w.fault(w.step)
}

// Steps runs f and returns how many steps it took.
func (w *World) Steps(f func()) int {
	w.step, w.fault = 0, nil
	f()
	return w.step
}

// FailAt runs f with its n-th step failing.
func (w *World) FailAt(n int, f func()) {
	w.step = 0
	w.fault = func(step int) error {
		if step == n {
			return errors.New("injected fault")
		}
		return nil
	}
	f()
	w.fault = nil
}

// DieAt runs f and has it die before its n-th step.
func (w *World) DieAt(n int, f func()) {
	w.step = 0
	w.fault = func(step int) error {
		if step == n {
			panic(errDead)
		}
		return nil
	}
	defer func() {
		w.fault = nil
		if r := recover(); r != nil && r != errDead { //nolint:errorlint // the very value
			panic(r)
		}
	}()
	f()
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
// the registered networks.
func (w *World) State(t testing.TB) string {
	var lines []string
	for _, dir := range []string{filepath.Join(w.Store.Run, "attachments"), filepath.Join(w.Store.Lib, "leases"), filepath.Join(w.Store.Lib, "networks")} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			hidden := strings.HasPrefix(d.Name(), ".")
			if d.IsDir() && hidden {
				return fs.SkipDir
			}
			if !d.IsDir() && !hidden {
				lines = append(lines, strings.TrimPrefix(path, filepath.Dir(w.Store.Run)))
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	slices.Sort(lines)
	return w.Host.String() + strings.Join(lines, "\n")
}

// machine gives the machine in memory what the engine asks besides.
type machine struct {
	*wiretest.Host
	w *World
}

// A fate is what became of a sandbox.
type fate int

const (
	gone   fate = iota + 1 // with all that was in it
	hidden                 // it lives; its path leads to it in another mount namespace only
)

// Vanish is the end of a container's sandbox.
func (w *World) Vanish(container string) {
	w.fates[sandboxes+container] = gone
	w.Host.Vanish(sandboxes + container)
	w.Host.Lose("path " + sandboxes + container)
}

// Hide takes a container's sandbox from its path.
func (w *World) Hide(container string) { w.fates[sandboxes+container] = hidden }

func (m machine) Still(string) bool               { return true }
func (m machine) Leave(string)                    {}
func (m machine) WayOutMTU() int                  { return 1500 }
func (m machine) Inside(string) ([]string, error) { return nil, nil }

// hostCookie is the host's own namespace's.
const hostCookie = 1

// sandboxes is where paths of sandboxes begin.
const sandboxes = "/run/netns/"

// cookieOf returns the cookie of a sandbox: a number that its path gives.
func cookieOf(netns string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(netns)) // never fails
	return h.Sum64()
}

// Enter knows sandboxes by /run/netns. Any other path, and one that was made to
// lead elsewhere, is the host's.
func (m machine) Enter(netns string) (wire.Sandbox, error) {
	if !strings.HasPrefix(netns, sandboxes) || m.Has("path "+netns) {
		return wire.Sandbox{Cookie: hostCookie, Own: true}, nil
	}
	if m.w.fates[netns] != 0 {
		return wire.Sandbox{}, wire.Errorf(wire.CodeNetNS, "CNI_NETNS %q: no such network namespace", netns)
	}
	return wire.Sandbox{Cookie: cookieOf(netns)}, nil
}

func (m machine) Lives(netns string, cookie uint64) bool {
	found, err := m.Enter(netns)
	return err == nil && found.Cookie == cookie
}

func (m machine) Inhabited() (map[uint64]bool, error) {
	cookies := map[uint64]bool{hostCookie: true}
	for netns, fate := range m.w.fates {
		if fate == hidden {
			cookies[cookieOf(netns)] = true
		}
	}
	return cookies, nil
}

// Bundle knows of none.
func (m machine) Bundle(string) names.Identity { return names.Identity{} }

func (m machine) Survey(netns string) (wire.Survey, error) {
	found, err := m.Enter(netns)
	return wire.Survey{Sandbox: found}, err
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

func (m machine) Strays() ([]wire.Stray, error) { return m.Host.Strays(), nil }

// noHost knows nothing of any host.
type noHost struct{}

func (noHost) Routes() ([]ipam.HostRoute, error) { return nil, nil }
func (noHost) Nameservers() []netip.Addr         { return nil }
func (noHost) ID() string                        { return "test" }

// book makes a step of each change of the records.
type book struct {
	records.Store
	w *World
}

func (b book) Put(r *records.Record) error {
	if err := b.w.next(); err != nil {
		return err
	}
	return b.Store.Put(r)
}

func (b book) Delete(a wire.Attachment, plugin string) error {
	if err := b.w.next(); err != nil {
		return err
	}
	return b.Store.Delete(a, plugin)
}

// addresses makes a step of each change of the leases. What dying within one
// does is for the tests of package records.
type addresses struct {
	cni.Addresses
	w *World
}

func (a addresses) Claim(r *cni.Request) (*cni.Lease, error) {
	if err := a.w.next(); err != nil {
		return nil, err
	}
	return a.Addresses.Claim(r)
}

func (a addresses) Release(r *cni.Request) error {
	if err := a.w.next(); err != nil {
		return err
	}
	return a.Addresses.Release(r)
}

// add runs ADD and returns its result.
func (w *World) add(t testing.TB, container, conf string) (*types100.Result, error) {
	return w.Engine.Add(w.Request(t, container, conf))
}
