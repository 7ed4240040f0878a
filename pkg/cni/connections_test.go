package cni

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dcni/pkg/firewall"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// inhabitants are sandboxes in memory.
type inhabitants struct {
	alive, used bool
	processes   []string
}

func (i inhabitants) NetNSAlive(string, uint64) bool { return i.alive }
func (i inhabitants) ReferencedNetNS() (map[uint64]bool, error) {
	return map[uint64]bool{7: i.used}, nil
}
func (i inhabitants) ProcessesIn(string) ([]string, error) { return i.processes, nil }

// connected is a store in which c1 is connected to lab by two plugins that append their calls
// to a file, and has the attachments to networks that are its runtime's.
func connected(t *testing.T, since time.Time, own ...string) (*Connections, func() string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"first", "second"} {
		script := fmt.Sprintf("#!/bin/sh\necho %s $CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_ARGS ns=$CNI_NETNS $(tr -d ' ') >>%s/calls\ntest ! -e %s/broken\n", name, dir, dir)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := &Connections{Store: records.Store{Run: dir, Lib: dir}, Sandboxes: inhabitants{}, Log: &bytes.Buffer{}}
	l := &records.Connection{
		Container: "c1", CNIVersion: "1.0.0", NetNS: "/run/netns/c1", Cookie: 7, Up: true, Moment: records.Moment{Since: since}, Result: []byte(`{"cniVersion":"1.0.0"}`),
		Attachment: records.Attachment{
			Network: "lab", IfName: "eth1", Path: []string{"/nosuch", dir}, Args: [][2]string{{"DNET_CREATOR", "connect"}, {"A", "B"}},
			Values: map[string]any{"mac": "m", "ips": "not asked for"},
			Conf:   []byte(`{"name": "lab", "plugins": [{"type": "first", "capabilities": {"mac": true, "ips": false}}, {"type": "second"}]}`),
		},
	}
	if err := c.Store.PutConnection(l); err != nil {
		t.Fatal(err)
	}
	for _, network := range own {
		r := &records.Record{
			Attachment: wire.Attachment{Network: network, Container: "c1", IfName: "eth0"}, Plugin: "dbridge", State: records.Up, Creator: records.ByCNI,
		}
		if err := c.Store.Put(r); err != nil {
			t.Fatal(err)
		}
	}
	return c, func() string {
		data, _ := os.ReadFile(filepath.Join(dir, "calls"))
		return string(data)
	}
}

// TestFollow ends a container's connections with the last of its runtime's own networks, if the
// sandbox is gone or empty. Plugins are called as libcni calls them.
func TestFollow(t *testing.T) {
	const calls = `second DEL c1 eth1 DNET_CREATOR=connect;A=B ns=NETNS {"cniVersion":"1.0.0","name":"lab","prevResult":{"cniVersion":"1.0.0"},"type":"second"}
first DEL c1 eth1 DNET_CREATOR=connect;A=B ns=NETNS {"capabilities":{"mac":true,"ips":false},"cniVersion":"1.0.0","name":"lab","prevResult":{"cniVersion":"1.0.0"},"runtimeConfig":{"mac":"m"},"type":"first"}
`
	own := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
	for name, c := range map[string]struct {
		left  []string
		netns string
		in    inhabitants
		ends  bool
	}{
		"gone":                 {netns: "/run/netns/c1", ends: true},
		"empty":                {netns: "/run/netns/c1", in: inhabitants{alive: true}, ends: true},
		"inhabited":            {netns: "/run/netns/c1", in: inhabitants{alive: true, processes: []string{"1 (sleep)"}}},
		"said to be gone":      {in: inhabitants{alive: true, processes: []string{"1 (sleep)"}}, ends: true},
		"on another network":   {left: []string{"lan"}},
		"others are connected": {ends: true},
	} {
		connections, called := connected(t, time.Now(), c.left...)
		connections.Sandboxes = c.in
		connections.Follow(own, c.netns)
		want := ""
		if c.ends {
			want = strings.ReplaceAll(calls, "NETNS", c.netns)
		}
		if got := called(); got != want {
			t.Errorf("%s: plugins called:\n%s, want\n%s", name, got, want)
		}
		if connections.Store.HasConnections("c1") == c.ends {
			t.Errorf("%s: it has connections: %t", name, c.ends)
		}
	}
}

