package rules

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/proc"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// forwarding is a [wire.Forwarding].
type forwarding struct {
	h *Rules
	o *wire.Forwarding
}

// Ensure records how the family was found, and switches it on. The caller holds the
// host's lock.
func (f forwarding) Ensure() (bool, error) {
	off := f.off()
	f.o.Found = off == nil
	if off == nil && f.Check() == nil {
		return false, nil
	}
	if off != nil {
		if err := f.refused(); err != nil {
			return false, err
		}
	}
	known, err := f.found(off != nil)
	if err != nil {
		return false, err
	}
	if err := f.h.Records.PutChange(known); err != nil {
		return false, err
	}
	// Closed before anything is forwarded.
	if f.o.IPTables {
		if err := f.closeByIPTables(); err != nil {
			return true, err
		}
	}
	if err := f.h.closeFamily(f.o.Family); err != nil {
		return true, err
	}
	for _, path := range f.paths(known) {
		value := "1"
		switch filepath.Base(path) {
		case "accept_ra":
			if known.Was[path] != "1" {
				continue
			}
			value = "2" // even with forwarding on
		case "accept_redirects":
			continue // the kernel's own
		}
		_, err := f.h.Links.Of(&wire.Sysctl{Path: path, Value: value}).Ensure()
		if err != nil && (path == f.o.Path() || !errors.Is(err, fs.ErrNotExist)) { // its interface may be gone
			return true, err
		}
	}
	return true, nil
}

// closeByIPTables has iptables close the host, in the family that is forwarded next.
func (f forwarding) closeByIPTables() error {
	lock, err := f.h.Records.LockFirewall()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return f.h.useIPTables([]firewall.Family{firewall.Family(f.o.Family)})
}

// closeFamily has the rules close the host as a router of a family if dcni switched its
// forwarding on and no network wants all forwarded. It installs them where they are
// missing; where nothing is closed they can wait. The caller holds the host's lock.
func (h *Rules) closeFamily(family int) error {
	forwarding, all := &wire.Forwarding{Family: family}, &wire.ForwardAll{Family: family}
	known, err := h.Records.Change(forwarding.Key())
	if err != nil {
		return err
	}
	closed := known != nil && known.Was[forwarding.Path()] != "1" && !h.Records.HasChange(all.Key())
	if err := h.Records.SetClosed(family, closed); err != nil {
		return err
	}
	lock, err := h.Records.LockFirewall()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if !closed {
		return h.closeRouter()
	}
	_, err = h.installRules(h.closer(firewall.Family(family)))
	return err
}

// closedFamilies returns the families that the rules close the host for as a router.
func (h *Rules) closedFamilies() []firewall.Family {
	return slices.DeleteFunc(firewall.Families(), func(f firewall.Family) bool { return !h.Records.Closed(int(f)) })
}

// paths lists the settings that were changed: the family's own comes last.
func (f forwarding) paths(known *records.Change) []string {
	others := slices.DeleteFunc(slices.Sorted(maps.Keys(known.Was)), func(path string) bool { return path == f.o.Path() })
	return append(others, f.o.Path())
}

// found returns how the host was found when the first network came. What switches
// forwarding off since does not make the host another one than it was.
func (f forwarding) found(off bool) (*records.Change, error) {
	known, err := f.known()
	if known != nil || err != nil {
		return known, err
	}
	if err := f.h.noteClosed(); err != nil {
		return nil, err
	}
	if !off {
		return f.lost(f.h.Records.Closed(f.o.Family)), nil
	}
	known = f.change("0")
	f.note(known.Was)
	return known, nil
}

// known returns how the host was found by its record; nil where there is none. Of one that can't
// be read, what is there tells.
func (f forwarding) known() (*records.Change, error) {
	known, err := f.h.Records.Change(f.o.Key())
	if err != nil || known == nil || !known.Unreadable {
		return known, err
	}
	all := &wire.ForwardAll{Family: f.o.Family} // then it is not closed in any case
	known = f.lost(f.off() != nil || f.h.isClosed(firewall.Family(f.o.Family)) || f.h.Records.HasChange(all.Key()))
	known.Unreadable = true
	return known, nil //nolint:nilerr // the error of off says that it is
}

