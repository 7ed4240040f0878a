package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestInstall installs below a folder of its own, over an older version, and
// uninstalls again, twice: what others have there stays.
func TestInstall(t *testing.T) {
	dest := filepath.Join(t.TempDir(), "it's a place")
	run := func(target string) {
		t.Helper()
		// What is built stays: this is a test of it.
		cmd := exec.Command("make", "-C", "..", "-o", "build", target, "DESTDIR="+dest)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("make %s: %v: %s", target, err, out)
		}
	}
	plugins := filepath.Join(dest, "opt/cni/bin")
	others := filepath.Join(plugins, "loopback")
	old := filepath.Join(plugins, "dbridge")
	if err := os.MkdirAll(plugins, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{others, old} {
		if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run("install")
	cmd := exec.Command(old)
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.HasPrefix(out, []byte("CNI dbridge plugin v")) {
		t.Errorf("the installed dbridge: %v: %s", err, out)
	}
	run("uninstall")
	run("uninstall")
	var left []string
	_ = filepath.WalkDir(dest, func(path string, d os.DirEntry, _ error) error {
		if !d.IsDir() {
			left = append(left, path)
		}
		return nil
	})
	if len(left) != 1 || left[0] != others {
		t.Errorf("left: %v, want %s alone", left, others)
	}
}
