package hostports

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
