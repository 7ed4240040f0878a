package detach

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

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
	installed := "/usr/local/bin/" + name
	if _, err := os.Stat(installed); err == nil {
		return installed, nil
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
