package integration

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestKilledServicePorts kills create and rm of a service with ports at every point. The service is there
// whole, or another create makes it so; after rm the machine is what it was before.
func TestKilledServicePorts(t *testing.T) {
	r := dnetFixture(t)
	dnetd := exec.Command(filepath.Join(binaries, "dnetd"), "serve", "--metrics=") // or dnet starts one, which is killed with it
	if err := dnetd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dnetd.Process.Kill(); _ = dnetd.Wait() }()
	r.ok(outcomeOf(dnet("create", "--subnet", "10.88.0.0/24", "web")))
	r.ok(outcomeOf(dnet("run", "-d", "--name", "c1", "--network", "web", "--network-alias", "api", "sleep", "1000")))
	create := []string{"service", "create", "--network", "web", "-p", "8080:80", "-p", "8081:81/udp", "api"}
	rm := func() {
		if again := outcomeOf(dnet("service", "rm", "api")); again.err != nil && !strings.Contains(again.stderr, "no such service") {
			t.Error(again.stderr)
		}
	}
	r.ok(outcomeOf(dnet(create...)))
	r.ok(outcomeOf(dnet("service", "rm", "api")))
	before, there := takePicture(), 0
	r.deaths(func() {}, create, func(what string) {
		if again := outcomeOf(dnet(create...)); again.err != nil {
			there++
			if !strings.Contains(again.stderr, "exists already") {
				t.Errorf("%s: %s", what, again.stderr)
			}
		}
		r.ok(outcomeOf(dnet("service", "ps", "api"))) // which looks at its ports
		out := r.run("nft", "list", "table", "inet", "dcni")
		for _, want := range []string{"ingress4-tcp-8080", "ingress4-udp-8081", "dnat ip to 10.88.0.2:80", `tcp . 8080 comment "_service _web/api"`} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %s in %s", what, want, out)
			}
		}
		rm()
		r.same(what, before, leftBehind)
	})
	t.Logf("the service was there at %d of them", there)
	r.deaths(func() { r.ok(outcomeOf(dnet(create...))) }, []string{"service", "rm", "api"}, func(what string) {
		rm()
		r.same(what+", rm", before, leftBehind+`|/var/lib/dcni/services`) // empty directories, for the next to use
	})
	r.ok(outcomeOf(dnet("stop", "-t", "0", "--rm", "c1")))
}
