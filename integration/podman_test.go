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

// podmanFiles configure the throwaway host's Podman, where Podman looks for
// them by itself. Only the network section is about networks; the rest is for
// build machines: without CAP_SYS_RESOURCE the default limits can't be set,
// there is no systemd to ask for cgroups, no journal to write events to, and an
// overlay file system can't be laid over another one, which /var/lib is here.
var podmanFiles = map[string]string{
	"/etc/containers/containers.conf": `[network]
network_backend = "cni"
default_network = "web"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
default_sysctls = []
`,
	"/etc/containers/storage.conf": `[storage]
driver = "overlay"
graphroot = "/run/containers-test"
runroot = "/run/containers"
`,
}

// podmanHasCNI reports whether podman is there with its CNI backend, which
// version 5 no longer has.
func podmanHasCNI() bool {
	out, err := exec.Command("podman", "--version").Output()
	var major int
	_, _ = fmt.Sscanf(string(out), "podman version %d.", &major) // 0 where it is something else
	return err == nil && major > 0 && major < 5
}

// cmdPodman runs podman, which the first call sets up. What "podman run" and
// "podman pod create" start is of the test image, and in the background.
func cmdPodman(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: podman ARG...")
	}
	s := of(ts)
	if !s.podman {
		s.podman = true
		ts.Check(setUpPodman(ts.MkAbs("image.tar")))
		s.later(ts, func() { _ = exec.Command("podman", "rm", "-fa", "-t", "0").Run() })
	}
	const parent = "--cgroup-parent=" + testhost.CgroupParent
	switch {
	case args[0] == "run":
		args = slices.Concat([]string{"run", "-d", parent}, args[1:], []string{imageName})
	case len(args) > 1 && args[0] == "pod" && args[1] == "create":
		args = slices.Concat([]string{"pod", "create", parent, "--infra-image", imageName}, args[2:])
	}
	cmdIn(ts, neg, append([]string{"host", "podman"}, args...))
}

// setUpPodman configures podman and gives it the image.
func setUpPodman(image string) error {
	for path, text := range podmanFiles {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := writeImage(image); err != nil {
		return err
	}
	if out, err := exec.Command("podman", "load", "-q", "-i", image).CombinedOutput(); err != nil {
		return fmt.Errorf("podman load: %w: %s", err, out)
	}
	return nil
}

// podmanNetNS asks podman for the network namespace of a running container.
func podmanNetNS(container string) (string, error) {
	out, err := exec.Command("podman", "inspect", "-f", "{{.NetworkSettings.SandboxKey}}", container).Output()
	if err != nil {
		return "", fmt.Errorf("podman inspect %s: %w", container, err)
	}
	return strings.TrimSpace(string(out)), nil
}
