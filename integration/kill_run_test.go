package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// killRun runs `dnet run` with an orphan in it, and kills dnet, its child, the
// command and the plugin, each as it comes to the point by itself. It returns
// whether dnet died, when none of these processes runs any more but the orphan.
func (p point) killRun(t *testing.T) bool {
	t.Helper()
	cmd := p.command("dnet", "run", "--rm", "--network", "web", "--name", "c1", "-p", "8080:80",
		"sh", "-c", "setsid sleep 4714 & sleep 0.02")
	cmd.Env = append(os.Environ(), "PATH="+binaries+":"+os.Getenv("PATH"), "NETCONFPATH=/etc/cni/net.d", "CNI_PATH="+pluginDir)
	cmd.Stderr = nil
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for started, alive := false, true; alive || !started; started = started || alive {
		select {
		case err := <-ended:
			if cmd.ProcessState.ExitCode() == noKillat {
				t.Fatalf("%s: killat failed", p)
			}
			return err != nil
		case <-time.After(20 * time.Millisecond):
			list, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid)) // killat has ended
			alive = len(strings.Fields(string(list))) > 0
		}
	}
	// dnet is dead, and killat waits for the orphan, which the next dnet is to kill.
	if out, err := dnet("rm", "-f", "nosuch").CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%s: dnet rm: %v: %s", p, err, out)
	}
	select {
	case err := <-ended:
		return err != nil
	case <-time.After(time.Minute):
		t.Fatalf("%s: an orphan is left", p)
	}
	return true
}

// TestKilledRun kills at many points of a container's life. The next dnet makes
// the machine what it was before, and the name and the port can be had again.
func TestKilledRun(t *testing.T) {
	r := killFixture(t)
	conf := strings.Replace(killConf(""), `"type"`, `"capabilities": {"portMappings": true}, "type"`, 1)
	if err := os.WriteFile("/etc/cni/net.d/web.conf", []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	before := takePicture()
	eachPoint(t, func(p point) bool {
		dead := p.killRun(t)
		r.run(binaries+"/dnet", "rm", "-f", "nosuch") // cleans up
		if out := r.run(binaries+"/dnet", "ps", "-aq"); out != "" {
			t.Errorf("%s: still there: %s", p, out)
		}
		r.same(p.String(), before, leftBehind+`|/run/dcni/containers d`)
		return dead
	})
	r.run(binaries+"/dnet", "run", "--rm", "--network", "web", "--name", "c1", "-p", "8080:80", "true")
	r.same("after all", before, leftBehind+`|/run/dcni/containers d`)
}
