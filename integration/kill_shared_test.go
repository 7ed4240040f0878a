package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A sharer is a plugin by which c1 shares another network namespace.
type sharer struct {
	name  string
	conf  string   // without its end
	lo    []string // what ip is told to show lo there
	calls []string // at which it is killed
}

// sharers are killed at every point, and the second, which does what the first does, at few.
var sharers = []sharer{
	{
		"dhost", `{"cniVersion": "1.1.0", "name": "killed", "type": "dhost"`,
		[]string{"link", "show", "lo"}, deadly,
	},
	{
		"dcontainer", `{"cniVersion": "1.1.0", "name": "killed", "type": "dcontainer", "container": "web1"`,
		[]string{"-n", "web1", "link", "show", "lo"}, []string{"mount", "umount2", "renameat", "unlinkat", "exit_group"},
	},
}

// eachSharer runs a test for each of them.
func eachSharer(t *testing.T, test func(t *testing.T, s sharer)) {
	t.Parallel()
	for _, s := range sharers {
		t.Run(s.name, func(t *testing.T) { test(t, s) })
	}
}

// A sharedFixture is a host that allows its network to be shared with c1, and where web1
// is attached.
type sharedFixture struct {
	*fixture
	sharer
}

func newSharedFixture(t *testing.T, s sharer) (r sharedFixture, before shared) {
	r = sharedFixture{newFixture(t), s}
	r.netns("c1", "web1")
	r.run("install", "-D", "-m", "644", "/dev/null", "/etc/dcni/allow-host-network")
	r.ok(r.plugin("ADD", "dnone", `{"cniVersion": "1.1.0", "name": "donor", "type": "dnone"}`, "containerid=web1", "netns=web1"))
	r.shared("ADD", "")
	r.shared("DEL", "")
	return r, shared{takePicture(), r.paths()}
}

func (r sharedFixture) shared(verb, more string) outcome {
	r.t.Helper()
	return r.ok(r.plugin(verb, r.name, r.conf+more+"}"))
}

// paths says what is mounted, and where the sandbox's path leads.
func (r sharedFixture) paths() string {
	r.t.Helper()
	return r.run("sh", "-c", "cat /proc/self/mountinfo; readlink /run/netns/c1; stat -L -c %i /run/netns/c1")
}

// shared is what a host with a shared sandbox looks like.
type shared struct {
	picture
	paths string
}

// asBefore expects the host to be so, and lo to be up where it is shared.
func (r sharedFixture) asBefore(what string, before shared) {
	r.t.Helper()
	r.same(what, before.picture, leftBehind)
	if now := r.paths(); now != before.paths {
		r.t.Errorf("%s: the mounts are\n%s\nand were\n%s", what, now, before.paths)
	}
	if out := r.run("ip", r.lo...); !strings.Contains(out, ",UP") {
		r.t.Errorf("%s: lo is down", what)
	}
}

// loDown takes lo down through the bind.
func (r sharedFixture) loDown() { r.t.Helper(); r.run("ip", "-n", "c1", "link", "set", "lo", "down") }

// killHelper kills what ADD left to take the bind away, where it is alive.
func (r sharedFixture) killHelper() { r.t.Helper(); r.killHelperBeside(unix.Gettid()) }

// killHelperBeside kills it in the throwaway host of a thread.
func (r sharedFixture) killHelperBeside(tid int) {
	r.t.Helper()
	r.run("sh", "-c", fmt.Sprintf("kill -9 $(pgrep --ns %d --nslist mnt -f '%s [p]op killed c1') 2>/dev/null || true", tid, r.name))
}

// TestKilledSharedAdd kills ADD at every point, and every second time its
// helper as well. A DEL, or a GC, puts all right, and another ADD works.
func TestKilledSharedAdd(t *testing.T) { eachSharer(t, killedSharedAdd) }

func killedSharedAdd(t *testing.T, s sharer) {
	r, before := newSharedFixture(t, s)
	eachPointOf(t, s.calls, func(p point) bool {
		add := func() bool {
			defer r.endHelper()()
			dead := p.kill(t, pluginCall("ADD", s.name, s.conf+"}"))
			if p.n%2 == 0 {
				r.killHelper()
			}
			return dead
		}
		dead := add()
		r.shared("DEL", "")
		r.asBefore(p.String()+", DEL", before)
		if !dead {
			return false
		}
		add()
		r.shared("GC", `, "cni.dev/valid-attachments": []`)
		r.asBefore(p.String()+", GC", before)
		add()
		if a := r.plugin("ADD", s.name, s.conf+"}"); a.err != nil && !strings.Contains(string(a.out), "is attached") {
			t.Errorf("%s, ADD: %s", p, a.out)
		}
		r.shared("DEL", "")
		r.asBefore(p.String()+", ADD, DEL", before)
		return true
	})
}

// endHelper ends the helper of an ADD that is done: killat waits for it, too. It
// looks until the function that it returns is called.
func (r sharedFixture) endHelper() (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	// The throwaway host is there for this thread only.
	tid := unix.Gettid()
	record := fmt.Sprintf("/proc/self/task/%d/root/run/dcni/attachments/killed/c1/eth0/%s.json", tid, r.name)
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
				if data, err := os.ReadFile(record); err == nil && strings.Contains(string(data), `"state": "up"`) {
					r.killHelperBeside(tid)
				}
			}
		}
	}()
	return func() { close(done); <-ended }
}

// TestKilledSharedDel kills DEL at every point, when lo is down through the
// bind and no helper puts it up.
func TestKilledSharedDel(t *testing.T) { eachSharer(t, killedSharedDel) }

func killedSharedDel(t *testing.T, s sharer) {
	r, before := newSharedFixture(t, s)
	eachPointOf(t, s.calls, func(p point) bool {
		r.shared("ADD", "")
		r.killHelper()
		r.loDown()
		dead := p.kill(t, pluginCall("DEL", s.name, s.conf+"}"))
		if p.n%2 == 0 {
			r.shared("DEL", "")
		} else {
			r.shared("GC", `, "cni.dev/valid-attachments": []`)
		}
		r.asBefore(p.String(), before)
		return dead
	})
}

// TestKilledPop kills the helper at every point between lo going down and its end.
func TestKilledPop(t *testing.T) {
	r, before := newSharedFixture(t, sharers[0])
	eachPoint(t, func(p point) bool {
		r.shared("ADD", "")
		r.killHelper()
		r.loDown()
		pop := pluginCall("", "dhost", "")
		pop.Args = append(pop.Args, "pop", "killed", "c1", "eth0")
		dead := p.kill(t, pop)
		r.shared("DEL", "")
		r.asBefore(p.String(), before)
		return dead
	})
}
