package host

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A program is trusted only if root, or the owner of this one, alone can have put it
// there.
func TestTrusted(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte("#!/bin/sh\n"), 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, open := file("good", 0o755), file("open", 0o777)
	link := filepath.Join(dir, "link")
	if err := os.Symlink(good, link); err != nil {
		t.Fatal(err)
	}
	cases := map[string]string{
		open: "must be root's, and no other user's to write to", link: "must be a file", dir: "must be a file",
		"dbridge": "must be an absolute path", filepath.Join(dir, "gone"): "no such file",
	}
	if os.Getuid() == 0 {
		cases[good] = ""
		others := file("others", 0o755)
		if err := os.Chown(others, 1234, 1234); err != nil {
			t.Fatal(err)
		}
		cases[others] = "must be root's"
	}
	for path, want := range cases {
		if err := Trusted(path); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}
