package integration

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

const killShared = `{"cniVersion": "1.1.0", "name": "killed", "type": "dhost"`

// sharedRig is a host that allows its network to be shared with c1.
func sharedRig(t *testing.T) (r *rig, before []string) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed")
	}
	r = newRig(t)
	r.netns("c1")
	r.run("install", "-D", "-m", "644", "/dev/null", "/etc/dcni/allow-host-network")
	r.shared("ADD", "")
	r.shared("DEL", "")
	return r, append(picture(), r.paths())
}

func (r *rig) shared(verb, more string) outcome {
	r.t.Helper()
	return r.ok(r.plugin(verb, "dhost", killShared+more+"}"))
}

// paths says what is mounted, and where the sandbox's path leads.
func (r *rig) paths() string {
	r.t.Helper()
	return r.run("sh", "-c", "cat /proc/self/mountinfo; readlink /run/netns/c1; stat -L -c %i /run/netns/c1")
}

// asBefore expects the host to be so, and its lo to be up.
func (r *rig) asBefore(what string, before []string) {
	r.t.Helper()
	last := len(before) - 1
	r.same(what, before[:last], leftBehind)
	if now := r.paths(); now != before[last] {
		r.t.Errorf("%s: the mounts are\n%s\nand were\n%s", what, now, before[last])
	}
	if out := r.run("ip", "link", "show", "lo"); !strings.Contains(out, ",UP") {
		r.t.Errorf("%s: lo is down", what)
	}
}

// killHeir kills what ADD left to take the bind away, where it is alive.
func (r *rig) killHeir() {
	r.t.Helper()
	r.run("sh", "-c", "kill -9 $(pgrep -f 'dhost [p]op killed c1') 2>/dev/null || true")
}

// TestKilledSharedAdd kills ADD at every point, and every second time its heir
// as well. A DEL, or a GC, puts all right, and another ADD works.
func TestKilledSharedAdd(t *testing.T) {
	r, before := sharedRig(t)
	add := func(n int) bool {
		dead := killed(t, n, pluginCall("ADD", "dhost", killShared+"}"))
		if n%2 == 0 {
			r.killHeir()
		}
		return dead
	}
	n := 1
	for ; add(n); n++ {
		what := fmt.Sprintf("killed at %d", n)
		r.shared("DEL", "")
		r.asBefore(what+", DEL", before)
		add(n)
		r.shared("GC", `, "cni.dev/valid-attachments": []`)
		r.asBefore(what+", GC", before)
		add(n)
		if a := r.plugin("ADD", "dhost", killShared+"}"); a.err != nil && !strings.Contains(string(a.out), "is attached") {
			t.Errorf("%s, ADD: %s", what, a.out)
		}
		r.shared("DEL", "")
		r.asBefore(what+", ADD, DEL", before)
	}
	t.Logf("%d points", n-1)
}

// TestKilledSharedDel kills DEL at every point, when lo is down through the
// bind and nobody but DEL is there.
func TestKilledSharedDel(t *testing.T) {
	r, before := sharedRig(t)
	n := 1
	for dead := true; dead; n++ {
		what := fmt.Sprintf("killed at %d", n)
		r.shared("ADD", "")
		r.killHeir()
		r.run("ip", "link", "set", "lo", "down")
		dead = killed(t, n, pluginCall("DEL", "dhost", killShared+"}"))
		if n%2 == 0 {
			r.shared("DEL", "")
		} else {
			r.shared("GC", `, "cni.dev/valid-attachments": []`)
		}
		r.asBefore(what, before)
	}
	t.Logf("%d points", n-2)
}

// TestKilledPop kills the heir at every point between lo going down and its end.
func TestKilledPop(t *testing.T) {
	r, before := sharedRig(t)
	n := 1
	for dead := true; dead; n++ {
		r.shared("ADD", "")
		r.killHeir()
		r.run("ip", "link", "set", "lo", "down")
		pop := pluginCall("", "dhost", "")
		pop.Args = append(pop.Args, "pop", "killed", "c1", "eth0")
		dead = killed(t, n, pop)
		r.shared("DEL", "")
		r.asBefore(fmt.Sprintf("killed at %d", n), before)
	}
	t.Logf("%d points", n-2)
}
