package detach

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// installed are the folders that `make install` and packages put commands into.
var installed = []string{"/usr/local/bin", "/usr/bin"}

// Find looks for a program of ours beside this one, then in PATH, which a runtime may
// have cut short, then where `make install` puts it.
func Find(name string) (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), name)
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
			return beside, nil
		}
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range installed {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", fmt.Errorf("no program %s: neither beside this one nor in PATH %s", name, os.Getenv("PATH"))
}

// SystemdUnit returns the name of a unit if systemd runs this host and has it, else "".
func SystemdUnit(unit string) string {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return ""
	}
	for _, dir := range []string{"/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"} {
		if _, err := os.Stat(filepath.Join(dir, "systemd/system", unit)); err == nil {
			return unit
		}
	}
	return ""
}
