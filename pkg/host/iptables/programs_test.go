package iptables

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dcni/pkg/wire"
)

// What programs say of failures becomes an error of a code.
func TestExplain(t *testing.T) {
	failed := errors.New("exit status 4")
	for _, c := range []struct {
		name, stderr string
		code         wire.Code // 0: none
		want         string
	}{
		{"iptables-restore", "Another app is currently holding the xtables lock; still 4s 0us time ahead to have a chance to grab the lock...\n", wire.CodeTryAgain, "xtables lock"},
		{"ip6tables-restore", "ip6tables-restore v1.8.9 (legacy): can't initialize ip6tables table `nat': Table does not exist (do you need to insmod?)", wire.CodeUnavailable, "ip6table_nat"},
		{"iptables-save", "no such thing", 0, "iptables-save: exit status 4: no such thing"},
	} {
		err := explain(c.name, c.stderr, failed)
		if !strings.Contains(err.Error(), c.want) || c.code != 0 && !isCode(err, c.code) || c.code == 0 && !errors.Is(err, failed) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// The process that has the lock is named.
func TestLockHolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "xtables.lock")
	t.Setenv("XTABLES_LOCKFILE", file)
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := lockHolder(); got != "" {
		t.Errorf("the lock is free, and held%s", got)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if got := lockHolder(); !strings.HasPrefix(got, " by ") {
		t.Errorf("held%q", got)
	}
}

// A program that is not there is named, with what to do.
func TestProgram(t *testing.T) {
	if _, err := program(false, "-nowhere"); !isCode(err, wire.CodeUnavailable) || !strings.Contains(err.Error(), "iptables-nowhere") {
		t.Errorf("%v", err)
	}
	t.Setenv("PATH", "")
	path, err := program(false, "-save")
	if _, has := exec.LookPath("/usr/sbin/iptables-save"); has == nil && (err != nil || path != "/usr/sbin/iptables-save") {
		t.Errorf("without a PATH: %q, %v", path, err)
	}
}
