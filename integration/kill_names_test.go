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

// namesRig is a host with a bystander: c9 has names, and keeps them.
func namesRig(t *testing.T) *rig {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed")
	}
	if _, err := exec.LookPath("dig"); err != nil {
		t.Skip("dig is not installed")
	}
	r := newRig(t)
	r.run("cp", "/dev/null", "/etc/resolv.conf")
	r.netns("c1", "c9")
	r.ok(r.plugin("ADD", "ddns", killNames("c9", "10.88.0.9", ""), "containerid=c9", "netns=c9"))
	return r
}

// asked returns who c9 is told that a name is.
func (r *rig) asked(name string) string {
	r.t.Helper()
	return strings.TrimSpace(r.run("nsenter", "--net=/run/netns/c9", "dig", "+short", "+tries=1", "@127.0.0.11", name))
}

// nameless expects c1 to have neither rules nor sockets nor a record, and nobody
// to know it; c9 is as it was.
func (r *rig) nameless(what string) {
	r.t.Helper()
	for _, command := range []string{
		"nsenter --net=/run/netns/c1 nft list ruleset", "nsenter --net=/run/netns/c1 ss -Hlnut", "find /run/dcni/attachments -path '*c1*'",
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

// TestKilledNames kills ADD and DEL of ddns at every point. A DEL, or a GC, makes
// all as it was; another ADD what it was to be.
func TestKilledNames(t *testing.T) {
	r := namesRig(t)
	gc := killNames("c1", "10.88.0.2", `, "cni.dev/valid-attachments": [{"containerID": "c9", "ifname": "eth0"}]`)
	eachPoint(t, func(p point) bool {
		dead := p.kill(t, pluginCall("ADD", "ddns", killNamesConf))
		if p.n%2 == 0 {
			r.ok(r.plugin("DEL", "ddns", killNamesConf, "netns="))
		} else {
			r.ok(r.plugin("GC", "ddns", gc))
		}
		r.nameless(p.String() + " of ADD")
		p.kill(t, pluginCall("ADD", "ddns", killNamesConf))
		if a := r.plugin("ADD", "ddns", killNamesConf); a.err != nil && !strings.Contains(string(a.out), "is attached") {
			t.Errorf("%s, ADD: %s", p, a.out)
		}
		r.ok(r.plugin("CHECK", "ddns", killNamesConf))
		if is := r.asked("c1"); is != "10.88.0.2" {
			t.Errorf("%s, ADD: c1 is said to be %q", p, is)
		}
		dead = p.kill(t, pluginCall("DEL", "ddns", killNamesConf)) || dead
		r.ok(r.plugin("DEL", "ddns", killNamesConf))
		r.nameless(p.String() + " of DEL")
		return dead
	})
}
