package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"dcni/pkg/records"
)

// process starts a shell script, and returns it as a container's first process.
// It is reaped in the background, as its dnet would do.
func process(t *testing.T, script string) records.Process {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "echo ready\n"+script)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // its traps are set
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	return records.Process{PID: cmd.Process.Pid, Start: startOf(t, cmd.Process.Pid)}
}

// startOf returns when a process started, in clock ticks.
func startOf(t *testing.T, pid int) uint64 {
	t.Helper()
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	const behindName = 19 // of starttime, proc(5)
	start, err := strconv.ParseUint(strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+2:]))[behindName], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return start
}

// alive reports whether a process runs. One that has ended and whose parent, the test, has not
// seen that yet does not.
func alive(p records.Process) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// runs records a container whose dnet was killed: its process is there, and its
// lock is free.
func (f *fixture) runs(id, name string, p records.Process) {
	f.t.Helper()
	f.container(records.Container{
		ID: id, Name: name, Stage: records.Running, Process: p,
		Networks: []records.Attachment{{
			Network: "lab", IfName: "eth0", Path: []string{f.dir + "/bin"},
			Conf: []byte(`{"cniVersion": "1.0.0", "name": "lab", "plugins": [{"type": "first"}, {"type": "second"}]}`),
		}},
	})
}

// stage returns a container's stage, "" if it is forgotten.
func (f *fixture) stage(id string) records.Stage {
	c, err := f.store.Container(id)
	if err != nil {
		return ""
	}
	return c.Stage
}

// TestStop stops containers that have no dnet any more: the command ends, the
// plugins are called with DEL, and the record says so.
func TestStop(t *testing.T) {
	f := newFixture(t)
	f.plugin("first", "")
	f.plugin("second", "")
	one, two := process(t, "sleep 60 & wait"), process(t, "sleep 60 & wait")
	f.runs(idWeb, "web", one)
	f.runs(idNew, "new", two)
	f.check([]call{{"stop web nosuch " + idNew[:5], 1, "web\n" + idNew[:5] + "\n", "dnet: No such container: nosuch\n"}})
	const dels = "second DEL ID eth0 no-netns\nfirst DEL ID eth0 no-netns\n"
	if got, want := f.calls(), strings.ReplaceAll(dels, "ID", idWeb)+strings.ReplaceAll(dels, "ID", idNew); got != want {
		t.Errorf("plugins called:\n%s, want\n%s", got, want)
	}
	if alive(one) || alive(two) || f.stage(idWeb) != records.Exited || f.stage(idNew) != records.Exited {
		t.Errorf("alive %v %v, stages %q %q", alive(one), alive(two), f.stage(idWeb), f.stage(idNew))
	}
	// Again is no error, and does nothing.
	f.check([]call{{"stop web", 0, "web\n", ""}, {"stop --rm web", 0, "web\n", ""}, {"stop web", 1, "", "dnet: No such container: web\n"}})
	if got := f.calls(); got != "" || f.stage(idWeb) != "" {
		t.Errorf("plugins called:\n%s, stage %q", got, f.stage(idWeb))
	}
}

// TestStopWaitsForItsDnet gives the dnet of a container the time to clean up.
func TestStopWaitsForItsDnet(t *testing.T) {
	f := newFixture(t)
	p := process(t, "sleep 60 & wait")
	f.runs(idWeb, "web", p)
	lock, err := f.store.LockContainer(idWeb)
	f.must(err)
	go func() { // what a dnet does when its command ends
		for alive(p) {
			time.Sleep(time.Millisecond)
		}
		c, _ := f.store.Container(idWeb)
		c.Stage = records.Exited
		_ = f.store.PutContainer(c)
		lock.Unlock()
	}()
	f.check([]call{{"stop web", 0, "web\n", ""}})
	if got := f.calls(); got != "" || f.stage(idWeb) != records.Exited {
		t.Errorf("plugins called:\n%s, stage %q", got, f.stage(idWeb))
	}
}

// TestStopKills kills a process that ignores SIGTERM, after --timeout, and does
// not wait where none is given.
func TestStopKills(t *testing.T) {
	f := newFixture(t)
	f.plugin("first", "")
	f.plugin("second", "")
	p := process(t, "trap '' TERM; while :; do sleep 60; done")
	f.runs(idWeb, "web", p)
	lock, err := f.store.LockContainer(idWeb)
	f.must(err)
	go func() {
		for alive(p) {
			time.Sleep(time.Millisecond)
		}
		lock.Unlock()
	}()
	f.check([]call{{"stop -t 0 web", 0, "web\n", ""}})
	if alive(p) || f.stage(idWeb) != records.Exited {
		t.Errorf("alive %v, stage %q", alive(p), f.stage(idWeb))
	}
}

// TestStopFailingPlugin keeps a container on record that can't be detached, unless
// it is to be forgotten by force.
func TestStopFailingPlugin(t *testing.T) {
	f := newFixture(t)
	f.plugin("first", "")
	f.plugin("second", `echo '{"cniVersion": "1.0.0", "code": 11, "msg": "busy", "details": "try later"}'; exit 1`)
	f.runs(idWeb, "web", records.Process{PID: 1, Start: 1})
	const said = "clean up container web: network lab: busy: try later"
	f.check([]call{
		{"stop web", 1, "", "dnet: " + said + "\n"},
		{"stop --rm web", 1, "", "dnet: " + said + "\n"},
		{"stop -f web", 1, "", "dnet: " + said + "\n"},
		{"rm -f nosuch", 0, "", "dnet: warning: " + said + "\n"},
		{"ps -a --format {{.Names}}", 0, "web\n", ""},
		{"stop --rm -f web", 0, "web\n", "dnet: warning: " + said + "\n"},
		{"ps -a -q", 0, "", ""},
	})
}
