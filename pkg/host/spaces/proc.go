package spaces

import (
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/proc"
)

// WriteProc writes a setting of the namespace that the calling thread is in.
func (s *Set) WriteProc(netns, path, value string) error {
	f, err := s.openProc(netns, path, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err
}

// ReadProc reads a setting of the namespace that the calling thread is in.
func (s *Set) ReadProc(netns, path string) (string, error) {
	f, err := s.openProc(netns, path, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	const most = 64
	b := make([]byte, most)
	n, err := f.Read(b)
	return strings.TrimSpace(string(b[:n])), err
}

// openProc opens a setting of the namespace that the calling thread is in: in a
// sandbox through an instance of procfs of this process's own (Linux 5.8). Its cache
// of names knows no other sandbox's, and leaves nothing in the machine's. Where
// there can't be one, the machine's has to do.
func (s *Set) openProc(netns, path string, flags int) (*os.File, error) {
	name := proc.SysctlDir + path
	if netns != "" {
		if dir, err := s.ownProc(); err == nil {
			fd, err := unix.Openat(dir, "sys/"+path, flags|unix.O_CLOEXEC, 0)
			if err != nil {
				return nil, &fs.PathError{Op: "open", Path: name, Err: err}
			}
			return os.NewFile(uintptr(fd), name), nil
		}
	}
	return os.OpenFile(name, flags, 0)
}

// ownProc returns a directory of a procfs that is mounted nowhere.
func (s *Set) ownProc() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil {
		return int(s.proc.Fd()), nil
	}
	ctx, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return 0, err
	}
	defer unix.Close(ctx)
	if err := unix.FsconfigCreate(ctx); err != nil {
		return 0, err
	}
	dir, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	s.proc = os.NewFile(uintptr(dir), "procfs")
	return dir, nil
}
