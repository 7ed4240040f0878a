package links

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/rtnl"
	"dcni/pkg/host/spaces"
	"dcni/pkg/wire"
)

// setting is a [wire.Sysctl].
type setting struct {
	h *Links
	o *wire.Sysctl
}

// Ensure sets the value where it differs: a read-only /proc/sys (a nested
// container) is no error as long as the value is right.
func (s setting) Ensure() (bool, error) {
	have, err := s.read()
	if s.moot(err) {
		return false, nil
	}
	if err != nil || s.isValue(have) {
		return false, err
	}
	s.o.Was = have
	return true, s.set(s.o.Value)
}

// isValue reports whether the kernel has the value, which it may write in another way than was asked
// for: numbers in decimal, neighbours' times in whole ticks of its clock, rounded up, and addresses in full.
func (s setting) isValue(have string) bool {
	if ip, err := netip.ParseAddr(s.o.Value); err == nil {
		is, err := netip.ParseAddr(have)
		return err == nil && is == ip
	}
	want, unread := strconv.ParseInt(strings.TrimSpace(s.o.Value), 0, 64)
	is, other := strconv.ParseInt(have, 10, 64)
	if have == s.o.Value || unread != nil || other != nil {
		return have == s.o.Value
	}
	const tick = 10 // ms, of the slowest clock: CONFIG_HZ_100
	return is == want || strings.HasSuffix(s.o.Path, "_ms") && is > want && is-want < tick
}

// moot reports whether a setting is missing that says what is so without it: a
// kernel with no IPv6 needs neither that nor its router advertisements off.
func (s setting) moot(err error) bool {
	off := strings.HasSuffix(s.o.Path, "/disable_ipv6") && s.o.Value == "1" ||
		strings.HasPrefix(s.o.Path, "net/ipv6/") && strings.Contains(s.o.Path, "/accept_") && s.o.Value == "0"
	return off && errors.Is(err, fs.ErrNotExist)
}

// isOwners reports whether the setting is the sandbox's owner's by now.
func (s setting) isOwners() bool {
	d, ok := rtnl.DevConfOf(s.o.Path)
	if !ok || !s.o.AtFirst {
		return false
	}
	_, l, err := s.h.Link(s.o.NetNS, d.Dev)
	return err == nil && l.Up()
}

func (s setting) Check() error {
	have, err := s.read()
	if s.moot(err) || s.isOwners() {
		return nil
	}
	if err == nil && !s.isValue(have) {
		err = fmt.Errorf("is %s", have)
	}
	return err
}

func (s setting) Remove() error {
	if s.o.Was == "" {
		return nil
	}
	if err := s.set(s.o.Was); err != nil && !spaces.Gone(err) {
		return err
	}
	return nil
}

func (s setting) Probe() error { return nil }

// read returns the setting's value: fs.ErrNotExist if the kernel has none such.
func (s setting) read() (have string, err error) {
	if d, ok := rtnl.DevConfOf(s.o.Path); ok {
		_, l, err := s.h.Link(s.o.NetNS, d.Dev)
		if spaces.NotFound(err) {
			return "", fs.ErrNotExist
		}
		if err != nil {
			return "", err
		}
		return d.Value(l)
	}
	err = s.h.Run(s.o.NetNS, func() (err error) {
		have, err = s.h.ReadProc(s.o.NetNS, s.o.Path)
		return err
	})
	if errors.Is(err, unix.EIO) { // stable_secret of IPv6, which has none yet (kernel's ip-sysctl)
		return "", nil
	}
	return have, err
}

// set sets the setting. A setting of a link changes nothing else of it that Link found.
func (s setting) set(value string) error {
	d, ok := rtnl.DevConfOf(s.o.Path)
	if !ok {
		return s.write(value)
	}
	rt, l, err := s.h.Link(s.o.NetNS, d.Dev)
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
	return s.h.Run(s.o.NetNS, func() error { return s.h.WriteProc(s.o.NetNS, s.o.Path, value) })
}
