package iptables

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	policy "dcni/pkg/firewall/iptables"
	"dcni/pkg/host/nft"
	"dcni/pkg/host/nlsock"
	"dcni/pkg/host/proc"
	"dcni/pkg/wire"
)

// family returns the beginning of the programs' names.
func family(six bool) string {
	if six {
		return "ip6tables"
	}
	return "iptables"
}

// program finds one of a family's programs. Runtimes may call plugins with a PATH that lacks
// where they are.
func program(six bool, suffix string) (string, error) {
	name := family(six) + suffix
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if err != nil {
			path, err = exec.LookPath(filepath.Join(dir, name))
		}
	}
	if err != nil {
		return "", wire.Errorf(wire.CodeUnavailable, "firewall \"iptables\": the program %s is not there: install iptables, or let the network be by nftables", name)
	}
	return path, nil
}

// run runs a program of a family, and returns what it prints.
func run(six bool, suffix, stdin string, args ...string) (string, error) {
	path, err := program(six, suffix)
	if err != nil {
		return "", err
	}
	var out, stderr bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &stderr
	// What outlived a plugin that was killed would put rules in behind the DEL. The kernel goes by
	// the thread that has started the program.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Run(); err != nil {
		return "", explain(filepath.Base(path), stderr.String(), err)
	}
	return out.String(), nil
}

// Explain says what the failure of one of iptables' programs means.
func Explain(name string, err error) error {
	if exit, is := errors.AsType[*exec.ExitError](err); is {
		return explain(name, string(exit.Stderr), err)
	}
	return fmt.Errorf("%s: %w", name, err)
}

func explain(name, stderr string, err error) error {
	stderr = strings.Join(strings.Fields(stderr), " ")
	switch {
	case strings.Contains(stderr, "xtables lock"):
		return wire.Errorf(wire.CodeTryAgain, "%s: the xtables lock (%s) was held%s for %d s: try again when that is done",
			name, lockFile(), lockHolder(), patience)
	case strings.Contains(stderr, "can't initialize"), strings.Contains(stderr, "Table does not exist"), strings.Contains(stderr, "not supported"):
		kernel := "ip_tables, iptable_nat"
		if strings.HasPrefix(name, family(true)) {
			kernel = "ip6_tables, ip6table_nat"
		}
		return wire.Errorf(wire.CodeUnavailable, "firewall \"iptables\": this kernel lacks what %s needs (modules %s and those of their matches): %s", name, kernel, stderr)
	}
	return fmt.Errorf("%s: %w: %s", name, err, stderr)
}

// lockFile is where iptables' own lock is.
func lockFile() string {
	if file := os.Getenv("XTABLES_LOCKFILE"); file != "" {
		return file
	}
	return "/run/xtables.lock"
}

// lockHolder returns which process has the lock, as " by iptables (12)"; "" where none is seen to.
func lockHolder() string {
	var st unix.Stat_t
	if unix.Stat(lockFile(), &st) != nil {
		return ""
	}
	locks, _ := os.ReadFile("/proc/locks")
	for line := range strings.Lines(string(locks)) {
		words := strings.Fields(line)
		const process, file = 4, 5 // "1: FLOCK ADVISORY WRITE 12 00:19:34 0 EOF"
		if len(words) <= file || words[1] == "->" || !strings.HasSuffix(words[file], ":"+strconv.FormatUint(st.Ino, 10)) {
			continue
		}
		if pid, err := strconv.Atoi(words[process]); err == nil && pid > 0 {
			return " by " + proc.Process(pid).String()
		}
	}
	return ""
}

// OnNFTables reports whether a family's programs keep their rules in nf_tables, by the program
// that their names lead to.
func OnNFTables(six bool) bool {
	path, err := program(six, "-restore")
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	return err == nil && strings.Contains(filepath.Base(path), "nft")
}

// save reads the rules of a family. All tables are read by one process.
func save(six bool) (*policy.Ruleset, error) {
	text, err := run(six, "-save", "")
	if err != nil {
		return nil, err
	}
	return policy.Parse(text), nil
}

// restore makes a change. What the tables have besides stays.
func restore(six bool, text string) error {
	_, err := run(six, "-restore", text, "--noflush", "-w", strconv.Itoa(patience))
	return err
}

// generation returns the number that nf_tables' rules of this namespace have now: every change
// of them takes another one. It is 0 where that is not known.
func generation() uint32 {
	c, err := nlsock.Dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return 0
	}
	defer c.Close()
	var m nlsock.Message
	at := m.Begin(nft.MessageType(unix.NFT_MSG_GETGEN), 0, c.Next())
	m.NFHeader(unix.NFPROTO_UNSPEC, 0)
	m.End(at)
	replies, err := c.RoundTrip(m.B)
	if err != nil {
		return 0
	}
	var number uint32
	for _, r := range replies {
		if r.Err != nil || len(r.Data) < 4 {
			continue
		}
		nlsock.Attributes(r.Data[4:], func(typ uint16, data []byte) {
			if typ == unix.NFTA_GEN_ID && len(data) >= 4 {
				number = binary.BigEndian.Uint32(data)
			}
		})
	}
	return number
}
