package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"dcni/pkg/overlay/etcd/member"
)

// A memberProcess is the cluster's etcd member.
type memberProcess struct {
	dir, client, peer string
	cmd               *exec.Cmd
	stdin             io.Closer // the member ends with it
}

// newMember starts a member with no data.
func newMember() (*memberProcess, error) {
	dir, err := os.MkdirTemp("", "scale-")
	if err != nil {
		return nil, err
	}
	m := &memberProcess{dir: dir}
	for _, url := range []*string{&m.client, &m.peer} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		*url = "http://" + l.Addr().String()
		_ = l.Close()
	}
	return m, m.start()
}

// start starts the member with the data that it has, and returns when it serves.
func (m *memberProcess) start() error {
	m.cmd = exec.Command("/proc/self/exe", "member", m.dir, m.client, m.peer)
	m.cmd.Stderr = os.Stderr
	var err error
	if m.stdin, err = m.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := m.cmd.Start(); err != nil {
		return err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return fmt.Errorf("the member did not start: %w", m.cmd.Wait())
	}
	return nil
}

// memberMain is the member's process. It ends with its standard input.
func memberMain(args []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	m, err := member.Start(ctx, member.Config{
		Name: "scale", Dir: args[0] + "/data", Client: args[1], Peer: args[2],
		Members: map[string]string{"scale": args[2]}, Cluster: "scale", State: member.New, Log: args[0] + "/log",
	})
	if err != nil {
		return err
	}
	fmt.Println("serves")
	_, _ = io.Copy(io.Discard, os.Stdin)
	m.Close()
	return nil
}

// kill ends the member as a power cut would.
func (m *memberProcess) kill() {
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait()
}

// remove ends the member and removes its data.
func (m *memberProcess) remove() error {
	m.kill()
	_ = m.stdin.Close()
	return os.RemoveAll(m.dir)
}

// cpu returns the CPU time that the member has used.
func (m *memberProcess) cpu() (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	const user, tick = 11, 10 * time.Millisecond // fields after the name; USER_HZ is 100
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+2:]))
	var total time.Duration
	for _, f := range fields[user : user+2] {
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0, err
		}
		total += time.Duration(n) * tick
	}
	return total, nil
}

// peak returns the most memory that the member has had resident, in MB.
func (m *memberProcess) peak() (float64, error) { return resident(m.cmd.Process.Pid, "VmHWM:") }

// forgetPeak begins the peak anew.
func (m *memberProcess) forgetPeak() error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", m.cmd.Process.Pid), []byte("5"), 0) // proc(5)
}

// resident returns a size of a process in MB (10^6 bytes), by its name in /proc/PID/status.
func resident(pid int, which string) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(data), which)
	kib, err := strconv.Atoi(strings.Fields(rest + " -")[0])
	return float64(kib) * 1024 / 1e6, err
}

// sent returns how many bytes of gRPC messages the member has sent to clients.
func (m *memberProcess) sent() (float64, error) {
	r, err := http.Get(m.client + "/metrics")
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	for lines := bufio.NewScanner(r.Body); lines.Scan(); {
		if n, ok := strings.CutPrefix(lines.Text(), "etcd_network_client_grpc_sent_bytes_total "); ok {
			return strconv.ParseFloat(n, 64)
		}
	}
	return 0, fmt.Errorf("the member's metrics lack the bytes that it sent")
}

// ownCPU returns the CPU time that this process has used: all the nodes'.
func ownCPU() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, err
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
