package host

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/nlsock"
)

// Trusted returns an error unless only root can have put a program there, or only
// the user who can also exchange this program.
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
