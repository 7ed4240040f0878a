package main

import (
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dcni/pkg/cni"
	"dcni/pkg/firewall"
	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/records/registry"
	"dcni/pkg/service"
	"dcni/pkg/wire"
	"dcni/pkg/wire/wiretest"
)

// A memoryHost is a machine in memory.
type memoryHost struct {
	*wiretest.Host
	routes        []ipam.HostRoute
	nameservers   []netip.Addr
	rulesRemoved  int // calls of RemoveUnusedRules
	opened, still int // how often opened, and not closed
	donors        []network.Donor
	running       map[string]uint64 // cookies of namespaces, by container
	links         []string          // of every sandbox
}

// NetNSOf finds the namespaces of the containers in running, and no other's.
func (m *memoryHost) NetNSOf(d *network.Donor) (string, wire.Sandbox) {
	if cookie := m.running[d.Container]; cookie != 0 {
		return fmt.Sprintf("/run/netns/%d", cookie), wire.Sandbox{Cookie: cookie}
	}
	return "", wire.Sandbox{}
}

// OpenNetNS finds the namespace of /run/netns/COOKIE.
func (m *memoryHost) OpenNetNS(path string) (wire.Sandbox, error) {
	cookie, err := strconv.ParseUint(filepath.Base(path), 10, 64)
	if err != nil || filepath.Dir(path) != "/run/netns" {
		return wire.Sandbox{}, wire.Errorf(wire.CodeNetNS, "CNI_NETNS %q: is not there", path)
	}
	return wire.Sandbox{Cookie: cookie}, nil
}

func (m *memoryHost) HasLink(_, name string) (bool, error) {
	return slices.Contains(m.links, name), nil
}
func (m *memoryHost) NetNSAlive(_ string, cookie uint64) bool   { return m.alive(cookie) }
func (m *memoryHost) ReferencedNetNS() (map[uint64]bool, error) { return nil, nil }
func (m *memoryHost) ProcessesIn(string) ([]string, error)      { return nil, nil }

func (m *memoryHost) alive(cookie uint64) bool {
	return slices.Contains(slices.Collect(maps.Values(m.running)), cookie)
}

func (m *memoryHost) Routes() ([]ipam.HostRoute, error) { return m.routes, nil }
func (m *memoryHost) Nameservers() []netip.Addr         { return m.nameservers }
func (m *memoryHost) ID() string                        { return "host" }
func (m *memoryHost) RemoveUnusedRules() error          { m.rulesRemoved++; return nil }
func (m *memoryHost) EnsureIngress(service.Network) (*firewall.RefusedError, error) {
	return nil, nil
}

func (m *memoryHost) HostObjects() ([]wire.Object, error) { return nil, nil }
func (m *memoryHost) Donors() ([]network.Donor, error)    { return m.donors, nil }
func (m *memoryHost) Close()                              { m.still-- }

// A fixture is an app whose store, networks, plugins and host are the test's own.
type fixture struct {
	*app
	t    *testing.T
	dir  string
	host *memoryHost
}

func newFixture(t *testing.T) *fixture {
	dir := t.TempDir()
	f := &fixture{t: t, dir: dir, host: &memoryHost{Host: wiretest.New()}}
	f.app = &app{
		store: records.Store{Run: dir + "/run", Lib: dir + "/lib"}, conf: records.ConfDir(dir + "/net.d"), root: dir + "/root",
		env: []string{"CNI_PATH=" + dir + "/bin", "PATH=" + os.Getenv("PATH"), "CALLER=yes"},
		openHost: func(records.Store) (machine, error) {
			f.host.opened++
			f.host.still++
			return f.host, nil
		},
	}
	f.mkdir("net.d")
	f.mkdir("bin")
	t.Cleanup(func() {
		if f.host.still != 0 {
			t.Errorf("the host was opened %d times, and %d times not closed", f.host.opened, f.host.still)
		}
	})
	return f
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) mkdir(name string) { f.must(os.MkdirAll(filepath.Join(f.dir, name), 0o755)) }

// write writes a file below the fixture's directory.
func (f *fixture) write(name, text string, mode fs.FileMode) {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	f.must(os.MkdirAll(filepath.Dir(path), 0o755))
	f.must(os.WriteFile(path, []byte(text), mode))
}

