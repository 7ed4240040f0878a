package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// deadlyPrograms stand for iptables' programs: the KILL_AT-th of those that change something that a plugin runs kills it,
// before or after it has done what it was run for. All others are the real ones, which die with the plugin. To be killed
// beside one that only reads is to be killed beside the next.
const deadlyPrograms = `#!/bin/sh
PATH=${PATH#*:}:/usr/sbin:/sbin
case $0 in *-save) exec "${0##*/}" "$@" ;; esac
n=1
until mkdir "$KILL_DIR/$n" 2>/dev/null; do n=$((n + 1)); done
[ "$n" = "$KILL_AT" ] || exec "${0##*/}" "$@"
[ "$KILL_WHEN" = before ] || "${0##*/}" "$@"
kill -KILL $PPID
exec sleep 60
`

// A turn is when one of iptables' programs kills the plugin that runs it.
type turn struct {
	n    int // of the program, in the order in which they begin; both families' run at a time
	when string
}

func (p turn) String() string { return fmt.Sprintf("killed %s program %d", p.when, p.n) }

// iptablesKills is a host whose programs of iptables kill plugins.
type iptablesKills struct {
	*fixture
	programs string // folder
}

func newIPTablesKills(t *testing.T) iptablesKills {
	if _, err := exec.LookPath("iptables-restore"); err != nil {
		t.Skip("iptables is not installed")
	}
	r := iptablesKills{newFixture(t), t.TempDir()}
	// By this name dcni knows which kind of tables the programs have.
	script := filepath.Join(r.programs, "xtables-nft-multi")
	if err := os.WriteFile(script, []byte(deadlyPrograms), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, suffix := range []string{"", "-save", "-restore"} {
			if err := os.Symlink(script, filepath.Join(r.programs, family+suffix)); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.netns("c1", "c2", "c9")
	r.ok(r.plugin("ADD", "dbridge", r.conf(bystanderPort), "containerid=c9", "netns=c9"))
	return r
}

func (r iptablesKills) conf(more string) string { return killConf(`, "firewall": "iptables"` + more) }

// kill calls a plugin that is killed at a turn, and reports whether it was.
func (r iptablesKills) kill(p turn, verb string, words ...string) bool {
	r.t.Helper()
	cmd := pluginCall(verb, "dbridge", r.conf(killRequest), words...)
	cmd.Env = append(cmd.Env, "PATH="+r.programs+":"+os.Getenv("PATH"), "KILL_DIR="+r.t.TempDir(), fmt.Sprint("KILL_AT=", p.n), "KILL_WHEN="+p.when)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		r.t.Errorf("%s: %s ends by itself: %v: %s", p, verb, err, out)
	}
	return true
}

// eachTurn takes a step for each program as long as the plugin dies there, and once more.
func (r iptablesKills) eachTurn(step func(p turn) (dead bool)) {
	r.t.Helper()
	turns := 0
	for _, when := range []string{"before", "after"} {
		for p := (turn{1, when}); step(p); p.n++ {
			turns++
		}
	}
	if turns == 0 {
		r.t.Error("nothing was killed")
	}
	r.t.Logf("%d turns", turns)
}

// checked expects CHECK of an attachment to find nothing.
func (r iptablesKills) checked(what, container string, added outcome) {
	r.t.Helper()
	conf := r.conf(killRequest + `, "prevResult": ` + string(r.ok(added).out))
	if a := r.plugin("CHECK", "dbridge", conf, "containerid="+container, "netns="+container); a.err != nil {
		r.t.Errorf("%s: CHECK %s: %s", what, container, a.out)
	}
}

// TestKilledIPTablesAdd kills an ADD by iptables at every program that it runs: DEL or GC makes the machine what it was
// before, another ADD what it was to be.
func TestKilledIPTablesAdd(t *testing.T) {
	r := newIPTablesKills(t)
	del := func() { r.ok(r.plugin("DEL", "dbridge", r.conf(killRequest))) }
	r.ok(r.plugin("ADD", "dbridge", r.conf(killRequest)))
	del()
	before := takePicture()
	gc := r.conf(`, "cni.dev/valid-attachments": [{"containerID": "c9", "ifname": "eth0"}]`)
	r.eachTurn(func(p turn) bool {
		dead := r.kill(p, "ADD")
		r.ok(r.plugin("DEL", "dbridge", r.conf(killRequest), "netns="))
		r.same(p.String()+", DEL", before, leftBehind)
		if !dead {
			return false
		}
		r.kill(p, "ADD")
		r.ok(r.plugin("GC", "dbridge", gc))
		r.same(p.String()+", GC", before, leftBehind)
		r.empty(p.String(), "c1")
		r.kill(p, "ADD")
		r.checked(p.String()+", ADD", "c1", r.plugin("ADD", "dbridge", r.conf(killRequest)))
		del()
		return true
	})
}

// TestKilledIPTablesFirstAdd kills the ADD that makes the chains, beside a policy that drops, where a permit is to be made.
func TestKilledIPTablesFirstAdd(t *testing.T) {
	r := newIPTablesKills(t)
	r.eachTurn(func(p turn) bool {
		for _, c := range []string{"c1", "c9"} {
			r.ok(r.plugin("DEL", "dbridge", r.conf(killRequest), "containerid="+c, "netns="+c))
		}
		r.run("nft", "flush", "ruleset")
		r.run("iptables", "-P", "FORWARD", "DROP")
		r.run("sh", "-c", "ip link del br-4b5e57f6eb2f; rm -rf /run/dcni /var/lib/dcni")
		dead := r.kill(p, "ADD")
		r.ok(r.plugin("DEL", "dbridge", r.conf(killRequest)))
		if out := r.run("iptables-save"); strings.Contains(out, "ACCEPT -i br-") || strings.Contains(out, "c1/eth0") || strings.Contains(out, "8080") {
			t.Errorf("%s, DEL: left:\n%s", p, out)
		}
		r.empty(p.String(), "c1")
		r.ok(r.plugin("ADD", "dbridge", r.conf(bystanderPort), "containerid=c9", "netns=c9"))
		r.checked(p.String()+", ADD", "c1", r.plugin("ADD", "dbridge", r.conf(killRequest)))
		return dead
	})
}

// TestKilledIPTablesDel kills a DEL by iptables at every program that it runs. Then another container gets the same
// address and ports, and what still comes for the first does it no harm.
func TestKilledIPTablesDel(t *testing.T) {
	r := newIPTablesKills(t)
	gc := r.conf(`, "cni.dev/valid-attachments": [{"containerID": "c9", "ifname": "eth0"}, {"containerID": "c2", "ifname": "eth0"}]`)
	again := map[bool]func(){
		true:  func() { r.ok(r.plugin("DEL", "dbridge", r.conf(killRequest))) },
		false: func() { r.ok(r.plugin("GC", "dbridge", gc)) },
	}
	r.ok(r.plugin("ADD", "dbridge", r.conf(killRequest)))
	again[true]()
	before := takePicture()
	r.eachTurn(func(p turn) bool {
		r.ok(r.plugin("ADD", "dbridge", r.conf(killRequest)))
		dead := r.kill(p, "DEL")
		a := r.plugin("ADD", "dbridge", r.conf(killRequest), "containerid=c2", "netns=c2")
		if a.err != nil {
			if a.failed == nil || a.failed.Code != 101 && a.failed.Code != 102 {
				t.Errorf("%s: %s", p, a.out)
			}
			again[true]()
			a = r.plugin("ADD", "dbridge", r.conf(killRequest), "containerid=c2", "netns=c2")
		}
		again[p.n%2 == 0]()
		r.checked(p.String(), "c2", a)
		r.empty(p.String(), "c1")
		r.ok(r.plugin("DEL", "dbridge", r.conf(killRequest), "containerid=c2", "netns=c2"))
		r.same(p.String(), before, leftBehind)
		return dead
	})
}
