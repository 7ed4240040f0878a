package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"dcni/integration/testhost"
)

// nerdctl is built for the tests by scripts/nerdctl.
var nerdctl = filepath.Join(binaries, "test/nerdctl")

// nerdctlConfig has it use the script's containerd, and no systemd, which build
// machines may lack, to make cgroups.
const nerdctlConfig = `address = %q
cgroup_manager = "cgroupfs"
`

// cmdNerdctl runs nerdctl, which the first call sets up. What "nerdctl run"
// starts is of the test image, and in the background.
func cmdNerdctl(ts *testscript.TestScript, neg bool, args []string) {
	s := of(ts)
	if len(args) == 0 || s.cri == nil {
		ts.Fatalf("usage: containerd, then: nerdctl ARG...")
	}
	if !s.nerdctl {
		s.nerdctl = true
		ts.Check(setUpNerdctl(ts.Getenv("CONTAINERD_ADDRESS")))
		s.later(ts, removeNerdctl)
	}
	if args[0] == "run" {
		args = slices.Concat([]string{"run", "-d", "--pull", "never", "--cgroup-parent", testhost.CgroupParent}, args[1:], []string{imageName})
	}
	cmdIn(ts, neg, append([]string{"host", nerdctl}, args...))
}

func setUpNerdctl(containerd string) error {
	const path = "/etc/nerdctl/nerdctl.toml"
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, fmt.Appendf(nil, nerdctlConfig, containerd), 0o644)
}

// removeNerdctl removes the containers that the script left: their shims would
// outlive containerd until the test ends.
func removeNerdctl() {
	list, _ := exec.Command(nerdctl, "ps", "-aq").Output()
	if ids := strings.Fields(string(list)); len(ids) > 0 {
		_ = exec.Command(nerdctl, append([]string{"rm", "-f"}, ids...)...).Run()
	}
}
