package hostports

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"dcni/pkg/firewall"
)

// TestTaken: the error names dnetd, here a shell of that name, and no other program.
func TestTaken(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: others' sockets are not seen")
	}
	for _, name := range []string{"dnetd", "nginx"} {
		listener, pid := heldBy(t, name)
		want := fmt.Sprintf("failed to bind host port 0.0.0.0:%d/tcp: address already in use", listener.Port)
		if name == "dnetd" {
			want += fmt.Sprintf(" by dnetd, process %d: see its --metrics", pid)
		}
		got := Taken(listener, firewall.Port{HostPort: listener.Port, Protocol: "tcp"}, false)
		if got.Error() != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// heldBy has a program of a name hold a listener, until the test ends.
func heldBy(t *testing.T, name string) (held Listener, pid int) {
	t.Helper()
	program := filepath.Join(t.TempDir(), name)
	shell, err := os.ReadFile("/bin/sh")
	if err == nil {
		err = os.WriteFile(program, shell, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.Command(program, "-c", "read x; exit 0")
	cmd.ExtraFiles = []*os.File{file}
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = io.WriteString(stdin, "\n")
		_ = cmd.Wait()
	})
	if err := os.Remove(program); err != nil { // as an upgrade does
		t.Fatal(err)
	}
	list, err := Listeners("tcp")
	i := slices.IndexFunc(list, func(found Listener) bool {
		return found.Port == l.Addr().(*net.TCPAddr).AddrPort().Port()
	})
	if err != nil || i < 0 {
		t.Fatalf("%s is not in %v: %v", l.Addr(), list, err)
	}
	return list[i], cmd.Process.Pid
}

// TestHeldByCaller: a port that the caller's program holds is no obstacle, be it in a process
// further up; what another program up there holds is. The child looks for the listener.
func TestHeldByCaller(t *testing.T) {
	const port, depth = "HELD_PORT", "HELD_DEPTH"
	if p, err := strconv.ParseUint(os.Getenv(port), 10, 16); err == nil {
		if os.Getenv(depth) == "2" {
			fmt.Println(childOf(t, port+"="+os.Getenv(port), depth+"=1"))
			return
		}
		list, err := Listeners("tcp")
		i := slices.IndexFunc(list, func(found Listener) bool { return found.Port == uint16(p) })
		if err != nil || i < 0 {
			t.Fatal(list, err)
		}
		fmt.Printf("reserved: %t\n", Reserved(list[i], "c1"))
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	held := fmt.Sprintf("%s=%d", port, l.Addr().(*net.TCPAddr).Port)
	for _, d := range []string{"1", "2"} {
		if out := childOf(t, held, depth+"="+d); !strings.Contains(out, "reserved: true") {
			t.Errorf("depth %s: %s", d, out)
		}
	}
	if os.Geteuid() == 0 { // others' sockets are not seen
		other, _ := heldBy(t, "nginx")
		if out := childOf(t, fmt.Sprintf("%s=%d", port, other.Port), depth+"=1"); !strings.Contains(out, "reserved: false") {
			t.Errorf("another's: %s", out)
		}
	}
}

// childOf runs TestHeldByCaller in a process of its own, and returns what it prints.
func childOf(t *testing.T, env ...string) string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestHeldByCaller$")
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}
