package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"dcni/integration/testhost"
)

// systemd is the manager of a user session: it need not be the first process of
// the machine, and does the same with a unit's [Service] and [Socket] sections.
var systemd, _ = exec.LookPath("/lib/systemd/systemd")

// systemdRun is the directory of the manager's sockets.
const systemdRun = "/run/systemd-test"

// stubs are all the units there are besides those that are shipped, and what those want
// here: the programs that were built, and a log, for there is no journal.
var stubs = map[string]string{
	"sysinit.target":  "[Unit]\nDefaultDependencies=no\n",
	"basic.target":    "[Unit]\nDefaultDependencies=no\n",
	"sockets.target":  "[Unit]\nDefaultDependencies=no\n",
	"shutdown.target": "[Unit]\nDefaultDependencies=no\n",
	"dnetd.service.d/test.conf": "[Service]\nExecStart=\nExecStart=" + binaries + "/dnetd serve --metrics=\n" +
		"StandardError=append:" + systemdRun + "/dnetd.log\n",
	// It ends soon when nothing is asked.
	"dnet-api.service.d/test.conf": "[Service]\nExecStart=\nExecStart=" + binaries + "/dnet api --idle 2s\n" +
		"StandardError=append:" + systemdRun + "/dnet-api.log\n",
	"dclusterd.service.d/test.conf": "[Service]\nExecStart=\nExecStart=" + binaries + "/dclusterd\n" +
		"StandardError=append:" + systemdRun + "/dclusterd.log\n",
}

// cmdSystemd starts a systemd that ends with the script, with dnetd's units as
// they are shipped, and has systemctl --user speak to it.
func cmdSystemd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: systemd")
	}
	stop, err := startSystemd()
	ts.Check(err)
	ts.Defer(stop)
	ts.Setenv("XDG_RUNTIME_DIR", systemdRun)
}

// startSystemd returns when systemd answers.
func startSystemd() (stop func(), err error) {
	units := systemdRun + "/units"
	if err := errors.Join(writeUnits(units), os.MkdirAll("/run/systemd/system", 0o755)); err != nil { // which says that there is a systemd
		return nil, err
	}
	cmd := exec.Command("sh", "-c", `ulimit -n "$(ulimit -Hn)"; for f; do echo $$ >$f || exit; done; exec `+systemd+` --user --unit=basic.target`, "sh")
	groups, err := systemdCgroups()
	if err != nil {
		return nil, err
	}
	for _, group := range groups {
		cmd.Args = append(cmd.Args, group+"/cgroup.procs")
	}
	none := units + "/none"
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+systemdRun, "SYSTEMD_UNIT_PATH="+units, "SYSTEMD_LOG_TARGET=console",
		"SYSTEMD_GENERATOR_PATH="+none, "SYSTEMD_ENVIRONMENT_GENERATOR_PATH="+none)
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.WaitDelay = time.Second // what it started has the log as well
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		_ = systemctl("stop", "dnet-api.socket", "dnet-api.service", "dnetd.socket", "dnetd.service").Run()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	for deadline := time.Now().Add(2 * time.Minute); systemctl("is-active", "basic.target").Run() != nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			stop()
			return nil, errors.New("systemd does not answer: " + log.String())
		}
	}
	return stop, nil
}

func writeUnits(dir string) error {
	files := map[string]string{}
	shipped, err := filepath.Glob("../scripts/systemd/*")
	for _, path := range shipped {
		text, failed := os.ReadFile(path)
		files[filepath.Base(path)], err = string(text), errors.Join(err, failed)
	}
	for name, text := range stubs {
		files[name] = text
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644))
	}
	return err
}

// systemdCgroups makes a cgroup for systemd in each hierarchy that it uses: the
// one of v2, or its own of v1 as well.
func systemdCgroups() (groups []string, err error) {
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(root + "/cgroup.procs"); err != nil {
			continue
		}
		group := fmt.Sprintf("%s%s/systemd-%d", root, testhost.CgroupParent, time.Now().UnixNano())
		groups, err = append(groups, group), errors.Join(err, os.MkdirAll(group, 0o755))
	}
	return groups, err
}

// systemctl speaks to the host's systemd.
func systemctl(args ...string) *exec.Cmd {
	cmd := exec.Command("systemctl", append([]string{"--user"}, args...)...)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+systemdRun)
	return cmd
}

// property returns a property of dnetd's service, which is a number.
func (r *fixture) property(name string) int {
	r.t.Helper()
	text, err := systemctl("show", "--value", "-p", name, "dnetd.service").Output()
	n, bad := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || bad != nil {
		r.t.Fatalf("%s: %q, %v", name, text, err)
	}
	return n
}