// lost returns how a host was found of which no record tells that. Links that take router
// advertisements in any case are taken for those that dcni set so: without forwarding, 1 means
// the same as 2.
func (f forwarding) lost(wasOff bool) *records.Change {
	if !wasOff {
		return f.change("1")
	}
	known := f.change("0")
	if f.o.Family == 4 {
		return known
	}
	for _, path := range f.h.settingsLike("net/ipv6/conf/*/accept_ra") {
		if have, err := proc.Sysctl(path); err == nil && have == "2" {
			known.Was[path] = "1"
		}
	}
	return known
}

// change returns what is on record where forwarding was so.
func (f forwarding) change(was string) *records.Change {
	return &records.Change{Key: f.o.Key(), Family: f.o.Family, Was: map[string]string{f.o.Path(): was}}
}

// isClosed reports whether the host is closed as a router of a family, or noted as such: then
// dcni switched forwarding on.
func (h *Rules) isClosed(f firewall.Family) bool {
	return h.Records.Closed(int(f)) || h.closer(f).Check(&firewall.Router{Closed: []firewall.Family{f}}) == nil
}

// noteClosed notes again for which families the host is closed. Where records were lost, those of
// the other family may be, too, and its rules go by what is noted.
func (h *Rules) noteClosed() error {
	var errs []error
	for _, f := range firewall.Families() {
		if !h.Records.Closed(int(f)) && h.isClosed(f) {
			errs = append(errs, h.Records.SetClosed(int(f), true))
		}
	}
	return errors.Join(errs...)
}

// mend writes the record that can't be read again, while what is there tells what it said.
func (f forwarding) mend() error {
	known, err := f.known()
	if err != nil || known == nil || !known.Unreadable {
		return err
	}
	return f.h.Records.PutChange(known)
}

// note notes what else changes with forwarding: which links take router advertisements
// and would not any more, as would links that come later, links that forward already,
// and, of IPv4, that the host takes redirects, which the kernel sets again.
func (f forwarding) note(was map[string]string) {
	for path, value := range map[string]string{
		fmt.Sprintf("net/ipv%d/conf/*/forwarding", f.o.Family): "1",
		"net/ipv6/conf/*/accept_ra":                            "",
		"net/ipv4/conf/all/accept_redirects":                   "",
	} {
		if !strings.HasPrefix(path, fmt.Sprintf("net/ipv%d/", f.o.Family)) {
			continue
		}
		for _, path := range f.h.settingsLike(path) {
			if have, err := proc.Sysctl(path); err == nil && (value == "" || have == value) {
				was[path] = have
			}
		}
	}
}

// recorded tells what the record of the change lacks, or nil.
func (f forwarding) recorded() error {
	err := f.h.Records.CheckChange(f.o.Key())
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("how it was is not on record")
	}
	return err
}

func (f forwarding) refused() error {
	if !f.o.Require {
		return nil
	}
	return wire.Errorf(wire.CodeConfig,
		"ipForward false: IPv%d forwarding is off on this host and may not be switched on: set %s=1, or allow ipForward",
		f.o.Family, strings.ReplaceAll(f.o.Path(), "/", "."))
}

// settingsLike lists the settings of a pattern, but for those of links of ours. A bridge
// of another network may be there and not yet have its own: those are that network's.
func (h *Rules) settingsLike(pattern string) []string {
	files, err := filepath.Glob(proc.SysctlDir + pattern)
	if err != nil {
		return nil
	}
	var list []string
	for _, file := range files {
		dev := filepath.Base(filepath.Dir(file))
		if wire.IsHostLink(dev) || h.isBridgeOfOurs(dev) || strings.HasSuffix(file, "/accept_ra") && (dev == "all" || dev == "lo") {
			continue
		}
		list = append(list, strings.TrimPrefix(file, proc.SysctlDir))
	}
	return list
}

// isBridgeOfOurs reports whether a name is of a bridge that dcni made.
func (h *Rules) isBridgeOfOurs(name string) bool {
	l, err := h.Root.RT.LinkByName(name)
	return err == nil && l.Kind == "bridge" && l.MAC.String() == wire.BridgeMAC(name)
}

// ForeignBridges lists the host's bridges that dcni did not make.
func (h *Rules) ForeignBridges() (names []string, err error) {
	list, err := h.Root.RT.Links()
	for _, l := range list {
		if l.Kind == "bridge" && l.MAC.String() != wire.BridgeMAC(l.Name) {
			names = append(names, l.Name)
		}
	}
	return names, err
}

func (f forwarding) Check() error {
	if err := f.off(); err != nil {
		return err
	}
	if err := f.recorded(); err != nil {
		return err
	}
	return f.closedAsRecorded()
}

