package integration

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestKilledHeal kills a heal at every point, on a host that has lost all there
// was. The next one makes all of it again, and no ADD or DEL minds.
func TestKilledHeal(t *testing.T) {
	r := killFixture(t)
	result := string(r.ok(r.plugin("ADD", "dbridge", killConf(killRequest))).out)
	r.ok(r.plugin("ADD", "dbridge", killConf(""), "containerid=c2", "netns=c2"))
	lose := func() {
		r.run("sh", "-c", `nft flush ruleset; echo 0 > /proc/sys/net/ipv4/ip_forward
			ip link del $(ip -o link show type bridge | sed 's/.*: \(br-[0-9a-f]*\):.*/\1/')
			ip -n c1 link del eth0`)
	}
	eachPoint(t, func(p point) bool {
		lose()
		dead := p.kill(t, exec.Command(pluginDir+"/dbridge", "heal"))
		r.run(pluginDir+"/dbridge", "heal")
		if out := r.run(pluginDir+"/dbridge", "heal"); out != "" {
			t.Errorf("%s: healed, and there is more: %s", p, out)
		}
		r.checked(p.String(), "c1", result)
		if !dead || p.n%4 != 1 {
			return dead
		}
		lose()
		p.kill(t, exec.Command(pluginDir+"/dbridge", "heal"))
		r.ok(r.plugin("DEL", "dbridge", killConf(killRequest), "netns="))
		r.empty(p.String(), "c1")
		result = string(r.ok(r.plugin("ADD", "dbridge", killConf(killRequest))).out)
		r.checked(p.String()+", DEL and ADD", "c1", result)
		return true
	})
}

// TestKilledCollect kills a heal at every point as it collects an attachment
// whose namespace is gone. The next one finishes.
func TestKilledCollect(t *testing.T) {
	r := killFixture(t)
	before := takePicture()
	eachPoint(t, func(p point) bool {
		r.netns("c3")
		r.ok(r.plugin("ADD", "dbridge", killConf(killRequest), "containerid=c3", "netns=c3"))
		if err := r.DelNetNS("c3"); err != nil {
			t.Fatal(err)
		}
		heal := func() string {
			r.run("sh", "-c", `sed -i 's/"since": "[^"]*"/"since": "2020-01-01T00:00:00Z"/; s/"sinceBoot": [0-9]*/"sinceBoot": 1/' /run/dcni/attachments/web/*/eth0/dbridge.json`)
			return r.run(pluginDir+"/dbridge", "heal")
		}
		r.run("sh", "-c", "for i in $(seq 500); do ip link show type veth | grep -q 'alias .*web c3/eth0' || break; sleep 0.02; done")
		r.run("sh", "-c", `sed -i 's/"since": "[^"]*"/"since": "2020-01-01T00:00:00Z"/; s/"sinceBoot": [0-9]*/"sinceBoot": 1/' /run/dcni/attachments/web/*/eth0/dbridge.json`)
		dead := p.kill(t, exec.Command(pluginDir+"/dbridge", "heal"))
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			heal()
			if out, _ := exec.Command("ls", "/run/dcni/attachments/web").Output(); !strings.Contains(string(out), "c3") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: not collected", p)
			}
		}
		r.same(p.String(), before, leftBehind, `/run/dcni/attachments/web/c9/eth0/dbridge.json`)
		return dead
	})
}

// TestHealBesideStorm attaches and deletes many containers at a time while dnetd
// runs and heals are asked for besides: nothing fails, nothing is left, and
// dnetd finds nothing to put back.
func TestHealBesideStorm(t *testing.T) {
	r := newFixture(t)
	const containers, atATime, rounds = 40, 20, 3
	for i := range containers {
		r.netns(fmt.Sprintf("s%d", i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	dnetd := exec.CommandContext(ctx, binaries+"/dnetd", "serve", "--metrics=", "--log-level=debug")
	var log strings.Builder
	dnetd.Stderr = &log
	if err := dnetd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = dnetd.Wait() }()
	conf := `{"cniVersion": "1.1.0", "name": "web", "type": "dbridge", "icc": false, "ipam": {"type": "dipam", "subnet": "10.88.0.0/24"}}`
	healing := r.repeat(ctx, pluginDir+"/dbridge", "heal")
	limit := make(chan struct{}, atATime)
	var wg sync.WaitGroup
	for i := range containers {
		wg.Go(func() {
			if err := r.Thread(); err != nil {
				t.Error(err)
				return
			}
			for range rounds {
				for _, verb := range []string{"ADD", "DEL"} {
					limit <- struct{}{}
					name := fmt.Sprintf("s%d", i)
					a := outcomeOf(pluginCall(verb, "dbridge", conf, "containerid="+name, "netns="+name))
					<-limit
					if a.err != nil {
						t.Errorf("%s %s: %s%s", verb, name, a.out, a.stderr)
					}
				}
			}
		})
	}
	wg.Wait()
	time.Sleep(300 * time.Millisecond) // for hints that still wait
	cancel()
	_ = dnetd.Wait()
	<-healing
	t.Logf("%d runs besides", strings.Count(log.String(), "msg=heals"))
	if strings.Contains(log.String(), "put back") || strings.Contains(log.String(), "level=WARN") {
		t.Errorf("dnetd: %s", log.String())
	}
	if out, _ := exec.Command("sh", "-c", "ls /run/dcni/attachments; ip -o link | grep ': veth[0-9a-z]\\{11\\}@'").Output(); len(out) > 0 {
		t.Errorf("left: %s", out)
	}
}

// repeat runs a command in the host again and again until the context ends.
func (r *fixture) repeat(ctx context.Context, name string, args ...string) (done <-chan struct{}) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := r.Thread(); err != nil {
			r.t.Error(err)
			return
		}
		for ctx.Err() == nil {
			if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
				r.t.Errorf("%s %v: %v: %s", name, args, err, out)
				return
			}
		}
	}()
	return ended
}