// TestReap ends connections of sandboxes that are gone for good, and those that were left half
// made; what can't be ended stays on record.
func TestReap(t *testing.T) {
	long := time.Now().Add(-2 * Grace)
	for name, c := range map[string]struct {
		since  time.Time
		in     inhabitants
		change func(c *Connections, l *records.Connection)
		ends   bool
		fails  bool
	}{
		"gone":     {since: long, ends: true},
		"just now": {since: time.Now()},
		"just now, the clock set forth": {since: long, change: func(_ *Connections, l *records.Connection) {
			l.Moment = records.Now()
			l.Since = long
		}},
		"alive":     {since: long, in: inhabitants{alive: true}},
		"elsewhere": {since: long, in: inhabitants{used: true}},
		"half made": {since: time.Now(), in: inhabitants{alive: true}, change: func(_ *Connections, l *records.Connection) { l.Up = false }, ends: true},
		"untrusted": {since: long, change: func(c *Connections, _ *records.Connection) {
			c.Trusted = func(string) error { return errors.New("no") }
		}, fails: true},
		"no plugins": {since: long, change: func(_ *Connections, l *records.Connection) { l.Path = nil }, fails: true},
		"at work": {since: long, change: func(c *Connections, _ *records.Connection) {
			lock, err := c.Store.LockConnections("c1")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { lock.Unlock() })
		}},
	} {
		connections, called := connected(t, c.since, "web")
		connections.Sandboxes = c.in
		if c.change != nil {
			list, err := connections.Store.Connections("c1")
			if err != nil {
				t.Fatal(err)
			}
			c.change(connections, list[0])
			if err := connections.Store.PutConnection(list[0]); err != nil {
				t.Fatal(err)
			}
		}
		ended, err := connections.Reap()
		if (err != nil) != c.fails || connections.Store.HasConnections("c1") == c.ends || (strings.Count(called(), "DEL") == 2) != c.ends {
			t.Errorf("%s: %v; still connected: %t; plugins called:\n%s", name, err, connections.Store.HasConnections("c1"), called())
		}
		var want []wire.Attachment
		if c.ends {
			want = []wire.Attachment{{Network: "lab", Container: "c1", IfName: "eth1"}}
		}
		if !slices.Equal(ended, want) {
			t.Errorf("%s: ended are %v, want %v", name, ended, want)
		}
	}
}

// TestFollowFails: what can't be ended stays on record, and is told.
func TestFollowFails(t *testing.T) {
	own := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
	for name, c := range map[string]struct {
		spoil func(c *Connections) error
		want  string
	}{
		"a plugin": {func(c *Connections) error { return os.WriteFile(filepath.Join(c.Store.Run, "broken"), nil, 0o600) }, "connections of container c1: network lab: second: exit status 1"},
		"the lock": {func(c *Connections) error {
			lock := filepath.Join(c.Store.Run, "lock")
			return errors.Join(os.RemoveAll(lock), os.Mkdir(lock, 0o700))
		}, "connections of container c1: open "},
	} {
		connections, _ := connected(t, time.Now())
		var log bytes.Buffer
		connections.Log = &log
		if err := c.spoil(connections); err != nil {
			t.Fatal(err)
		}
		connections.Follow(own, "")
		if !strings.Contains(log.String(), c.want) || !connections.Store.HasConnections("c1") {
			t.Errorf("%s: told %q, want %s", name, &log, c.want)
		}
	}
}