// closedAsRecorded tells that the host is closed as a router and should be open, or the
// other way round: a DEL that was killed may have removed one of two records only.
func (f forwarding) closedAsRecorded() error {
	closed, all := f.h.Records.Closed(f.o.Family), f.h.Records.HasChange((&wire.ForwardAll{Family: f.o.Family}).Key())
	if closed != all {
		return nil // one of the two that hold where dcni switched forwarding on
	}
	known, err := f.h.Records.Change(f.o.Key())
	if err == nil && known != nil && (closed || known.Was[f.o.Path()] != "1") {
		err = errors.New("the host is not closed as a router as it should be")
	}
	return err
}

// off tells that forwarding is off, or nil.
func (f forwarding) off() error {
	family := byte(unix.AF_INET)
	if f.o.Family == 6 {
		family = unix.AF_INET6
	}
	on, err := f.h.Root.RT.Forwards(family)
	if err == nil && !on {
		err = fmt.Errorf("is 0")
	}
	return err
}

// Remove puts back what was changed, as it was. The caller holds the host's lock.
func (f forwarding) Remove() error {
	known, err := f.known()
	if err != nil || known == nil {
		return err
	}
	var errs []error
	for _, path := range slices.Backward(f.paths(known)) {
		was, known := known.Was[path]
		have, err := proc.Sysctl(path)
		if err != nil || !known || have == was {
			continue // its interface is gone, or nothing was changed
		}
		if filepath.Base(path) == "accept_ra" && (was != "1" || have != "2") {
			continue // not by us
		}
		errs = append(errs, f.h.Links.Of(&wire.Sysctl{Path: path, Was: was}).Remove())
	}
	errs = append(errs, f.restoreLater(known))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	// The record goes last: by it, a DEL that was killed here is done again.
	if err := errors.Join(f.h.Records.SetClosed(f.o.Family, false), f.open()); err != nil {
		return err
	}
	return f.h.Records.DeleteChange(f.o.Key())
}

// restoreLater has links that came since forwarding was switched on, and got their
// setting by default, take router advertisements as if it had always been off.
func (f forwarding) restoreLater(known *records.Change) error {
	if known.Was["net/ipv6/conf/default/accept_ra"] != "1" {
		return nil
	}
	var errs []error
	for _, path := range f.h.settingsLike("net/ipv6/conf/*/accept_ra") {
		_, earlier := known.Was[path]
		if have, err := proc.Sysctl(path); err == nil && have == "2" && !earlier {
			errs = append(errs, f.h.Links.Of(&wire.Sysctl{Path: path, Was: "1"}).Remove())
		}
	}
	return errors.Join(errs...)
}

// open takes the family off the closed ones, and the rules if these Rules installed them
// and no network is in them.
func (f forwarding) open() error {
	lock, err := f.h.Records.LockFirewall()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := errors.Join(f.h.closeRouter(), f.h.retireIPTables()); err != nil || !f.h.installed {
		return err
	}
	return f.h.nft.Remove(firewall.Installation{})
}

func (f forwarding) Probe() error {
	if f.off() == nil {
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

// forwardAll is a [wire.ForwardAll].
type forwardAll struct {
	h *Rules
	o *wire.ForwardAll
}

func (f forwardAll) Ensure() (bool, error) {
	if f.Check() == nil {
		return false, nil
	}
	if err := f.forwarding().mend(); err != nil {
		return false, err
	}
	if err := f.h.Records.PutChange(&records.Change{Key: f.o.Key(), Family: f.o.Family, ForAll: true}); err != nil {
		return false, err
	}
	return true, f.h.closeFamily(f.o.Family)
}

func (f forwardAll) Check() error {
	if !f.h.Records.HasChange(f.o.Key()) || f.h.Records.Closed(f.o.Family) {
		return errors.New("what is not of containers is dropped")
	}
	return nil
}

func (f forwardAll) Remove() error {
	if !f.h.Records.HasChange(f.o.Key()) {
		return nil
	}
	if err := f.forwarding().mend(); err != nil {
		return err
	}
	if err := f.h.Records.DeleteChange(f.o.Key()); err != nil {
		return err
	}
	return f.h.closeFamily(f.o.Family)
}

// forwarding is the forwarding of the family.
func (f forwardAll) forwarding() forwarding {
	return forwarding{f.h, &wire.Forwarding{Family: f.o.Family}}
}

func (f forwardAll) Probe() error { return nil }