// created is when the fixture's networks were made.
var created = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// network writes a network's file.
func (f *fixture) network(file, text string) {
	f.t.Helper()
	f.write("net.d/"+file, text, 0o644)
	f.must(os.Chtimes(filepath.Join(f.dir, "net.d", file), created, created))
}

// exists reports whether there is a file below the fixture's directory.
func (f *fixture) exists(name string) bool {
	_, err := os.Stat(filepath.Join(f.dir, name))
	return err == nil
}

// plugin installs a plugin that appends a line for each call to the file calls,
// and then runs the script.
func (f *fixture) plugin(name, script string) {
	f.t.Helper()
	f.write("bin/"+name, fmt.Sprintf("#!/bin/sh\ncat >%[1]s/stdin.%[2]s\necho %[2]s $CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME ${CNI_NETNS:-no-netns} >>%[1]s/calls\n%[3]s\n",
		f.dir, name, script), 0o755)
}

// calls returns the calls of plugins so far, and forgets them.
func (f *fixture) calls() string {
	path := filepath.Join(f.dir, "calls")
	data, _ := os.ReadFile(path)
	_ = os.Remove(path)
	return string(data)
}

// attached writes the record of an attachment that is up in a namespace which is
// there for as long as this process.
func (f *fixture) attached(r records.Record) *records.Record {
	f.t.Helper()
	if r.IfName == "" {
		r.IfName = "eth0"
	}
	if r.Plugin == "" {
		r.Plugin = "dbridge"
	}
	if r.State == "" {
		r.State = records.Up
	}
	f.must(f.store.Put(&r))
	return &r
}

// container writes the record of a container.
func (f *fixture) container(c records.Container) *records.Container {
	f.t.Helper()
	f.must(f.store.AddContainer(&c, func([]*records.Container) error { return nil }))
	return &c
}

// words splits a command line at spaces that are not in '...'.
func words(line string) []string {
	var list []string
	word, given, quoted := "", false, false
	for _, r := range line + " " {
		switch {
		case r == '\'':
			quoted, given = !quoted, true
		case r != ' ' || quoted:
			word, given = word+string(r), true
		case given:
			list, word, given = append(list, word), "", false
		}
	}
	return list
}

// dnet runs a command line as main does.
func (f *fixture) dnet(line string) (status int, stdout, stderr string) {
	f.t.Helper()
	a := *f.app
	a.args = words(line)
	var err error
	a.stdin, err = os.Open(os.DevNull)
	f.must(err)
	out, err := os.Create(filepath.Join(f.dir, "stdout"))
	f.must(err)
	errs, err := os.Create(filepath.Join(f.dir, "stderr"))
	f.must(err)
	a.stdout, a.stderr = out, errs
	status = a.run()
	for _, file := range []*os.File{a.stdin, out, errs} {
		f.must(file.Close())
	}
	text := func(name string) string {
		data, err := os.ReadFile(filepath.Join(f.dir, name))
		f.must(err)
		return strings.ReplaceAll(string(data), f.dir, "DIR")
	}
	return status, text("stdout"), text("stderr")
}

// A call is a command line and what it must print. "..." at the end of a text
// means anything.
type call struct {
	line           string
	status         int
	stdout, stderr string
}

// check runs command lines one after the other.
func (f *fixture) check(calls []call) {
	f.t.Helper()
	for _, c := range calls {
		status, stdout, stderr := f.dnet(c.line)
		if status != c.status || !printed(stdout, c.stdout) || !printed(stderr, c.stderr) {
			f.t.Errorf("dnet %s: status %d\nstdout: %q\nstderr: %q\nwant %d\nstdout: %q\nstderr: %q",
				c.line, status, stdout, stderr, c.status, c.stdout, c.stderr)
		}
	}
}

func printed(got, want string) bool {
	if begin, ok := strings.CutSuffix(want, "..."); ok {
		return strings.HasPrefix(got, begin)
	}
	return got == want
}

