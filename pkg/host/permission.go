package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/nlsock"
	"dcni/pkg/wire"
)

// permission is a [wire.Permission].
type permission struct{ o *wire.Permission }

// Ensure makes nothing: that is root's to do.
func (p permission) Ensure() (bool, error) { return false, p.Probe() }

// Check is content: what is attached stays so, whatever is allowed by now.
func (p permission) Check() error { return nil }

func (p permission) Remove() error { return nil }

// Probe looks at the file and at its directory: a user that can write to the
// directory can put a file there that root never made, or move one of root's.
func (p permission) Probe() error {
	dir := filepath.Dir(p.o.Path)
	create := "install -D -m 644 /dev/null " + p.o.Path
	info, err := os.Lstat(p.o.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return p.denied("is missing", create)
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return p.denied("is no regular file", "rm -r "+p.o.Path+" && "+create)
	}
	above, err := os.Lstat(dir)
	switch {
	case err != nil:
		return err
	case !above.IsDir():
		return p.denied("is in no directory but a link to one", "rm "+dir+" && "+create)
	case !roots(info) || !roots(above):
		return p.denied("or its directory may be written to by others than root",
			fmt.Sprintf("chown root:root %[1]s %[2]s && chmod go-w %[1]s %[2]s", dir, p.o.Path))
	}
	return nil
}

// roots reports whether something is root's, and only root may write to it.
func roots(info fs.FileInfo) bool {
	const others = 0o022
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Uid == 0 && info.Mode().Perm()&others == 0
}

func (p permission) denied(why, remedy string) error {
	return wire.Errorf(wire.CodeForbidden, "it is not allowed on this host %s: %s %s; root allows it by: %s",
		p.o.What, p.o.Path, why, remedy)
}

// Trusted returns an error unless only root can have put a program there, or only
// a user that can exchange this program as well.
func Trusted(program string) error {
	if !filepath.IsAbs(program) {
		return fmt.Errorf("program %q: must be an absolute path", program)
	}
	var is, self unix.Stat_t
	err := nlsock.RetryEINTR(func() error { return unix.Lstat(program, &is) })
	if err != nil {
		return fmt.Errorf("program %s: %w", program, err)
	}
	const others = unix.S_IWGRP | unix.S_IWOTH
	switch {
	case is.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("program %s: must be a file", program)
	case is.Uid == 0 && is.Mode&others == 0:
		return nil
	}
	err = nlsock.RetryEINTR(func() error { return unix.Stat("/proc/self/exe", &self) })
	if err == nil && self.Uid == is.Uid && self.Gid == is.Gid && self.Mode == is.Mode {
		return nil
	}
	return errors.Join(fmt.Errorf("program %s: must be root's, and no other user's to write to", program), err)
}
