package records

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dcni/pkg/records/disk"
)

// This file is about networks whose firewall is iptables: there is an empty file for each, and
// one for each family that iptables' rules are in use in, as network_web and family_4. The
// networks' rules are there when no container is any more, and so are these.

// byIPTables begins the names of networks' files.
const byIPTables = "network_"

func (s Store) iptables() string { return filepath.Join(s.Run, "iptables") }

// usedIn begins the names of families' files.
const usedIn = "family_"

// ByIPTables reports whether iptables carries out what a network allows. Each ADD asks it.
func (s Store) ByIPTables(network string) bool {
	return disk.Exists(filepath.Join(s.iptables(), byIPTables+network))
}

// SetByIPTables notes whether it does. The caller holds the lock of the firewall.
func (s Store) SetByIPTables(network string, is bool) error { return s.note(byIPTables+network, is) }

// NetworksByIPTables lists those networks.
func (s Store) NetworksByIPTables() (networks []string, err error) {
	files, err := disk.NamesIn(s.iptables())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, file := range files {
		if name, is := strings.CutPrefix(file, byIPTables); is {
			networks = append(networks, name)
		}
	}
	return networks, err
}

// UsesIPTables reports whether iptables' rules are in use in a family, 4 or 6. Each ADD asks it.
func (s Store) UsesIPTables(family int) bool {
	return disk.Exists(filepath.Join(s.iptables(), usedIn+strconv.Itoa(family)))
}

// SetUsesIPTables notes whether they are. The caller holds the lock of the firewall.
func (s Store) SetUsesIPTables(family int, are bool) error {
	return s.note(usedIn+strconv.Itoa(family), are)
}

// note makes an empty file, or removes it. The directory goes with the last.
func (s Store) note(name string, is bool) error {
	path := filepath.Join(s.iptables(), name)
	if is {
		return s.writeFile(path, nil)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_ = unix.Rmdir(s.iptables()) // not empty: others are left
	return nil
}
