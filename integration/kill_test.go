package integration

import (
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// deadly are the system calls that change something, and the last one. A process
// that is killed as it enters one has done all before it and nothing after. So
// to be killed while it reads, or waits for a lock, is to be killed at the next.
// Files are made by opening them too, but only under temporary names: what counts is
// what is written into them, and where they are moved.
var deadly = []string{
	"mkdirat", "symlinkat", "linkat", "renameat", "renameat2", "unlinkat", "utimensat",
	"write", "pwrite64", "ftruncate", "sendto", "sendmsg", "mount", "umount2", "move_mount", "exit_group",
}

// A point is where a process is killed: as it enters a system call for the n-th
// time. Each kind of call is counted by itself.
type point struct {
	call string
	n    int
}

func (p point) String() string { return fmt.Sprintf("killed at %s %d", p.call, p.n) }

// noKillat is the exit status of killat if it failed itself.
const noKillat = 99

// command is one that is killed at the point.
func (p point) command(name string, args ...string) *exec.Cmd {
	return exec.Command(binaries+"/test/killat", append([]string{p.call, strconv.Itoa(p.n), name}, args...)...)
}

// kill runs a command that is killed at a point, and reports whether it was.
func (p point) kill(t *testing.T, cmd *exec.Cmd) bool {
	t.Helper()
	killed := p.command(cmd.Path, cmd.Args[1:]...)
	cmd.Args, cmd.Path = killed.Args, killed.Path
	out, err := cmd.Output()
	if err != nil && strings.Contains(string(out), `"code"`) {
		t.Errorf("%s: an error instead of death: %s", p, out)
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, _ := exit.Sys().(syscall.WaitStatus)
	if !status.Signaled() { // killat ends as the process does
		t.Errorf("%s: ends by itself: %v: %s%s", p, err, out, exit.Stderr)
	}
	return status.Signaled()
}

// eachPoint takes a step for each point of a kind of call as long as the
// process dies there, and once more.
func eachPoint(t *testing.T, step func(p point) (dead bool)) {
	t.Helper()
	eachPointOf(t, deadly, step)
}

func eachPointOf(t *testing.T, calls []string, step func(p point) (dead bool)) {
	t.Helper()
	points := 0
	for _, call := range calls {
		for p := (point{call, 1}); step(p); p.n++ {
			points++
		}
	}
	if points == 0 {
		t.Error("nothing was killed")
	}
	t.Logf("%d points", points)
}

// killConf is a network of two families, with ports and a static address, whose frames are checked.
func killConf(more string) string {
	return `{"cniVersion": "1.1.0", "name": "web", "type": "dbridge", "antiSpoof": true,
		"ipam": {"type": "dipam", "subnets": [{"subnet": "10.88.0.0/24"}, {"subnet": "fd00:88::/64"}]}` + more + `}`
}

const killRequest = `, "runtimeConfig": {"ips": ["10.88.0.77"], "portMappings": [
	{"hostPort": 8080, "containerPort": 80}, {"hostPort": 8053, "containerPort": 53, "protocol": "udp", "hostIP": "192.0.2.1"}]}`

// leftBehind is what a killed writer leaves for the next to use: temporary
// files under a name of their own.
const leftBehind = `/run/dcni/tmp|/var/lib/dcni/tmp|/\.link |/leases/web/\.pages`

// killFixture is a host with a bystander: c9 is attached, and stays so.
func killFixture(t *testing.T) *fixture {
	r := newFixture(t)
	r.netns("c1", "c2", "c9")
	r.bystander()
	r.ok(r.plugin("ADD", "dbridge", killConf(killRequest)))
	r.ok(r.plugin("DEL", "dbridge", killConf(killRequest)))
	return r
}

const bystanderPort = `, "runtimeConfig": {"portMappings": [{"hostPort": 9000, "containerPort": 80}]}`

func (r *fixture) bystander() {
	r.t.Helper()
	r.ok(r.plugin("ADD", "dbridge", killConf(bystanderPort), "containerid=c9", "netns=c9"))
}

// checked expects CHECK of an attachment to find nothing.
func (r *fixture) checked(what, container, result string) {
	r.t.Helper()
	conf := killConf(killRequest + `, "prevResult": ` + result)
	if a := r.plugin("CHECK", "dbridge", conf, "containerid="+container, "netns="+container); a.err != nil {
		r.t.Errorf("%s: CHECK %s: %s", what, container, a.out)
	}
}

// empty expects a sandbox with nothing but lo.
func (r *fixture) empty(what, name string) {
	r.t.Helper()
	if out := r.run("ip", "-o", "-n", name, "link"); strings.Count(out, "\n") != 1 {
		r.t.Errorf("%s: left in %s: %s", what, name, out)
	}
}

// TestKilledAdd kills ADD at every point. A DEL, or a GC, makes the machine
// what it was before; another ADD makes it what it was to be.
func TestKilledAdd(t *testing.T) {
	r := killFixture(t)
	before := takePicture()
	gc := killConf(`, "cni.dev/valid-attachments": [{"containerID": "c9", "ifname": "eth0"}]`)
	eachPoint(t, func(p point) bool {
		dead := p.kill(t, pluginCall("ADD", "dbridge", killConf(killRequest)))
		r.ok(r.plugin("DEL", "dbridge", killConf(killRequest), "netns="))
		r.same(p.String()+", DEL", before, leftBehind)
		if !dead {
			return false
		}
		p.kill(t, pluginCall("ADD", "dbridge", killConf(killRequest)))
		r.ok(r.plugin("GC", "dbridge", gc))
		r.same(p.String()+", GC", before, leftBehind)
		r.empty(p.String(), "c1")
		p.kill(t, pluginCall("ADD", "dbridge", killConf(killRequest)))
		a := r.plugin("ADD", "dbridge", killConf(killRequest))
		if r.killedAtTheEnd(a) {
			return true
		}
		r.checked(p.String()+", ADD", "c1", string(r.ok(a).out))
		r.ok(r.plugin("DEL", "dbridge", killConf(killRequest)))
		return true
	})
}

// killedAtTheEnd reports whether an ADD was refused because the one before died
// after it had attached all, and takes that away.
func (r *fixture) killedAtTheEnd(a outcome) bool {
	if a.failed == nil || !strings.Contains(a.failed.Msg, "is attached") {
		return false
	}
	r.ok(r.plugin("DEL", "dbridge", killConf(killRequest)))
	return true
}

// TestKilledFirstAdd kills the ADD that makes the network and the rules.
func TestKilledFirstAdd(t *testing.T) {
	r := killFixture(t)
	r.run("iptables", "-P", "FORWARD", "DROP") // so that there is a permit to make
	eachPoint(t, func(p point) bool {
		r.run("nft", "delete", "table", "inet", "dcni")
		r.run("iptables", "-F", "FORWARD")
		r.run("sh", "-c", "ip link del $(ip -o link show type bridge | sed 's/.*: \\(br-[0-9a-f]*\\):.*/\\1/')")
		r.run("sh", "-c", "rm -rf /run/dcni /var/lib/dcni; for l in $(ls /sys/class/net | grep -x 'veth[0-9a-z]\\{11\\}'); do ip link del $l; done")
		dead := p.kill(t, pluginCall("ADD", "dbridge", killConf(killRequest)))
		r.ok(r.plugin("DEL", "dbridge", killConf(killRequest)))
		if out := r.run("sh", "-c", "ls /run/dcni/attachments /var/lib/dcni/leases/web 2>&1 || true"); strings.Contains(out, "10.88") || strings.Contains(out, "web\n") {
			t.Errorf("%s, DEL: left: %s", p, out)
		}
		if out := r.run("iptables", "-S", "FORWARD"); strings.Contains(out, "ACCEPT") {
			t.Errorf("%s, DEL: FORWARD is\n%s", p, out)
		}
		r.empty(p.String(), "c1")
		r.bystander()
		a := r.ok(r.plugin("ADD", "dbridge", killConf(killRequest)))
		r.checked(p.String()+", ADD", "c1", string(a.out))
		r.ok(r.plugin("DEL", "dbridge", killConf(killRequest)))
		return dead
	})
}

// TestKilledDel kills DEL at every point. Then another container gets the same
// address and ports, at once or after a second DEL, and whatever still comes
// for the first does it no harm.
func TestKilledDel(t *testing.T) {
	r := killFixture(t)
	refused := 0
	gc := killConf(`, "cni.dev/valid-attachments": [{"containerID": "c9", "ifname": "eth0"}, {"containerID": "c2", "ifname": "eth0"}]`)
	eachPoint(t, func(p point) bool {
		r.ok(r.plugin("ADD", "dbridge", killConf(killRequest)))
		dead := p.kill(t, pluginCall("DEL", "dbridge", killConf(killRequest)))
		a := r.plugin("ADD", "dbridge", killConf(killRequest), "containerid=c2", "netns=c2")
		if a.err != nil {
			if a.failed == nil || a.failed.Code != 101 && a.failed.Code != 102 {
				t.Errorf("%s: %s", p, a.out)
			}
			refused++
			r.ok(r.plugin("DEL", "dbridge", killConf(killRequest)))
			a = r.ok(r.plugin("ADD", "dbridge", killConf(killRequest), "containerid=c2", "netns=c2"))
		}
		if p.n%2 == 0 {
			r.ok(r.plugin("DEL", "dbridge", killConf(killRequest)))
		} else {
			r.ok(r.plugin("GC", "dbridge", gc))
		}
		r.checked(p.String(), "c2", string(a.out))
		r.empty(p.String(), "c1")
		r.ok(r.plugin("DEL", "dbridge", killConf(killRequest), "containerid=c2", "netns=c2"))
		return dead
	})
	t.Logf("at %d of them the address or port was still the first's", refused)
}

// TestKilledGC kills GC at every point, as it deletes an attachment that is not
// valid and what an ADD that was killed had made. The next one finishes, and a
// container that is valid keeps all it has.
func TestKilledGC(t *testing.T) {
	r := killFixture(t)
	before := takePicture()
	gc := killConf(`, "cni.dev/valid-attachments": [{"containerID": "c9", "ifname": "eth0"}]`)
	midway := point{"sendto", 12} // of an ADD: links and leases are there
	eachPoint(t, func(p point) bool {
		r.ok(r.plugin("ADD", "dbridge", killConf(killRequest)))
		if !midway.kill(t, pluginCall("ADD", "dbridge", killConf(""), "containerid=c2", "netns=c2")) {
			t.Fatal("an ADD outlived its middle")
		}
		dead := p.kill(t, pluginCall("GC", "dbridge", gc))
		r.ok(r.plugin("GC", "dbridge", gc))
		r.same(p.String()+", GC", before, leftBehind)
		r.empty(p.String(), "c1")
		r.empty(p.String(), "c2")
		return dead
	})
}
