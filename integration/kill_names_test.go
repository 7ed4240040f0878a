package integration

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// killNames is the configuration of ddns for a container, with the result of a
// plugin before it.
func killNames(container, address, more string) string {
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "web", "type": "ddns", "intercept": true, "prevResult": {"cniVersion": "1.1.0",
		"interfaces": [{"name": "eth0", "sandbox": "/run/netns/%s"}], "ips": [{"address": "%s/24", "interface": 0}],
		"dns": {"nameservers": ["127.0.0.11"]}}%s}`, container, address, more)
}

var killNamesConf = killNames("c1", "10.88.0.2", "")

// digFixture is a host with two sandboxes and no name servers.
func digFixture(t *testing.T) *fixture {
	if _, err := exec.LookPath("dig"); err != nil {
		t.Skip("dig is not installed")
	}
	r := newFixture(t)
	r.run("cp", "/dev/null", "/etc/resolv.conf")
	r.netns("c1", "c9")
	return r
}

// namesFixture is a host with a bystander: c9 has names, and keeps them.
func namesFixture(t *testing.T) *fixture {
	r := digFixture(t)
	r.ok(r.plugin("ADD", "ddns", killNames("c9", "10.88.0.9", ""), "containerid=c9", "netns=c9"))
	return r
}

// asked returns the address that c9 is told for a name. A dnetd that has just started may
// still be leading c9's queries to another port than before: that is a matter of
// milliseconds, and of a second at most.
func (r *fixture) asked(name string) string {
	r.t.Helper()
	return strings.TrimSpace(r.run("timeout", "20", "sh", "-c",
		"until is=$(nsenter --net=/run/netns/c9 dig +short +tries=1 +timeout=1 @127.0.0.11 "+name+"); do sleep 0.05; done; echo $is"))
}

// policyRoutesLeft lists the policy routes that are left in c1.
const policyRoutesLeft = "for f in -4 -6; do ip -n c1 $f rule; ip -n c1 $f route show table 1684237929 2>/dev/null; done | grep -v '^0:' | grep -v '^3276' || true"

// nameless expects c1 to have no rules, routes, sockets or record, and its name to be
// unknown; c9 is as it was.
func (r *fixture) nameless(what string) {
	r.t.Helper()
	for _, command := range []string{
		"nsenter --net=/run/netns/c1 nft list ruleset", policyRoutesLeft, "nsenter --net=/run/netns/c1 ss -Hlnut", "find /run/dcni/attachments -path '*c1*'",
	} {
		if out := r.run("sh", "-c", command); out != "" {
			r.t.Errorf("%s: %s: %s", what, command, out)
		}
	}
	if is := r.asked("c1"); is != "" {
		r.t.Errorf("%s: c1 is said to be %s", what, is)
	}
	if is := r.asked("c9"); is != "10.88.0.9" {
		r.t.Errorf("%s: c9 is said to be %s", what, is)
	}
}

// TestKilledNames kills ADD and DEL of ddns at every point.
func TestKilledNames(t *testing.T) {
	r := namesFixture(t)
	eachPoint(t, r.killedNames)
}

// killedNames kills ADD and DEL at a point. A DEL, or a GC, makes all as it was;
// another ADD what it was to be.
func (r *fixture) killedNames(p point) (dead bool) {
	conf := killNames("c1", "10.88.0.2", "")
	gc := killNames("c1", "10.88.0.2", `, "cni.dev/valid-attachments": [{"containerID": "c9", "ifname": "eth0"}]`)
	dead = p.kill(r.t, pluginCall("ADD", "ddns", conf))
	if p.n%2 == 0 {
		r.ok(r.plugin("DEL", "ddns", conf, "netns="))
	} else {
		r.ok(r.plugin("GC", "ddns", gc))
	}
	r.nameless(p.String() + " of ADD")
	p.kill(r.t, pluginCall("ADD", "ddns", conf))
	if a := r.plugin("ADD", "ddns", conf); a.err != nil && !strings.Contains(string(a.out), "is attached") {
		r.t.Errorf("%s, ADD: %s", p, a.out)
	}
	r.named(p.String() + ", ADD")
	dead = p.kill(r.t, pluginCall("DEL", "ddns", conf)) || dead
	r.ok(r.plugin("DEL", "ddns", conf))
	r.nameless(p.String() + " of DEL")
	return dead
}

// named expects c1 to have its name.
func (r *fixture) named(what string) {
	r.t.Helper()
	r.ok(r.plugin("CHECK", "ddns", killNamesConf))
	if r.run("sh", "-c", policyRoutesLeft) == "" {
		r.t.Errorf("%s: nothing leads queries without a route", what)
	}
	if is := r.asked("c1"); is != "10.88.0.2" {
		r.t.Errorf("%s: c1 is said to be %q", what, is)
	}
}

// bridgeNames is the configuration of dbridge with names of its own.
func bridgeNames(more string) string {
	return `{"cniVersion": "1.1.0", "name": "web", "type": "dbridge", "names": {"intercept": true},
		"ipam": {"type": "dipam", "subnet": "10.88.0.0/24"}` + more + `}`
}

// TestKilledBridgeNames kills ADD and DEL of a dbridge with names of its own where it
// writes a record, a lease or a message to dnetd: DEL, GC or another ADD leave c1 whole
// or without a trace. Of other calls the tests of dbridge and of ddns have every point.
func TestKilledBridgeNames(t *testing.T) {
	r := digFixture(t)
	c9, c1 := bridgeNames(`, "runtimeConfig": {"ips": ["10.88.0.9"]}`), bridgeNames(`, "runtimeConfig": {"ips": ["10.88.0.2"]}`)
	r.ok(r.plugin("ADD", "dbridge", c9, "containerid=c9", "netns=c9"))
	calls := []string{"renameat", "renameat2", "symlinkat", "unlinkat", "sendmsg", "setns"}
	eachPointOf(t, calls, func(p point) bool {
		dead := p.kill(t, pluginCall("ADD", "dbridge", c1))
		if p.n%2 == 0 {
			r.ok(r.plugin("DEL", "dbridge", c1, "netns="))
		} else {
			r.ok(r.plugin("GC", "dbridge", bridgeNames(`, "cni.dev/valid-attachments": [{"containerID": "c9", "ifname": "eth0"}]`)))
		}
		r.nameless(p.String() + " of ADD")
		r.empty(p.String()+" of ADD", "c1")
		p.kill(t, pluginCall("ADD", "dbridge", c1))
		a := r.plugin("ADD", "dbridge", c1)
		if a.err != nil && !strings.Contains(string(a.out), "is attached") {
			t.Errorf("%s, ADD: %s", p, a.out)
		}
		if is := r.asked("c1"); is != "10.88.0.2" {
			t.Errorf("%s, ADD: c1 is said to be %q", p, is)
		}
		dead = p.kill(t, pluginCall("DEL", "dbridge", c1)) || dead
		r.ok(r.plugin("DEL", "dbridge", c1))
		r.nameless(p.String() + " of DEL")
		r.empty(p.String()+" of DEL", "c1")
		return dead
	})
}
