package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestInstall installs below a folder of its own, over an older version, and
// uninstalls again, twice: what others have there stays. It knows nothing of a
// systemd: nothing is enabled.
func TestInstall(t *testing.T) {
	t.Parallel()
	starts(t)
	dest := filepath.Join(t.TempDir(), "it's a place")
	run := func(target string) string {
		t.Helper()
		// What is built stays: this is a test of it.
		cmd := exec.Command("make", "-C", "..", "-o", "build", target, "DESTDIR="+dest)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("make %s: %v: %s", target, err, out)
		}
		return string(out)
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
	if out := run("install"); !strings.Contains(out, "systemctl enable --now dnetd") {
		t.Errorf("install does not say how dnetd is started: %s", out)
	}
	checkUnits(t, dest)
	for source, path := range map[string]string{
		"05-dcni.network": "usr/local/lib/systemd/network/05-dcni.network", "dcni.conf": "etc/NetworkManager/conf.d/dcni.conf",
	} {
		want, err := os.ReadFile("../scripts/network/" + source)
		got, failed := os.ReadFile(filepath.Join(dest, path))
		if err != nil || failed != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v, %v: not as %s is", path, err, failed, source)
		}
	}
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

// checkUnits compares the installed units with the repository's, and what they
// start with what is installed.
func checkUnits(t *testing.T, dest string) {
	t.Helper()
	units, err := filepath.Glob("../scripts/systemd/*")
	if err != nil || len(units) != 5 {
		t.Fatalf("units %v, %v: want dclusterd's service, and those of dnetd and dnet api with their sockets", units, err)
	}
	for _, unit := range units {
		want, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dest, "usr/local/lib/systemd/system", filepath.Base(unit))
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, want) || info.Mode() != 0o644 {
			t.Errorf("%s: not as %s is, or mode %v, %v", path, unit, info.Mode(), err)
		}
		for _, m := range regexp.MustCompile(`(?m)^Exec\w+=(\S+)`).FindAllSubmatch(got, -1) {
			if info, err := os.Stat(filepath.Join(dest, string(m[1]))); err != nil || info.Mode().Perm() != 0o755 {
				t.Errorf("%s starts %s: %v", unit, m[1], err)
			}
		}
	}
}
