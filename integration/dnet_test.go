package integration

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dcni/pkg/mode"
	"dcni/pkg/mode/bridge"
	"dcni/pkg/network/catalog"
)

// dnet is one call of the command.
func dnet(args ...string) *exec.Cmd { return exec.Command(filepath.Join(binaries, "dnet"), args...) }

// dnetFixture is a host where dnet is installed.
func dnetFixture(t *testing.T, names ...string) *fixture {
	t.Helper()
	if _, err := os.Stat(filepath.Join(binaries, "dnet")); err != nil {
		t.Skip("bin/dnet is not built")
	}
	r := newFixture(t)
	r.netns(names...)
	return r
}

// networks returns the subnets in the files of the host, by network, and
// expects that they have no address in common.
func (r *fixture) networks(what string) map[string][]netip.Prefix {
	r.t.Helper()
	files, _ := filepath.Glob("/etc/cni/net.d/*.conflist")
	all := map[string][]netip.Prefix{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			r.t.Fatal(err)
		}
		c, err := catalog.ParseConflist(data, mode.All)
		if err != nil {
			r.t.Errorf("%s: %s: %v", what, file, err)
			continue
		}
		f, err := c.Facts(nil)
		if err != nil || len(f.Subnets) == 0 {
			r.t.Errorf("%s: %s: %v: %s", what, file, err, data)
		}
		for _, s := range f.Subnets {
			for other, subnets := range all {
				for _, p := range subnets {
					if p.Overlaps(s.Prefix) {
						r.t.Errorf("%s: %s of %s overlaps %s of %s", what, s.Prefix, c.Name, p, other)
					}
				}
			}
			all[c.Name] = append(all[c.Name], s.Prefix)
		}
	}
	return all
}

// pluginConf is what a runtime sends a network's first plugin.
func (r *fixture) pluginConf(name string) string {
	r.t.Helper()
	data, err := os.ReadFile("/etc/cni/net.d/dcni-" + name + ".conflist")
	if err != nil {
		r.t.Fatal(err)
	}
	c, err := catalog.ParseConflist(data, mode.All)
	if err != nil {
		r.t.Fatal(err)
	}
	conf := map[string]any{}
	if err := json.Unmarshal(c.Plugins[0], &conf); err != nil {
		r.t.Fatal(err)
	}
	conf["name"], conf["cniVersion"] = name, "1.1.0"
	delete(conf, "names") // that no dnetd is started, which these tests are not about
	out, err := json.Marshal(conf)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(out)
}