func TestCommandLine(t *testing.T) {
	f := newFixture(t)
	f.check([]call{
		{"", 0, "Docker's networks for every CNI runtime\n...", ""},
		{"--version", 0, "dnet version " + cni.Version + "\n", ""},
		{"nosuch", 1, "", "dnet: unknown command: dnet nosuch\n\nUsage:  dnet [flags]\n\nRun 'dnet --help' for more information\n"},
		{"ls --nosuch", 125, "", "dnet: unknown flag: --nosuch\n\nUsage:  dnet ls [OPTIONS]\n\nRun 'dnet ls --help' for more information\n"},
		{"ls x", 1, "", "dnet: 'dnet ls' accepts no arguments\n\nUsage:  dnet ls [OPTIONS]\n..."},
		{"ps x", 1, "", "dnet: 'dnet ps' accepts no arguments\n..."},
		{"create", 1, "", "dnet: 'dnet create' requires 1 argument\n\nUsage:  dnet create [OPTIONS] NETWORK\n..."},
		{"create a b", 1, "", "dnet: 'dnet create' requires 1 argument\n..."},
		{"inspect", 1, "", "dnet: 'dnet inspect' requires at least 1 argument\n..."},
		{"rm", 1, "", "dnet: 'dnet rm' requires at least 1 argument\n..."},
		{"stop", 1, "", "dnet: 'dnet stop' requires at least 1 argument\n..."},
		{"run", 1, "", "dnet: 'dnet run' requires at least 1 argument\n..."},
		{"exec c1", 1, "", "dnet: 'dnet exec' requires at least 2 arguments\n..."},
		{"stop -t x c1", 125, "", "dnet: invalid argument \"x\" for \"-t, --timeout\" flag: ..."},
		{"create --gateway x n", 125, "", "dnet: invalid argument \"x\" for \"--gateway\" flag: ..."},
	})
	if f.host.opened != 0 {
		t.Errorf("the host was opened %d times", f.host.opened)
	}
}

// TestConfDir names the directory of networks by the variable and by the flag,
// which counts more.
func TestConfDir(t *testing.T) {
	f := newFixture(t)
	const one = `{"cniVersion": "1.0.0", "name": %q, "plugins": [{"type": "vlan"}]}`
	f.write("variable/a.conflist", fmt.Sprintf(one, "named-by-variable"), 0o644)
	f.write("flag/a.conflist", fmt.Sprintf(one, "named-by-flag"), 0o644)
	f.env = append(f.env, "NETCONFPATH="+f.dir+"/variable")
	f.check([]call{
		{"ls -f type=custom --format {{.Name}}", 0, "named-by-variable\n", ""},
		{"--conf-dir " + f.dir + "/flag ls -f type=custom --format {{.Name}}", 0, "named-by-flag\n", ""},
		{"--conf-dir " + f.dir + "/nosuch ls -f type=custom", 0, "NETWORK ID   NAME      DRIVER    SCOPE\n", ""},
	})
	// The registry remembers where the file is, whatever dnet's directory was.
	t.Chdir(f.dir)
	f.mkdir("relative")
	if status, _, stderr := f.dnet("--conf-dir relative create web"); status != 0 {
		t.Fatal(stderr)
	}
	if known, err := registry.Of(f.store, "").Get("web"); err != nil || known.Conf != f.dir+"/relative/dcni-web.conflist" {
		t.Errorf("registered as %+v, %v", known, err)
	}
}

func TestPrintError(t *testing.T) {
	f := newFixture(t)
	f.openHost = func(records.Store) (machine, error) { return nil, fmt.Errorf("open rtnetlink: %w", fs.ErrPermission) }
	want := "dnet: open rtnetlink: permission denied"
	if os.Geteuid() != 0 {
		want += ": run as root"
	}
	want = strings.Replace(want, "permission denied", fs.ErrPermission.Error(), 1)
	f.check([]call{{"create web", 1, "", want + "\n"}, {"rm web", 1, "", want + "\n"}})
}

func TestGetenv(t *testing.T) {
	a := &app{env: []string{"A=1", "AB=2", "EMPTY=", "WITH=a=b"}}
	for name, want := range map[string]string{"A": "1", "AB": "2", "EMPTY": "", "WITH": "a=b", "B": ""} {
		if got := a.getenv(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
