package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestInstall installs below a folder of its own, over an older version, and
// uninstalls again: what others have there stays.
func TestInstall(t *testing.T) {
	dest := t.TempDir()
	script := func(args ...string) {
		t.Helper()
		cmd := exec.Command("../scripts/install", args...)
		cmd.Env = append(os.Environ(), "DESTDIR="+dest)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("scripts/install %v: %v: %s", args, err, out)
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
	script()
	cmd := exec.Command(old)
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.HasPrefix(out, []byte("CNI dbridge plugin v")) {
		t.Errorf("the installed dbridge: %v: %s", err, out)
	}
	script("--remove")
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
