package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// asSteps has the test program be the command: it asks the kernel for links, raises lo, and makes folders, each by
// another thread; then it ends with status 3.
const asSteps = "KILLAT_TEST_STEPS"

func TestMain(m *testing.M) {
	switch os.Getenv(asSteps) {
	case "":
		os.Exit(m.Run())
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	if err != nil {
		panic(err)
	}
	for i, datagram := range [][]byte{message(unix.RTM_GETLINK), message(unix.RTM_GETLINK), message(unix.RTM_NEWLINK), message(unix.RTM_GETLINK), message(unix.RTM_NEWLINK)} {
		if err := unix.Sendto(fd, datagram, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			panic(err)
		}
		_ = os.WriteFile(filepath.Join(os.Args[1], fmt.Sprint("sent", i)), nil, 0o600)
	}
	var wg sync.WaitGroup
	for i := range 3 {
		var turn sync.WaitGroup
		turn.Add(1)
		wg.Go(func() {
			runtime.LockOSThread() // never unlocked: the next one is another thread
			_ = os.Mkdir(filepath.Join(os.Args[1], fmt.Sprint("made", i)), 0o700)
			turn.Done()
			wg.Wait()
		})
		turn.Wait()
	}
	os.Exit(3)
}

// message is one of rtnetlink about lo, which changes nothing of it.
func message(typ uint16) []byte {
	m := make([]byte, unix.SizeofNlMsghdr+unix.SizeofIfInfomsg)
	m[0], m[4], m[6], m[16+4] = byte(len(m)), byte(typ), unix.NLM_F_REQUEST, 1
	return m
}

// Each point is one of the whole process, questions are none, and what is killed has done all before it and nothing after.
func TestKilled(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to filter system calls")
	}
	killat := filepath.Join(t.TempDir(), "killat")
	if out, err := exec.Command("go", "build", "-o", killat, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, c := range []struct {
		call, n string
		want    string // last that was done
		signal  syscall.Signal
		status  int
	}{
		{"mkdirat", "1", "sent4", unix.SIGKILL, 0},
		{"mkdirat", "2", "made0", unix.SIGKILL, 0},
		{"mkdirat", "3", "made1", unix.SIGKILL, 0},
		{"mkdirat", "4", "made2", 0, 3},
		{"sendto", "1", "sent1", unix.SIGKILL, 0},
		{"sendto", "2", "sent3", unix.SIGKILL, 0},
		{"sendto", "3", "made2", 0, 3},
		{"exit_group", "1", "made2", unix.SIGKILL, 0},
	} {
		dir := t.TempDir()
		cmd := exec.Command(killat, c.call, c.n, "/proc/self/exe", dir)
		cmd.Args[3], _ = os.Executable()
		cmd.Env = append(os.Environ(), asSteps+"=steps")
		out, _ := cmd.CombinedOutput()
		status := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if c.signal != 0 && (!status.Signaled() || status.Signal() != c.signal) || c.signal == 0 && status.ExitStatus() != c.status {
			t.Errorf("%s %s: ended with %#x: %s", c.call, c.n, status, out)
		}
		last := ""
		for _, name := range strings.Fields("sent0 sent1 sent2 sent3 sent4 made0 made1 made2") {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				last = name
			}
		}
		if last != c.want {
			t.Errorf("%s %s: the last step was %q, want %q", c.call, c.n, last, c.want)
		}
	}
	for _, args := range []string{"", "mkdirat", "mkdirat 1", "mkdirat 0 true", "mkdirat x true", "read 1 true", "mkdirat 1 no-such-program"} {
		cmd := exec.Command(killat, strings.Fields(args)...)
		if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != failed || !strings.HasPrefix(string(out), "killat: ") {
			t.Errorf("killat %s: %v: %s", args, cmd.ProcessState, out)
		}
	}
}

// A command's children count for themselves, and killat ends with the last of them. The shell's first line is that one was killed.
func TestChildren(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to filter system calls")
	}
	killat := filepath.Join(t.TempDir(), "killat")
	if out, err := exec.Command("go", "build", "-o", killat, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	file := filepath.Join(t.TempDir(), "file")
	script := `(echo one; echo two; echo three; echo four) >` + file + `; echo "$?" >>` + file + `; (sleep 0.2; exec env echo late >>` + file + `) & exit 7`
	cmd := exec.Command(killat, "write", "3", "sh", "-c", script)
	_, _ = cmd.CombinedOutput()
	text, err := os.ReadFile(file)
	if got := string(text); err != nil || got != "one\ntwo\n137\nlate\n" || cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("%q, %v, %v", got, err, cmd.ProcessState)
	}
}

func TestIsQuestion(t *testing.T) {
	get, change := message(unix.RTM_GETROUTE), message(unix.RTM_NEWROUTE)
	nft := func(typ uint16) []byte {
		m := message(typ)
		m[5] = unix.NFNL_SUBSYS_NFTABLES
		return m
	}
	for _, c := range []struct {
		datagram []byte
		want     bool
	}{
		{get, true},
		{change, false},
		{append(get, get...), true},
		{append(get, change...), false},
		{message(unix.RTM_DELLINK), false},
		{message(unix.NLMSG_DONE), false},
		{nft(unix.NFT_MSG_GETRULE), true},
		{nft(unix.NFT_MSG_NEWRULE), false},
		{nft(unix.NFT_MSG_DELSETELEM), false},
		{nil, false},
		{[]byte(`{"of": "another protocol"}`), false},
		{get[:20], false},
		{append(get, 0), false},
	} {
		if is := isQuestion(c.datagram); is != c.want {
			t.Errorf("%q is a question: %t", c.datagram, is)
		}
	}
}
