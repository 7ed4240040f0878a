package mntns_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dcni/pkg/host/mntns"
)

// TestMain has this program be in another mount namespace what the environment says.
func TestMain(m *testing.M) {
	if namespace := os.Getenv("TEST_NAMESPACE"); namespace != "" {
		err := mntns.Exec(namespace, os.Getenv("TEST_PROGRAM"), []string{"cat", os.Getenv("TEST_FILE")}, nil)
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// other starts a process in a mount namespace of its own, where there are other files at a folder, and returns
// the namespace.
func other(t *testing.T, dir string) string {
	t.Helper()
	script := `mount -t tmpfs none "$0" && echo there >"$0/file" && echo ready && exec cat`
	cmd := exec.Command("unshare", "--mount", "sh", "-c", script, dir)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatal(line, err)
	}
	return fmt.Sprintf("/proc/%d/ns/mnt", cmd.Process.Pid)
}

// TestExec: a program that is not there runs among the files that are.
func TestExec(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	busybox, err := exec.LookPath("busybox") // it is static: its libraries would not be there either
	if err != nil {
		t.Skip(err)
	}
	data, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	program, file := filepath.Join(dir, "program"), filepath.Join(dir, "file")
	if err := os.WriteFile(program, data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("here\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	namespace := other(t, dir)
	for _, test := range []struct{ namespace, program, want string }{
		{namespace, program, "there\n"},
		{"/proc/self/ns/mnt", program, "here\n"},
		{namespace, filepath.Join(dir, "none"), "open " + filepath.Join(dir, "none") + ": no such file or directory\n"},
		{"/proc/self/ns/none", program, "open /proc/self/ns/none: no such file or directory: is it hostPID, and is there SYS_PTRACE?\n"},
		{"/proc/self/ns/net", program, "enter /proc/self/ns/net: invalid argument: are there SYS_ADMIN and SYS_CHROOT?\n"},
	} {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "TEST_NAMESPACE="+test.namespace, "TEST_PROGRAM="+test.program, "TEST_FILE="+file)
		out, err := cmd.CombinedOutput()
		if string(out) != test.want || (err == nil) != strings.HasSuffix(test.want, "ere\n") {
			t.Errorf("%s in %s: %q, %v: want %q", test.program, test.namespace, out, err, test.want)
		}
	}
}
