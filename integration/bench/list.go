package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	types "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"dcni/integration/testhost"
)

// A list is a list of plugins to measure.
type list struct {
	conf *libcni.NetworkConfigList
}

// referenceList does with Debian's plugins what Docker's bridge does.
func referenceList() *list {
	return mustList(`{"cniVersion": "1.0.0", "name": "reference", "plugins": [
		{"type": "bridge", "bridge": "br-reference", "isDefaultGateway": true, "ipMasq": true,
		 "ipam": {"type": "host-local", "subnet": "10.98.0.0/16"}},
		{"type": "portmap", "snat": true, "capabilities": {"portMappings": true}},
		{"type": "firewall"}]}`)
}

func ourList() *list {
	return mustList(`{"cniVersion": "1.0.0", "name": "ours", "plugins": [
		{"type": "dbridge", "bridge": "br-ours", "capabilities": {"portMappings": true},
		 "ipam": {"type": "dipam", "subnet": "10.99.0.0/16"}}]}`)
}

func mustList(conf string) *list {
	parsed, err := libcni.NetworkConfFromBytes([]byte(conf))
	if err != nil {
		panic(err) // a constant
	}
	return &list{parsed}
}

// attachment is container i with some published ports. Both lists publish the
// same ones, in turns.
func attachment(i, ports int) *libcni.RuntimeConf {
	name := sandbox(i)
	mappings := make([]map[string]any, ports)
	for p := range mappings {
		mappings[p] = map[string]any{"hostPort": 10000 + i*ports + p, "containerPort": 80 + p, "protocol": "tcp"}
	}
	return &libcni.RuntimeConf{
		ContainerID: name, NetNS: testhost.NetNSPath(name), IfName: "eth0",
		CapabilityArgs: map[string]any{"portMappings": mappings},
	}
}

func sandbox(i int) string { return "b" + strconv.Itoa(i) }

// add returns the address that the container got.
func (l *list) add(rt *libcni.RuntimeConf, under ...string) (string, error) {
	result, err := l.runtime(under).AddNetworkList(context.Background(), l.conf, rt)
	if err != nil {
		return "", err
	}
	r, err := types.GetResult(result)
	if err != nil {
		return "", err
	}
	if len(r.IPs) == 0 {
		return "", errors.New("result without an address")
	}
	return r.IPs[0].Address.IP.String(), nil
}

func (l *list) del(rt *libcni.RuntimeConf) error {
	return l.runtime(nil).DelNetworkList(context.Background(), l.conf, rt)
}

// both times an ADD and the DEL after it: how long the plugins run, without what
// libcni does before and after.
func (l *list) both(rt *libcni.RuntimeConf) (add, del time.Duration, err error) {
	cni := func(spent *time.Duration) *libcni.CNIConfig {
		return libcni.NewCNIConfig([]string{pluginDir}, &timed{DefaultExec: defaultExec(), spent: spent})
	}
	if _, err := cni(&add).AddNetworkList(context.Background(), l.conf, rt); err != nil {
		return 0, 0, err
	}
	err = cni(&del).DelNetworkList(context.Background(), l.conf, rt)
	return add, del, err
}

// timed adds up how long plugins run.
type timed struct {
	invoke.DefaultExec
	version.PluginDecoder
	spent *time.Duration
}

// ExecPlugin implements invoke.Exec.
func (t *timed) ExecPlugin(ctx context.Context, plugin string, stdin []byte, environ []string) ([]byte, error) {
	start := time.Now()
	out, err := t.DefaultExec.ExecPlugin(ctx, plugin, stdin, environ)
	*t.spent += time.Since(start)
	return out, err
}

// Decode implements invoke.Exec; two embedded types have one.
func (t *timed) Decode(data []byte) (version.PluginInfo, error) { return t.PluginDecoder.Decode(data) }

// pluginDir is where the throwaway host has all plugins.
const pluginDir = "/opt/cni/bin"