// TestDnetParallel creates networks at once: those of different names have
// different subnets, also from those that a plugin chooses at the same time, and
// of one name there is one network.
func TestDnetParallel(t *testing.T) {
	const each = 8
	r := dnetFixture(t, "c0", "c1", "c2")
	calls := []*exec.Cmd{}
	for i := range each {
		calls = append(calls, dnet("create", fmt.Sprintf("n%d", i)))
		if i < 3 {
			conf := fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "hand%d", "type": "dbridge"}`, i)
			calls = append(calls, pluginCall("ADD", "dbridge", conf, fmt.Sprintf("netns=c%d", i)))
		}
	}
	r.atOnce(calls)
	all := r.networks("different names")
	if len(all) != each {
		t.Errorf("%d networks, want %d", len(all), each)
	}
	for _, o := range []string{"c0", "c1", "c2"} {
		out := strings.Fields(r.run("ip", "-o", "-4", "-n", o, "addr", "show", "eth0"))
		got := netip.MustParsePrefix(out[3]).Masked()
		for name, subnets := range all {
			if subnets[0].Overlaps(got) {
				t.Errorf("%s has %s, which %s has", o, got, name)
			}
		}
	}

	done := make(chan error, each)
	for range each {
		call := dnet("create", "same")
		var stderr strings.Builder
		call.Stderr = &stderr
		if err := call.Start(); err != nil {
			t.Fatal(err)
		}
		go func() {
			err := call.Wait()
			if err != nil && stderr.String() != "dnet: network with name same already exists\n" {
				err = fmt.Errorf("unexpected: %s", stderr.String())
				t.Error(err)
			}
			done <- err
		}()
	}
	created := 0
	for range each {
		if <-done == nil {
			created++
		}
	}
	if created != 1 {
		t.Errorf("%d created one network", created)
	}
	r.networks("one name")
}

// fatal are those of the deadly system calls that dnet makes.
var fatal = []string{"mkdirat", "linkat", "renameat", "unlinkat", "write", "sendto", "exit_group"}

// deaths kills a call of dnet at every point. before prepares each, and after
// looks at what is left; the last one of each kind of point survives.
func (r *fixture) deaths(before func(), args []string, after func(what string)) {
	r.t.Helper()
	points := 0
	for _, call := range fatal {
		for n, dead := 1, true; dead; n++ {
			before()
			cmd := point{call, n}.command(filepath.Join(binaries, "dnet"), args...)
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() == noKillat {
				r.t.Fatalf("%v: %s", err, out)
			}
			dead = err != nil
			if dead {
				points++
			}
			if strings.Contains(string(out), "dnet: ") {
				r.t.Errorf("%s %d: an error instead of death: %s", call, n, out)
			}
			after(fmt.Sprintf("killed at %s %d", call, n))
		}
	}
	if points == 0 {
		r.t.Error("nothing was killed")
	}
	r.t.Logf("%d points", points)
}

// TestKilledCreate kills create at every point. The network is there whole, or
// not at all, and its subnet to be had.
func TestKilledCreate(t *testing.T) {
	r := dnetFixture(t, "c1")
	r.ok(outcomeOf(dnet("create", "first")))
	use := func() {
		conf := r.pluginConf("web")
		r.ok(r.plugin("ADD", "dbridge", conf))
		r.ok(r.plugin("DEL", "dbridge", conf))
	}
	r.ok(outcomeOf(dnet("create", "--ipv6", "web")))
	use()
	r.ok(outcomeOf(dnet("rm", "web")))
	before, there := takePicture(), 0
	r.deaths(func() {}, []string{"create", "--ipv6", "web"}, func(what string) {
		r.networks(what)
		// What the killed create registered blocks no subnet, if it wrote no file.
		r.ok(outcomeOf(dnet("create", "second")))
		all := r.networks(what + ", another")
		if _, whole := all["web"]; whole {
			there++
		} else {
			if got := all["second"][0].String(); got != "172.19.0.0/16" {
				t.Errorf("%s: the next network has %s", what, got)
			}
			r.ok(outcomeOf(dnet("create", "--ipv6", "web")))
			r.networks(what + ", again")
		}
		use()
		r.ok(outcomeOf(dnet("rm", "web", "second")))
		r.same(what, before, leftBehind)
	})
	t.Logf("the network was there at %d of them", there)
}

// TestKilledRemove kills rm at every point. Another rm, or a create of the same
// name, goes on where it ended; containers of other networks do not notice.
func TestKilledRemove(t *testing.T) {
	r := dnetFixture(t, "c1", "c9")
	r.ok(outcomeOf(dnet("create", "--subnet", "10.1.0.0/24", "other")))
	r.ok(r.plugin("ADD", "dbridge", r.pluginConf("other"), "containerid=c9", "netns=c9"))
	use := func() {
		conf := r.pluginConf("web")
		r.ok(r.plugin("ADD", "dbridge", conf))
		r.ok(r.plugin("DEL", "dbridge", conf))
	}
	web := func() {
		r.ok(outcomeOf(dnet("create", "--ipv6", "--subnet", "10.2.0.0/24", "web")))
		use()
	}
	web()
	r.ok(outcomeOf(dnet("rm", "web")))
	before := takePicture()
	r.deaths(web, []string{"rm", "web"}, func(what string) {
		// Where rm had done all, there is nothing to go on with.
		if again := outcomeOf(dnet("rm", "web")); again.err != nil && again.stderr != "dnet: network web not found\n" {
			t.Errorf("%s: %s", what, again.stderr)
		}
		r.same(what+", rm", before, leftBehind)
	})
	r.deaths(web, []string{"rm", "web"}, func(what string) {
		create := outcomeOf(dnet("create", "--subnet", "10.3.0.0/24", "web"))
		switch {
		case create.err == nil:
			use()
			if out := r.run("ip", "-br", "-4", "addr", "show", bridge.Link("web")); !strings.HasSuffix(strings.TrimSpace(out), " 10.3.0.1/24") {
				t.Errorf("%s: the bridge has %s", what, out)
			}
		case create.stderr != "dnet: network with name web already exists\n":
			t.Errorf("%s: %s", what, create.stderr)
		}
		r.ok(outcomeOf(dnet("rm", "web")))
		r.same(what+", create", before, leftBehind)
	})
	r.run("ip", "netns", "exec", "c9", "ping", "-c1", "-W1", "10.1.0.1")
}

// TestRemoveRacesAdd removes a network while a container is being attached. If
// ADD succeeds, the container is attached whole; what it then made of a network
// without a file, another rm takes away.
func TestRemoveRacesAdd(t *testing.T) {
	r := dnetFixture(t, "c1", "c9")
	r.ok(outcomeOf(dnet("create", "--subnet", "10.1.0.0/24", "other")))
	r.ok(r.plugin("ADD", "dbridge", r.pluginConf("other"), "containerid=c9", "netns=c9"))
	before := takePicture()
	const rounds = 20
	refused := 0
	for i := range rounds {
		what := fmt.Sprintf("round %d", i)
		r.ok(outcomeOf(dnet("create", "--subnet", "10.2.0.0/24", "web")))
		conf := r.pluginConf("web")
		r.ok(r.plugin("ADD", "dbridge", conf))
		r.ok(r.plugin("DEL", "dbridge", conf))
		add, rm := pluginCall("ADD", "dbridge", conf), dnet("rm", "web")
		var result, stderr strings.Builder
		add.Stdout, rm.Stderr = &result, &stderr
		if err := add.Start(); err != nil {
			t.Fatal(err)
		}
		if err := rm.Start(); err != nil {
			t.Fatal(err)
		}
		if err := add.Wait(); err != nil {
			t.Errorf("%s: ADD: %s", what, result.String())
		}
		if rm.Wait() != nil {
			refused++
			if !strings.Contains(stderr.String(), "has active endpoints") {
				t.Errorf("%s: rm: %s", what, stderr.String())
			}
		}
		with := strings.TrimSuffix(conf, "}") + `, "prevResult": ` + result.String() + "}"
		r.ok(r.plugin("CHECK", "dbridge", with))
		r.ok(r.plugin("DEL", "dbridge", conf))
		r.ok(outcomeOf(dnet("rm", "web")))
		r.same(what, before, leftBehind)
	}
	t.Logf("rm was refused in %d of %d rounds", refused, rounds)
}
