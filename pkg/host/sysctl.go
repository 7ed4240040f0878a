package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
		strings.HasSuffix(s.o.Path, "/accept_ra") && s.o.Value == "0"
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
		have, err = proc.Sysctl(s.o.Path)
		return err
	})
	return have, err
}

// set sets the setting.
func (s setting) set(value string) error {
	d, ok := rtnl.DevConfOf(s.o.Path)
	if ok {
		defer s.h.relink()
	}
	if ok && d.Family == unix.AF_INET {
		rt, l, err := s.h.iface(s.o.NetNS, d.Dev)
		if err != nil {
			return err
		}
		return d.Set(rt, l, value)
	}
	return s.h.run(s.o.NetNS, func() error {
		if s.o.NetNS == "" {
			return os.WriteFile(proc.SysctlDir+s.o.Path, []byte(value), 0)
		}
		return s.h.writeOwnProc(s.o.Path, value)
	})
}

// writeOwnProc writes a setting of the namespace that the calling thread is in,
// through an instance of procfs of this process's own (Linux 5.8): its cache of
// names knows no other sandbox's, and leaves nothing in the machine's. Where
// there can't be one, the machine's has to do.
func (h *Host) writeOwnProc(path, value string) error {
	dir, err := h.ownProc()
	if err != nil {
		return os.WriteFile(proc.SysctlDir+path, []byte(value), 0)
	}
	fd, err := unix.Openat(dir, "sys/"+path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: proc.SysctlDir + path, Err: err}
	}
	f := os.NewFile(uintptr(fd), proc.SysctlDir+path)
	defer f.Close()
	_, err = f.WriteString(value)
	return err
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

// forwarding is a [wire.Forwarding].
type forwarding struct {
	h *Host
	o *wire.Forwarding
}

func (f forwarding) ensure() (bool, error) {
	if f.check() == nil {
		return false, nil
	}
	if err := f.refused(); err != nil {
		return false, err
	}
	settings := []*wire.Sysctl{{Path: f.o.Path(), Value: "1"}}
	if f.o.Family == 6 {
		settings = append(acceptRA(), settings...)
	}
	for _, s := range settings {
		changed, err := setting{f.h, s}.ensure()
		if changed {
			f.o.Was = append(f.o.Was, *s)
		}
		if err != nil {
			return len(f.o.Was) > 0, err
		}
	}
	return true, nil
}

func (f forwarding) refused() error {
	if !f.o.Require {
		return nil
	}
	return wire.Errorf(wire.CodeConfig,
		"ipForward false: IPv%d forwarding is off on this host and may not be switched on: set %s=1, or allow ipForward",
		f.o.Family, strings.ReplaceAll(f.o.Path(), "/", "."))
}

// acceptRA returns the settings that keep the host's router advertisements
// working once it forwards: 2 ("even with forwarding on") where it was 1.
func acceptRA() []*wire.Sysctl {
	files, err := filepath.Glob(proc.SysctlDir + "net/ipv6/conf/*/accept_ra")
	if err != nil {
		return nil
	}
	var settings []*wire.Sysctl
	for _, f := range files {
		path := strings.TrimPrefix(f, proc.SysctlDir)
		dev := filepath.Base(filepath.Dir(path))
		if dev == "all" || dev == "default" || dev == "lo" || wire.IsHostLink(dev) {
			continue
		}
		if have, err := proc.Sysctl(path); err == nil && have == "1" {
			settings = append(settings, &wire.Sysctl{Path: path, Value: "2"})
		}
	}
	return settings
}

func (f forwarding) check() error {
	family := byte(unix.AF_INET)
	if f.o.Family == 6 {
		family = unix.AF_INET6
	}
	on, err := f.h.root.rt.Forwards(family)
	if err == nil && !on {
		err = fmt.Errorf("is 0")
	}
	return err
}

func (f forwarding) remove() error {
	var errs []error
	for i := len(f.o.Was) - 1; i >= 0; i-- {
		errs = append(errs, setting{f.h, &f.o.Was[i]}.remove())
	}
	return errors.Join(errs...)
}

func (f forwarding) probe() error {
	if f.check() == nil {
		return nil
	}
	if err := f.refused(); err != nil {
		return err
	}
	if err := unix.Access(proc.SysctlDir+f.o.Path(), unix.W_OK); err != nil {
		return fmt.Errorf("write %s: %w", f.o.Path(), err)
	}
	return nil
}
