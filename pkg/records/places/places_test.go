package places

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: directories are another user's")
	}
	was := isUser
	t.Cleanup(func() { isUser = was })
	isUser = func() bool { return true }
	top := t.TempDir()
	theirs := filepath.Join(top, "theirs")
	ours := filepath.Join(top, "ours")
	for _, dir := range []string{theirs, ours} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(theirs, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(theirs, filepath.Join(ours, "link")); err != nil { // as RootlessKit's --copy-up has it
		t.Fatal(err)
	}
	for _, c := range []struct {
		system string
		users  []string
		want   string
	}{
		{ours, []string{"/u"}, ours},
		{ours + "/a/b", []string{"/u"}, ours + "/a/b"},
		{theirs, []string{"/u"}, "/u/dcni"},
		{theirs + "/a/b", []string{"", "/v"}, "/v/dcni"},
		{ours + "/link", []string{"/u"}, "/u/dcni"},
		{theirs, []string{"", "relative"}, theirs},
		{theirs, nil, theirs},
	} {
		if got := own(c.system, "dcni", c.users...); got != c.want {
			t.Errorf("%s, %q: %s, want %s", c.system, c.users, got, c.want)
		}
	}
	isUser = func() bool { return false }
	if got := own(theirs, "dcni", "/u"); got != theirs {
		t.Errorf("root of the host has another user's folder at %s", got)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/7")
	if got := Environment(); !slices.Contains(got, "XDG_RUNTIME_DIR=/run/user/7") {
		t.Errorf("%q", got)
	}
}
