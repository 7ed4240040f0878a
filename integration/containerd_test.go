package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// containerdConfig keeps everything of containerd in the throwaway host. The
// socket alone is in the script's own folder: the gRPC client's threads are
// not in the host and don't see its /run.
//
// restrict_oom_score_adj: runc can't lower a score without CAP_SYS_RESOURCE,
// which build machines often lack.
const containerdConfig = `version = 2
root = "/run/containerd-test/root"
state = "/run/containerd"
[grpc]
  address = %q
[plugins."io.containerd.internal.v1.opt"]
  path = "/run/containerd-test/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %q
    conf_dir = "/etc/cni/net.d"
    max_conf_num = %d
`

// cmdContainerd starts a containerd that ends with the script, with the test
// image in it, and points ctr at it. A number says how many networks the CRI
// gives to each pod; 0 is all of them.
func cmdContainerd(ts *testscript.TestScript, neg bool, args []string) {
	networks := 1 // containerd's default
	if len(args) == 1 {
		var err error
		networks, err = strconv.Atoi(args[0])
		ts.Check(err)
	}
	if neg || len(args) > 1 {
		ts.Fatalf("usage: containerd [NETWORKS]")
	}
	s := of(ts)
	socket := filepath.Join(ts.Getenv("WORK"), s.name+"c.sock")
	config, image := ts.MkAbs(s.name+"containerd.toml"), ts.MkAbs("image.tar")
	text := fmt.Sprintf(containerdConfig, socket, imageName, pluginDir, networks)
	ts.Check(os.WriteFile(config, []byte(text), 0o600))
	ts.Check(writeImage(image))
	stop, err := startContainerd(config, socket)
	ts.Check(err)
	s.later(ts, stop)
	ts.Setenv("CONTAINERD_ADDRESS", socket)
	for _, namespace := range []string{"k8s.io", "default"} { // of the CRI, of ctr
		ts.Check(ts.Exec("ctr", "-a", socket, "-n", namespace, "image", "import", image))
	}
	s.cri, err = dialCRI(socket)
	ts.Check(err)
	s.later(ts, s.cri.close)
}

// startContainerd returns when containerd answers.
func startContainerd(config, socket string) (stop func(), err error) {
	var log bytes.Buffer
	cmd := exec.Command("containerd", "-c", config)
	cmd.Stdout, cmd.Stderr = &log, &log
	// The runc shim and the plugins find their files by PATH and /run, which
	// are those of this thread.
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // its exit status says only that it was asked to end
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for exec.CommandContext(ctx, "ctr", "-a", socket, "version").Run() != nil {
		if ctx.Err() != nil {
			stop()
			return nil, errors.New("containerd does not answer: " + log.String())
		}
		time.Sleep(50 * time.Millisecond)
	}
	return stop, nil
}
