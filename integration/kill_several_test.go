package integration

import (
	"regexp"
	"testing"
)

// secondConf is another network, for a sandbox that has one.
const secondConf = `{"cniVersion": "1.1.0", "name": "two", "type": "dbridge",
	"ipam": {"type": "dipam", "subnets": [{"subnet": "10.89.0.0/24"}, {"subnet": "fd00:89::/64"}]}}`

// answering are the system calls by which routes and rules change, and records.
var answering = []string{"sendto", "sendmsg", "renameat", "unlinkat", "exit_group"}

// routing returns all routing of a sandbox, but for the metrics of default routes: one that made way
// for another stays where it is.
func (r *fixture) routing(name string) string {
	r.t.Helper()
	text := ""
	for _, args := range [][]string{{"rule"}, {"-6", "rule"}, {"route", "show", "table", "all"}, {"-6", "route", "show", "table", "all", "type", "unicast"}} {
		text += r.run("ip", append([]string{"-n", name}, args...)...)
	}
	return regexp.MustCompile(`( metric 50\d)|(?m: $)`).ReplaceAllString(text, "")
}

// TestKilledSecondNetwork kills ADD and DEL of a sandbox's second network at every point. DEL then
// leaves it as it was with one: neither network has rules or a table of its own. So does
// another ADD that is followed by DEL, and between the two both have what CHECK wants.
func TestKilledSecondNetwork(t *testing.T) {
	r := killFixture(t)
	second := []string{"containerid=c9", "netns=c9", "ifname=eth1"}
	r.ok(r.plugin("ADD", "dbridge", secondConf, second...))
	r.ok(r.plugin("DEL", "dbridge", secondConf, second...))
	before := r.routing("c9")
	if regexp.MustCompile(`lookup 1\d{9}`).MatchString(before) {
		t.Fatalf("rules with one network:\n%s", before)
	}
	clean := func(what string) {
		t.Helper()
		r.ok(r.plugin("DEL", "dbridge", secondConf, second...))
		if after := r.routing("c9"); after != before {
			t.Errorf("%s: left\n%s\nand it was\n%s", what, after, before)
		}
	}
	eachPointOf(t, answering, func(p point) bool {
		dead := p.kill(t, pluginCall("ADD", "dbridge", secondConf, second...))
		clean(p.String() + ", DEL")
		if !dead {
			return false
		}
		p.kill(t, pluginCall("ADD", "dbridge", secondConf, second...))
		if a := r.plugin("ADD", "dbridge", secondConf, second...); a.err == nil {
			conf := secondConf[:len(secondConf)-1] + `, "prevResult": ` + string(a.out) + `}`
			if a := r.plugin("CHECK", "dbridge", conf, second...); a.err != nil {
				t.Errorf("%s, ADD: CHECK: %s", p, a.out)
			}
		} else if a.failed == nil || a.failed.Code != 4 { // it died when all was done
			t.Errorf("%s, ADD: %s", p, a.out)
		}
		if n := len(regexp.MustCompile(`(?m)^32765:.*lookup 1\d{9}`).FindAllString(r.routing("c9"), -1)); n != 4 {
			t.Errorf("%s, ADD: %d rules, want 4", p, n)
		}
		p.kill(t, pluginCall("DEL", "dbridge", secondConf, second...))
		clean(p.String() + " in DEL, DEL")
		return true
	})
}
