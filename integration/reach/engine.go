package reach

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"dcni/integration/parity"
	"dcni/integration/testhost"
)

// AttachEngine has a Docker engine make the network, and attach three containers to it and one to
// another. docker and binaries are as for [parity.StartDocker]. What it returns ends the engine.
func (w *World) AttachEngine(n *Network, docker, binaries string) (stop func(), err error) {
	engine, err := parity.StartDocker(docker, binaries)
	if err != nil {
		return func() {}, err
	}
	stop = func() {
		_ = engine.Clean() // the host goes
		_ = engine.Stop()
	}
	var ports []port
	if !n.NoPorts {
		ports = []port{published}
	}
	d := client(filepath.Join(docker, "usr/bin/docker"))
	return stop, errors.Join(
		w.ip("host", strings.Join(n.Host, "\n")),
		d.create("n", n.Bridge(), n.of(subnets), n.Engine), d.create("d", otherBridge, otherSubnets, nil),
		w.runContainer(d, "n", "c1", n.of(first), ports), w.runContainer(d, "n", "c2", n.of(second), nil),
		w.runContainer(d, "n", "c3", n.of(third), nil), w.runContainer(d, "d", "d1", otherFirst, []port{otherPublished}))
}

// A client is the path of Docker's client.
type client string

// run runs a command of the client and returns what it prints.
func (c client) run(args ...string) (string, error) {
	cmd := exec.Command(string(c), args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix:///run/docker-engine/socket", "DOCKER_CONFIG=/run/docker-engine/config")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// create makes a network.
func (c client) create(name, bridge string, subnets [2]string, options []string) error {
	args := []string{"network", "create", "-o", "com.docker.network.bridge.name=" + bridge}
	if subnets[1] != "" {
		args = append(args, "--ipv6")
	}
	for _, subnet := range subnets {
		if subnet != "" {
			args = append(args, "--subnet", subnet)
		}
	}
	_, err := c.run(slices.Concat(args, options, []string{name})...)
	return err
}

// runContainer runs a container, whose network namespace gets its name.
func (w *World) runContainer(c client, network, name string, addrs [2]string, ports []port) error {
	args := []string{"run", "-d", "--name", name, "--network", network}
	for i, flag := range []string{"--ip", "--ip6"} {
		if addrs[i] != "" {
			args = append(args, flag, addrs[i])
		}
	}
	for _, p := range ports {
		args = append(args, "-p", fmt.Sprintf("%d:%d", p.host, p.container), "-p", fmt.Sprintf("%d:%d/udp", p.host, p.container))
	}
	if _, err := c.run(append(args, "busybox", "sleep", "100000")...); err != nil {
		return err
	}
	pid, err := c.run("inspect", "-f", "{{.State.Pid}}", name)
	if err != nil {
		return err
	}
	path := testhost.NetNSPath(name)
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		return err
	}
	return unix.Mount("/proc/"+pid+"/ns/net", path, "", unix.MS_BIND, "")
}
