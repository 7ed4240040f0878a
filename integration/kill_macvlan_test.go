package integration

import (
	"testing"
)

// killMacvlan is a network whose host has an interface beside its containers.
const killMacvlan = `{"cniVersion": "1.1.0", "name": "lan", "type": "dmacvlan", "parent": "eth0", "hostAccess": true,
	"conflictDetection": false, "ipam": {"type": "dipam", "subnet": "192.0.2.0/24", "ipRange": "192.0.2.128/25"},
	"runtimeConfig": {"ips": ["192.0.2.177"]}}`

// TestKilledMacvlan kills ADD and DEL of a macvlan network, which has all of it in the
// sandbox or shares it with the host, at the calls by which it changes either. A DEL makes
// the machine what it was before; another ADD makes it what it was to be.
func TestKilledMacvlan(t *testing.T) {
	r := newFixture(t)
	if has, err := kernelHas("macvlan"); !has {
		t.Skipf("the kernel has no macvlan: %v", err)
	}
	r.netns("c1")
	r.ok(r.plugin("ADD", "dmacvlan", killMacvlan))
	r.ok(r.plugin("DEL", "dmacvlan", killMacvlan))
	before := takePicture()
	const left = `/run/dcni/(tmp|host d)|/var/lib/dcni/tmp|/\.link |/leases/lan/\.pages`
	eachPointOf(t, []string{"sendto", "sendmsg", "renameat", "unlinkat", "exit_group"}, func(p point) bool {
		dead := p.kill(t, pluginCall("ADD", "dmacvlan", killMacvlan))
		if dead {
			p.kill(t, pluginCall("DEL", "dmacvlan", killMacvlan, "netns="))
		}
		r.ok(r.plugin("DEL", "dmacvlan", killMacvlan, "netns="))
		r.same(p.String()+", DEL", before, left)
		r.empty(p.String(), "c1")
		if !dead {
			return false
		}
		p.kill(t, pluginCall("ADD", "dmacvlan", killMacvlan))
		a := r.plugin("ADD", "dmacvlan", killMacvlan)
		if a.failed == nil { // else all was done before it died
			conf := killMacvlan[:len(killMacvlan)-1] + `, "prevResult": ` + string(r.ok(a).out) + "}"
			if c := r.plugin("CHECK", "dmacvlan", conf); c.err != nil {
				t.Errorf("%s, ADD: CHECK: %s", p, c.out)
			}
		}
		r.ok(r.plugin("DEL", "dmacvlan", killMacvlan))
		return true
	})
}