// storedIs waits until systemd keeps a number of descriptors.
func (r *fixture) storedIs(when string, want int) {
	r.t.Helper()
	is := r.property("NFileDescriptorStore")
	for deadline := time.Now().Add(6 * patience); is != want && time.Now().Before(deadline); is = r.property("NFileDescriptorStore") {
		time.Sleep(100 * time.Millisecond)
	}
	if is != want {
		r.t.Errorf("%s: systemd keeps %d descriptors, want %d", when, is, want)
	}
}

// TestSystemdThousand has 1,000 containers on 20 networks, and systemd keep the
// sockets of all while dnetd is started again, and when it is killed.
func TestSystemdThousand(t *testing.T) {
	for _, program := range []string{systemd, "dnsperf"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("systemd and dnsperf are not both installed: ", err)
		}
	}
	const n, sockets = 1000, 2 * 1000
	r := newFixture(t)
	stop, err := startSystemd()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	r.ok(outcomeOf(systemctl("start", "dnetd.service")))
	for i := range n {
		r.netns(crowded(i))
	}
	r.crowd("ADD", n)
	r.storedIs("after ADD", sockets)
	for what, args := range map[string][]string{"restart": {"restart"}, "SIGKILL": {"kill", "-s", "KILL"}} {
		was := r.property("MainPID")
		asked := r.queries(crowded(0), 4*time.Second)
		time.Sleep(time.Second)
		r.ok(outcomeOf(systemctl(append(args, "dnetd.service")...)))
		if out := asked(); !regexp.MustCompile(`Queries lost: +0 `).MatchString(out) {
			t.Errorf("%s: %s", what, out)
		}
		if is := r.property("MainPID"); is == was || is == 0 {
			t.Errorf("%s: dnetd is process %d, was %d", what, is, was)
		}
		r.storedIs(what, sockets)
		for i := range n {
			r.asks(what, i, (i+crowdNetworks)%n)
		}
	}
	r.crowd("DEL", n)
	r.storedIs("after DEL", 0)
}

// crowdNetworks is how many networks the containers of a crowd are on in turn.
const crowdNetworks = 20

// crowded is the name of a container of a crowd, and crowdedAddress its address.
func crowded(i int) string { return fmt.Sprintf("s%d", i) }

func crowdedAddress(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i % crowdNetworks), byte(i / 250), byte(1 + i%250)})
}

// crowd calls ddns for that many containers, behind a main plugin that was there.
func (r *fixture) crowd(verb string, n int) {
	r.t.Helper()
	var calls []*exec.Cmd
	for i := range n {
		conf := fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "net%d", "type": "ddns", "prevResult": {"cniVersion": "1.0.0",
			"interfaces": [{"name": "eth0", "sandbox": %q}], "ips": [{"address": "%s/16", "interface": 0}]}}`,
			i%crowdNetworks, testhost.NetNSPath(crowded(i)), crowdedAddress(i))
		name := crowded(i)
		calls = append(calls, pluginCall(verb, "ddns", conf, "containerid="+name, "netns="+name, "args=K8S_POD_NAME="+name))
	}
	for some := range slices.Chunk(calls, 20) {
		r.atOnce(some)
	}
}

// queries has dnsperf ask 2,000 times a second in a sandbox for its own name. The
// function returned waits for the end and returns what dnsperf says.
func (r *fixture) queries(name string, during time.Duration) (wait func() string) {
	r.t.Helper()
	const file = "/run/queries"
	if err := os.WriteFile(file, []byte(name+" A\n"), 0o600); err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command("nsenter", "--net="+testhost.NetNSPath(name),
		"dnsperf", "-s", "127.0.0.11", "-d", file, "-Q", "2000", "-l", strconv.Itoa(int(during.Seconds())))
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	return func() string {
		if err := cmd.Wait(); err != nil {
			r.t.Errorf("dnsperf: %v", err)
		}
		return out.String()
	}
}

// asks has a container of a crowd ask for another.
func (r *fixture) asks(when string, i, other int) {
	r.t.Helper()
	var conn net.Conn
	err := r.In(crowded(i), func() (err error) {
		conn, err = net.Dial("udp", "127.0.0.11:53")
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	resolver := net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	got, err := resolver.LookupNetIP(ctx, "ip4", crowded(other)+".")
	if err != nil || len(got) != 1 || got[0] != crowdedAddress(other) {
		r.t.Errorf("%s: container %d asks for %d: %v, %v", when, i, other, got, err)
	}
}
