package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/proc"
	"dcni/pkg/host/rtnl"
	"dcni/pkg/wire"
)

// setting is a [wire.Sysctl].
type setting struct {
	h *Host
	o *wire.Sysctl
}

// ensure sets the value where it differs: a read-only /proc/sys (a nested
// container) is no error as long as the value is right.
func (s setting) ensure() (bool, error) {
	have, err := s.read()
	if s.moot(err) {
		return false, nil
	}
	if err != nil || have == s.o.Value {
		return false, err
	}
	s.o.Was = have
	return true, s.set(s.o.Value)
}

// moot reports whether a setting is missing that says what is so without it: a
// kernel with no IPv6 needs neither that nor its router advertisements off.
func (s setting) moot(err error) bool {
	off := strings.HasSuffix(s.o.Path, "/disable_ipv6") && s.o.Value == "1" ||
		strings.HasPrefix(s.o.Path, "net/ipv6/") && strings.Contains(s.o.Path, "/accept_") && s.o.Value == "0"
	return off && errors.Is(err, fs.ErrNotExist)
}

func (s setting) check() error {
	have, err := s.read()
	if s.moot(err) {
		return nil
	}
	if err == nil && have != s.o.Value {
		err = fmt.Errorf("is %s", have)
	}
	return err
}

func (s setting) remove() error {
	if s.o.Was == "" {
		return nil
	}
	if err := s.set(s.o.Was); err != nil && !gone(err) {
		return err
	}
	return nil
}

func (s setting) probe() error { return nil }

// read returns the setting's value: fs.ErrNotExist if the kernel has none such.
func (s setting) read() (have string, err error) {
	if d, ok := rtnl.DevConfOf(s.o.Path); ok {
		_, l, err := s.h.iface(s.o.NetNS, d.Dev)
		if notFound(err) {
			return "", fs.ErrNotExist
		}
		if err != nil {
			return "", err
		}
		return d.Value(l)
	}
	err = s.h.run(s.o.NetNS, func() (err error) {
		have, err = s.h.readProc(s.o.NetNS, s.o.Path)
		return err
	})
	return have, err
}

// set sets the setting. A setting of a link changes nothing else of it that iface found.
func (s setting) set(value string) error {
	d, ok := rtnl.DevConfOf(s.o.Path)
	if !ok {
		return s.write(value)
	}
	rt, l, err := s.h.iface(s.o.NetNS, d.Dev)
	if err != nil {
		return err
	}
	if d.Family == unix.AF_INET {
		err = d.Set(rt, l, value)
	} else {
		err = s.write(value)
	}
	if err == nil {
		d.Note(l, value)
	}
	return err
}

// write writes the setting's file.
func (s setting) write(value string) error {
	return s.h.run(s.o.NetNS, func() error { return s.h.writeProc(s.o.NetNS, s.o.Path, value) })
}

// writeProc writes a setting of the namespace that the calling thread is in.
func (h *Host) writeProc(netns, path, value string) error {
	f, err := h.openProc(netns, path, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err
}

// readProc reads a setting of the namespace that the calling thread is in.
func (h *Host) readProc(netns, path string) (string, error) {
	f, err := h.openProc(netns, path, unix.O_RDONLY)
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
func (h *Host) openProc(netns, path string, flags int) (*os.File, error) {
	name := proc.SysctlDir + path
	if netns != "" {
		if dir, err := h.ownProc(); err == nil {
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
func (h *Host) ownProc() (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.proc != nil {
		return int(h.proc.Fd()), nil
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
	h.proc = os.NewFile(uintptr(dir), "procfs")
	return dir, nil
}