// TestEnd ends all connections of a container, whatever lives in its sandbox; a plugin's own
// error is passed on.
func TestEnd(t *testing.T) {
	connections, called := connected(t, time.Now(), "web")
	connections.Sandboxes = inhabitants{alive: true, used: true, processes: []string{"1 (sleep)"}}
	if err := connections.End("c1", "/run/netns/c1"); err != nil || connections.Store.HasConnections("c1") || strings.Count(called(), "ns=/run/netns/c1") != 2 {
		t.Errorf("%v; plugins called:\n%s", err, called())
	}
	for name, c := range map[string]struct{ conf, says, want string }{
		"no JSON":       {`"x"`, "", "network lab: json: "},
		"a type":        {`{"plugins": [{"type": 5}]}`, "", "network lab: type 5: must be a string"},
		"no plugin":     {`{"plugins": [{"type": "none"}]}`, "", "network lab: ipam.type \"none\": no such plugin in CNI_PATH"},
		"its own error": {`{"plugins": [{"type": "first"}]}`, `{"code": 11, "msg": "later", "details": "busy"}`, "network lab: later; busy"},
		"no error":      {`{"plugins": [{"type": "first"}]}`, `{}`, "network lab: first: exit status 1"},
		"no answer":     {`{"plugins": [{"type": "first"}]}`, "oops", "network lab: first: exit status 1"},
	} {
		connections, _ := connected(t, time.Now())
		list, err := connections.Store.Connections("c1")
		if err != nil {
			t.Fatal(err)
		}
		script := fmt.Sprintf("#!/bin/sh\necho '%s'\nexit 1\n", c.says)
		if err := os.WriteFile(filepath.Join(connections.Store.Run, "first"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		list[0].Conf = []byte(c.conf)
		if err := connections.Delete(list[0], ""); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// TestDisconnectKilled: a disconnect that was killed, or whose plugin failed, is finished by Reap, which tells the
// plugins where the sandbox is.
func TestDisconnectKilled(t *testing.T) {
	c, called := connected(t, time.Now(), "web")
	c.Sandboxes = inhabitants{alive: true, processes: []string{"1 (sleep)"}}
	broken := filepath.Join(c.Store.Run, "broken")
	if err := os.WriteFile(broken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := c.Store.Connections("c1")
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if err := c.Disconnect(list[0], "/run/netns/c1"); err == nil {
		t.Error("a plugin that fails is no error")
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	ended, err := c.Reap()
	if err != nil || len(ended) != 1 || c.Store.HasConnections("c1") {
		t.Errorf("ended %v, %v", ended, err)
	}
	if n := strings.Count(called(), "ns=/run/netns/c1 "); n != 3 { // the last plugin's, and both again
		t.Errorf("%d calls with the sandbox:\n%s", n, called())
	}
}

// TestKeptPorts: ports that are kept go when the container ends, by DEL or without one, and not
// before. What can't be read is moved away.
func TestKeptPorts(t *testing.T) {
	own := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
	long := time.Now().Add(-2 * Grace)
	for name, c := range map[string]struct {
		since time.Time
		in    inhabitants
		netns string
		spoil string
		kept  [2]bool // after Follow, and then after Reap
	}{
		"gone":      {since: long, netns: "/run/netns/c1"},
		"said":      {since: long, in: inhabitants{alive: true, processes: []string{"1 (sleep)"}}},
		"inhabited": {since: long, netns: "/run/netns/c1", in: inhabitants{alive: true, processes: []string{"1 (sleep)"}}, kept: [2]bool{true, true}},
		"bad":       {since: long, netns: "/run/netns/c1", in: inhabitants{alive: true, processes: []string{"1 (sleep)"}}, spoil: "{", kept: [2]bool{true, false}},
		"newer":     {since: long, netns: "/run/netns/c1", in: inhabitants{alive: true, processes: []string{"1 (sleep)"}}, spoil: `{"version": 99}`, kept: [2]bool{true, true}},
	} {
		dir := t.TempDir()
		connections := &Connections{Store: records.Store{Run: dir, Lib: dir}, Sandboxes: c.in, Log: &bytes.Buffer{}}
		k := &records.KeptPorts{Container: "c1", NetNS: "/run/netns/c1", Cookie: 7, Moment: records.Moment{Since: c.since}, Ports: []firewall.Port{{HostPort: 8080}}}
		if err := connections.Store.PutKeptPorts(k); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(connections.Store.ConnectionDir("c1"), "ports")
		if c.spoil != "" {
			if err := os.WriteFile(path, []byte(c.spoil), 0o600); err != nil {
				t.Fatal(err)
			}
		} else if got, err := connections.Store.KeptPorts("c1"); err != nil || got.Cookie != 7 || len(got.Ports) != 1 || got.Ports[0].HostPort != 8080 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		connections.Follow(own, c.netns)
		after := [2]bool{connections.Store.HasConnections("c1")}
		_, err := connections.Reap()
		after[1] = connections.Store.HasConnections("c1")
		if after != c.kept || err != nil {
			t.Errorf("%s: kept %v, want %v; %v", name, after, c.kept, err)
		}
	}
	// A container that died without a DEL, and one whose record was just made.
	for name, since := range map[string]time.Time{"dead": long, "new": time.Now()} {
		dir := t.TempDir()
		connections := &Connections{Store: records.Store{Run: dir, Lib: dir}, Log: &bytes.Buffer{}, Sandboxes: inhabitants{}}
		if err := connections.Store.PutKeptPorts(&records.KeptPorts{Container: "c1", NetNS: "/n", Cookie: 7, Moment: records.Moment{Since: since}}); err != nil {
			t.Fatal(err)
		}
		_, err := connections.Reap()
		if kept := connections.Store.HasConnections("c1"); kept != (name == "new") || err != nil {
			t.Errorf("%s: kept %t, %v", name, kept, err)
		}
	}
}
