// Package recordstest is what the tests of the records' packages share.
package recordstest

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"dcni/pkg/ipam"
	"dcni/pkg/wire"

	"golang.org/x/sys/unix"
)

// Spoilers put something in the place of a file that can't be read.
var Spoilers = map[string]func(path string) error{
	"empty":     func(p string) error { return os.WriteFile(p, nil, 0o600) },
	"truncated": func(p string) error { return os.WriteFile(p, []byte(`{"version": 1, "name": "we`), 0o600) },
	"null":      func(p string) error { return os.WriteFile(p, []byte("null"), 0o600) },
	"foreign": func(p string) error {
		return os.WriteFile(p, []byte(`{"name": "x", "id": "y", "network": "z"}`), 0o600)
	},
	"types": func(p string) error {
		return os.WriteFile(p, []byte(`{"state": {}, "subnets": 1, "created": 2}`), 0o600)
	},
	"newer": func(p string) error {
		return os.WriteFile(p, []byte(`{"version": 2, "state": {}, "subnets": 1}`), 0o600)
	},
	"FIFO":      func(p string) error { return unix.Mkfifo(p, 0o600) },
	"directory": func(p string) error { return os.Mkdir(p, 0o700) },
	"loop":      func(p string) error { return os.Symlink(filepath.Base(p), p) },
	"dangling":  func(p string) error { return os.Symlink("/nowhere", p) },
	"a link":    func(p string) error { return os.Symlink("/proc/self/mounts", p) },
	"huge":      func(p string) error { return errors.Join(os.WriteFile(p, nil, 0o600), os.Truncate(p, 1<<40)) },
	"socket": func(p string) error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		return errors.Join(err, unix.Bind(fd, &unix.SockaddrUnix{Name: p}), unix.Close(fd))
	},
}

// ReplaceBy puts something in a file's place.
func ReplaceBy(t testing.TB, spoil func(string) error, path string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(path), spoil(path)); err != nil {
		t.Fatal(err)
	}
}

// Dirs returns the directories of a new store: that of a boot, and that which stays. They are
// in memory where the system has such a place: some tests make thousands of files.
func Dirs(t testing.TB) (run, lib string) {
	const memory = "/dev/shm"
	dir, err := os.MkdirTemp(memory, "recordstest-")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // nothing depends on it
	return filepath.Join(dir, "run"), filepath.Join(dir, "lib")
}

// Reboot is what a boot does to a store's directory.
func Reboot(t testing.TB, run string) {
	t.Helper()
	if err := os.RemoveAll(run); err != nil {
		t.Fatal(err)
	}
}

// ErrText is an error behind a text, "" for none.
func ErrText(err error) string {
	if err == nil {
		return ""
	}
	return ", error: " + err.Error()
}

// Owner is an attachment of network web.
func Owner(container string) wire.Attachment {
	return wire.Attachment{Network: "web", Container: container, IfName: "eth0"}
}

// Code returns an error's code, 0 for none.
func Code(err error) wire.Code {
	var e *wire.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// Want compares texts.
func Want(t testing.TB, got, want string) {
	t.Helper()
	if got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

// Config is what a network gives addresses of.
func Config(t testing.TB, subnets ...string) ipam.Config {
	var raw ipam.Raw
	for _, s := range subnets {
		raw.Subnets = append(raw.Subnets, ipam.RawSubnet{Subnet: s})
	}
	c, err := raw.Config()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Request asks for addresses for a container, any or these.
func Request(container string, static ...string) ipam.Request {
	r := ipam.Request{Owner: Owner(container)}
	for _, a := range static {
		r.Static = append(r.Static, netip.MustParseAddr(a))
	}
	return r
}
