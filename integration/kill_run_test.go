package integration

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// killedRun runs `dnet run` with an orphan in it, and kills dnet, its child, the
// command or a plugin as it makes its n-th deadly system call. It returns
// whether that came, once nobody of them runs any more but for the orphan.
func killedRun(t *testing.T, n int) bool {
	t.Helper()
	cmd := exec.Command("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace="+deadly,
		"-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", deadly, n),
		"dnet", "run", "--rm", "--network", "web", "--name", "c1", "-p", "8080:80",
		"sh", "-c", "setsid sleep 4713 & sleep 0.02")
	cmd.Env = append(os.Environ(), "PATH="+binaries+":"+os.Getenv("PATH"), "NETCONFPATH=/etc/cni/net.d", "CNI_PATH="+pluginDir)
	cmd.Stderr = nil
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for children := 1; children > 0; {
		select {
		case err := <-ended:
			return err != nil
		case <-time.After(20 * time.Millisecond):
			list, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid)) // strace has ended
			children = len(strings.Fields(string(list)))
		}
	}
	// dnet is dead, and strace waits for the orphan, which the next dnet is to kill.
	if out, err := dnet("ps", "-aq").CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("point %d: dnet ps: %v: %s", n, err, out)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatalf("point %d: an orphan is left", n)
	}
	return true
}

// TestKilledRun kills at many points of a container's life. The next dnet makes
// the machine what it was before, and the name and the port can be had again.
func TestKilledRun(t *testing.T) {
	r := killRig(t)
	conf := strings.Replace(killConf(""), `"type"`, `"capabilities": {"portMappings": true}, "type"`, 1)
	if err := os.WriteFile("/etc/cni/net.d/web.conf", []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	before := picture()
	n, killed := 1, 0
	for unharmed := 0; unharmed < 3; n += 5 {
		if killedRun(t, n) {
			killed++
			unharmed = 0
		} else {
			unharmed++
		}
		if out := r.run(binaries+"/dnet", "ps", "-aq"); out != "" {
			t.Errorf("point %d: still there: %s", n, out)
		}
		r.same(fmt.Sprintf("killed at %d", n), before, leftBehind+`|/run/dcni/containers d`)
	}
	r.run(binaries+"/dnet", "run", "--rm", "--network", "web", "--name", "c1", "-p", "8080:80", "true")
	r.same("after all", before, leftBehind+`|/run/dcni/containers d`)
	t.Logf("%d points, killed at %d", n/5, killed)
}