func defaultExec() invoke.DefaultExec { return invoke.DefaultExec{RawExec: &invoke.RawExec{}} }

// runtime is libcni. With a prefix, each plugin is run under another program:
// strace to count processes, or our own helper to see its memory.
func (l *list) runtime(under []string) *libcni.CNIConfig {
	if under == nil {
		return libcni.NewCNIConfig([]string{pluginDir}, nil)
	}
	return libcni.NewCNIConfig([]string{pluginDir}, &wrapped{DefaultExec: defaultExec(), under: under})
}

// wrapped runs plugins under another program.
type wrapped struct {
	invoke.DefaultExec
	version.PluginDecoder
	under []string
}

// ExecPlugin implements invoke.Exec.
func (w *wrapped) ExecPlugin(ctx context.Context, plugin string, stdin []byte, environ []string) ([]byte, error) {
	args := append(w.under[1:len(w.under):len(w.under)], plugin)
	cmd := exec.CommandContext(ctx, w.under[0], args...)
	cmd.Env, cmd.Stdin = environ, bytes.NewReader(stdin)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", plugin, err, out)
	}
	return out, nil
}

// Decode implements invoke.Exec; two embedded types have one.
func (w *wrapped) Decode(data []byte) (version.PluginInfo, error) {
	return w.PluginDecoder.Decode(data)
}

// processes counts the programs that one ADD executes, with strace.
func (l *list) processes(rt *libcni.RuntimeConf) (int, error) {
	log := "/run/bench.strace." + l.conf.Name
	_, err := l.add(rt, "strace", "-f", "-qq", "-A", "-e", "trace=execve", "-e", "status=successful", "-o", log)
	if err != nil {
		return 0, err
	}
	data, err := os.ReadFile(log)
	return strings.Count(string(data), "execve("), errors.Join(err, l.del(rt))
}

// memory returns the greatest resident size of any plugin of the list in one
// ADD, in KiB.
func (l *list) memory(rt *libcni.RuntimeConf) (int, error) {
	log := "/run/bench.memory." + l.conf.Name
	if _, err := l.add(rt, "/proc/self/exe", "memory", log); err != nil {
		return 0, err
	}
	data, err := os.ReadFile(log)
	most := 0
	for _, word := range strings.Fields(string(data)) {
		kib, _ := strconv.Atoi(word)
		most = max(most, kib)
	}
	return most, errors.Join(err, l.del(rt))
}

// memory runs a plugin in its place, and adds the plugin's greatest resident
// size to a file: `memory FILE PLUGIN`.
//
// The size is read from /proc while the plugin is stopped at its exit. The
// figure of wait4(2) would not do: it counts in the size of the process that
// forked, which is greater than a plugin.
func memory(log, plugin string) error {
	runtime.LockOSThread() // a tracer is a thread
	cmd := exec.Command(plugin)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	pid := cmd.Process.Pid
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
		return err
	}
	if err := syscall.PtraceSetOptions(pid, syscall.PTRACE_O_TRACEEXIT); err != nil {
		return err
	}
	for signal := 0; ; {
		if err := syscall.PtraceCont(pid, signal); err != nil {
			return err
		}
		if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
			return err
		}
		switch {
		case status.Exited():
			os.Exit(status.ExitStatus())
		case status.Signaled():
			return fmt.Errorf("%s: %s", plugin, status.Signal())
		case status.TrapCause() == syscall.PTRACE_EVENT_EXIT:
			signal = 0
			if err := note(log, pid); err != nil {
				return err
			}
		default:
			signal = int(status.StopSignal())
		}
	}
}

// note appends the size of a process to a file.
func note(log string, pid int) error {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	_, size, _ := bytes.Cut(status, []byte("VmHWM:"))
	size, _, _ = bytes.Cut(size, []byte("kB"))
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, string(size))
	return errors.Join(err, f.Close())
}
