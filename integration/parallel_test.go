package integration

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// atOnce starts all calls before it waits for the first.
func (r *fixture) atOnce(calls []*exec.Cmd) []outcome {
	r.t.Helper()
	outcomes := make([]outcome, len(calls))
	done := make(chan struct{})
	for i, call := range calls {
		var out, stderr strings.Builder
		call.Stdout, call.Stderr = &out, &stderr
		if err := call.Start(); err != nil { // on this thread, which is the host
			r.t.Fatal(err)
		}
		go func() {
			outcomes[i].err = call.Wait()
			outcomes[i].out, outcomes[i].stderr = []byte(out.String()), stderr.String()
			done <- struct{}{}
		}()
	}
	for range calls {
		<-done
	}
	for i := range calls {
		if outcomes[i].err != nil {
			r.t.Errorf("call %d: %v: %s%s", i, outcomes[i].err, outcomes[i].out, outcomes[i].stderr)
		}
	}
	return outcomes
}

// TestParallel attaches and detaches twenty containers at once, the first time
// on a machine that has nothing yet, with a GC that keeps them all beside.
func TestParallel(t *testing.T) {
	const containers, rounds = 20, 4
	r := newFixture(t)
	var names, keep []string
	for i := range containers {
		names = append(names, fmt.Sprintf("c%d", i))
		keep = append(keep, fmt.Sprintf(`{"containerID": "c%d", "ifname": "eth0"}`, i))
	}
	r.netns(names...)
	conf := func(i int, more string) string {
		return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "web", "type": "dbridge",
			"ipam": {"type": "dipam"}, "ipv6": true, "runtimeConfig": {"portMappings": [{"hostPort": %d, "containerPort": 80}]}%s}`, 8000+i, more)
	}
	gc := func() *exec.Cmd {
		return pluginCall("GC", "dbridge", conf(0, `, "cni.dev/valid-attachments": [`+strings.Join(keep, ",")+`]`))
	}
	var before picture
	for round := range rounds {
		what := fmt.Sprintf("round %d", round)
		var adds, checks, dels []*exec.Cmd
		for i, c := range names {
			adds = append(adds, pluginCall("ADD", "dbridge", conf(i, ""), "containerid="+c, "netns="+c))
			dels = append(dels, pluginCall("DEL", "dbridge", conf(i, ""), "containerid="+c, "netns="+c))
		}
		outcomes := r.atOnce(append(adds, gc(), gc()))[:containers]
		r.differ(what, outcomes)
		for i, c := range names {
			more := `, "prevResult": ` + string(outcomes[i].out)
			checks = append(checks, pluginCall("CHECK", "dbridge", conf(i, more), "containerid="+c, "netns="+c))
		}
		r.atOnce(append(checks, gc()))
		r.atOnce(append(dels, gc(), gc()))
		if round == 0 {
			before = takePicture()
			continue
		}
		r.same(what, before)
	}
	for _, line := range slices.Concat(before...) {
		if strings.Contains(line, "/attachments/web") || regexp.MustCompile(`[ /]c\d+/eth0`).MatchString(line) {
			t.Errorf("left: %s", line)
		}
	}
}

// differ expects results with no address twice.
func (r *fixture) differ(what string, outcomes []outcome) {
	r.t.Helper()
	whose := map[string]int{}
	for i, o := range outcomes {
		var result types100.Result
		if err := json.Unmarshal(o.out, &result); err != nil || len(result.IPs) != 2 {
			r.t.Errorf("%s: c%d: %v: %s", what, i, err, o.out)
		}
		for _, ip := range result.IPs {
			if other, twice := whose[ip.Address.String()]; twice {
				r.t.Errorf("%s: %s is c%d's and c%d's", what, &ip.Address, other, i)
			}
			whose[ip.Address.String()] = i
		}
	}
}

// TestParallelFailures makes the first ADDs of a network fail while others
// succeed: a registration that one takes back must not be another's.
func TestParallelFailures(t *testing.T) {
	const pairs, rounds = 8, 6
	r := newFixture(t)
	good := func(name string) string {
		return `{"cniVersion": "1.1.0", "name": "` + name + `", "type": "dbridge", "ipam": {"type": "dipam"}}`
	}
	bad := func(name string) string {
		return strings.TrimSuffix(good(name), "}") + `, "runtimeConfig": {"ips": ["9.9.9.9"]}}`
	}
	for i := range pairs {
		r.netns(fmt.Sprintf("g%d", i), fmt.Sprintf("b%d", i))
	}
	for round := range rounds {
		name := fmt.Sprintf("net%d", round)
		var calls []*exec.Cmd
		for i := range pairs {
			g, b := fmt.Sprintf("g%d", i), fmt.Sprintf("b%d", i)
			refused := pluginCall("ADD", "dbridge", bad(name), "containerid="+b, "netns="+b)
			refused.Path, refused.Args = "/bin/sh", []string{"sh", "-c", "! " + refused.Path}
			calls = append(calls, refused, pluginCall("ADD", "dbridge", good(name), "containerid="+g, "netns="+g, fmt.Sprintf("ifname=eth%d", round)))
		}
		r.atOnce(calls)
		r.run("test", "-s", "/var/lib/dcni/networks/"+name+".json")
		bridge := r.run("sh", "-c", "sed -n 's/.*\"bridge\": \"\\(.*\\)\"/\\1/p' /var/lib/dcni/networks/"+name+".json")
		r.run("ip", "link", "show", "dev", strings.TrimSpace(bridge), "up")
		for i := range pairs {
			if out := r.run("ip", "-n", fmt.Sprintf("g%d", i), "-o", "-4", "addr", "show", "dev", fmt.Sprintf("eth%d", round)); !strings.Contains(out, "172.") {
				t.Errorf("round %d: g%d: %s", round, i, out)
			}
		}
	}
}
