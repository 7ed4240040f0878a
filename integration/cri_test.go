package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"dcni/integration/testhost"
)

// criClient does what a kubelet does, for pods of one container.
type criClient struct {
	conn    *grpc.ClientConn
	runtime cri.RuntimeServiceClient
	pods    map[string]*pod // by name
}

type pod struct {
	config    *cri.PodSandboxConfig
	sandbox   string // ID
	container string // ID
}

func dialCRI(socket string) (*criClient, error) {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return &criClient{conn, cri.NewRuntimeServiceClient(conn), map[string]*pod{}}, nil
}

// close removes the pods that the script left: their shims would outlive
// containerd until the test ends.
func (c *criClient) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for name := range c.pods {
		_ = c.down(ctx, name)
	}
	_ = c.conn.Close()
}

// cmdPod is the kubelet.
//
//	pod up NAME [port=[IP:]HOST:CONTAINER[/PROTO]...] [annotation=KEY=VALUE...]
//	pod exec NAME COMMAND [ARG...]
//	pod stop NAME
//	pod down NAME
//	pod ready
func cmdPod(ts *testscript.TestScript, neg bool, args []string) {
	c := of(ts).cri
	if c == nil || len(args) == 0 || (len(args) < 2 && args[0] != "ready") {
		ts.Fatalf("usage: containerd, then: pod up|exec|stop|down NAME [WORD...], pod ready")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var err error
	switch args[0] {
	case "ready":
		err = c.ready(ctx)
		for deadline := time.Now().Add(patience); (err == nil) == neg && time.Now().Before(deadline); err = c.ready(ctx) {
			time.Sleep(50 * time.Millisecond)
		}
	case "up":
		err = c.up(ctx, ts, args[1], args[2:])
	case "exec":
		err = c.exec(ctx, ts, args[1], args[2:])
	case "stop":
		_, err = c.runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: c.id(args[1])})
	case "down":
		err = c.down(ctx, args[1])
	default:
		ts.Fatalf("pod %s: want up, exec, stop, down or ready", args[0])
	}
	finish(ts, neg, err)
}

func (c *criClient) id(name string) string {
	if p := c.pods[name]; p != nil {
		return p.sandbox
	}
	return ""
}

// ready fails while containerd has no network to give.
func (c *criClient) ready(ctx context.Context) error {
	status, err := c.runtime.Status(ctx, &cri.StatusRequest{})
	if err != nil {
		return err
	}
	for _, condition := range status.Status.Conditions {
		required := condition.Type == cri.RuntimeReady || condition.Type == cri.NetworkReady // others are remarks
		if required && !condition.Status {
			return fmt.Errorf("%s: %s", condition.Type, condition.Message)
		}
	}
	return nil
}

// up starts a pod, prints its addresses, and gives its network namespace the
// pod's name, so that listen, reach and in work there.
// A pod that dcontainer moved to another one's namespace is not in the one of its name.
func (c *criClient) up(ctx context.Context, ts *testscript.TestScript, name string, words []string) error {
	config, err := podConfig(name, words)
	if err != nil {
		return err
	}
	created, err := c.runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		return err
	}
	p := &pod{config: config, sandbox: created.PodSandboxId}
	c.pods[name] = p
	status, err := c.runtime.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: p.sandbox, Verbose: true})
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintln(ts.Stdout(), status.Status.Network.Ip)
	for _, ip := range status.Status.Network.AdditionalIps {
		_, _ = fmt.Fprintln(ts.Stdout(), ip.Ip)
	}
	path, err := netnsOf(status.Info["info"])
	if err != nil {
		return err
	}
	if err := os.Symlink(path, testhost.NetNSPath(name)); err != nil {
		return err
	}
	return c.start(ctx, p)
}

// podConfig is what a kubelet would say about the pod.
func podConfig(name string, words []string) (*cri.PodSandboxConfig, error) {
	config := &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Namespace: "default", Uid: name + "-uid"},
		Hostname:     name,
		LogDirectory: "/run/containerd-test/log",
		Annotations:  map[string]string{},
		Linux:        &cri.LinuxPodSandboxConfig{CgroupParent: testhost.CgroupParent},
	}
	for _, arg := range words {
		word, value, _ := strings.Cut(arg, "=")
		switch word {
		case "port":
			m, err := portMapping(value)
			if err != nil {
				return nil, err
			}
			config.PortMappings = append(config.PortMappings, criPort(m))
		case "annotation":
			k, v, _ := strings.Cut(value, "=")
			config.Annotations[k] = v
		default:
			return nil, fmt.Errorf("%s=: want port or annotation", word)
		}
	}
	return config, nil
}

func criPort(m map[string]any) *cri.PortMapping {
	p := &cri.PortMapping{
		HostPort: int32(m["hostPort"].(int)), ContainerPort: int32(m["containerPort"].(int)),
		Protocol: cri.Protocol(cri.Protocol_value[strings.ToUpper(m["protocol"].(string))]),
	}
	p.HostIp, _ = m["hostIP"].(string)
	return p
}

// netnsOf finds the path in what containerd says about a sandbox.
func netnsOf(info string) (string, error) {
	var sandbox struct {
		RuntimeSpec struct {
			Linux struct{ Namespaces []struct{ Type, Path string } }
		}
	}
	if err := json.Unmarshal([]byte(info), &sandbox); err != nil {
		return "", fmt.Errorf("sandbox info: %w", err)
	}
	for _, ns := range sandbox.RuntimeSpec.Linux.Namespaces {
		if ns.Type == "network" {
			return ns.Path, nil
		}
	}
	return "", errors.New("sandbox info names no network namespace")
}

// start runs the pod's container, which sleeps.
func (c *criClient) start(ctx context.Context, p *pod) error {
	created, err := c.runtime.CreateContainer(ctx, &cri.CreateContainerRequest{
		PodSandboxId: p.sandbox, SandboxConfig: p.config,
		Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: "main"},
			Image:    &cri.ImageSpec{Image: imageName, UserSpecifiedImage: imageName},
			LogPath:  p.config.Hostname + ".log",
		},
	})
	if err != nil {
		return err
	}
	p.container = created.ContainerId
	_, err = c.runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: p.container})
	return err
}

// exec runs a command in the pod's container.
func (c *criClient) exec(ctx context.Context, ts *testscript.TestScript, name string, cmd []string) error {
	p := c.pods[name]
	if p == nil {
		return fmt.Errorf("no pod %s", name)
	}
	r, err := c.runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: p.container, Cmd: cmd, Timeout: 20})
	if err != nil {
		return err
	}
	_, _ = ts.Stdout().Write(r.Stdout)
	_, _ = ts.Stderr().Write(r.Stderr)
	if r.ExitCode != 0 {
		return fmt.Errorf("%s: exit status %d: %s", strings.Join(cmd, " "), r.ExitCode, r.Stderr)
	}
	return nil
}

// down stops and removes a pod: two DELs, the second without a namespace.
func (c *criClient) down(ctx context.Context, name string) error {
	_, err := c.runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: c.id(name)})
	if err != nil {
		return err
	}
	if _, err := c.runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: c.id(name)}); err != nil {
		return err
	}
	delete(c.pods, name)
	return os.Remove(testhost.NetNSPath(name)) // only the link; containerd removed what it pointed to
}
