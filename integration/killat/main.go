// Killat runs a command and kills each process of it as that enters a kind of system call for the
// n-th time, in whichever of its threads: what the call would do is not done. It ends as the command
// does, when all of its processes have ended, also those that outlive the command.
//
//	killat CALL N COMMAND [ARG...]
//
// Only calls of that kind are stopped at, by a seccomp filter. strace can't inject signals where it
// filters so, and stops at each of the 5,000 calls of an ADD, twice: that was 60 ms of CPU time for
// each process that was killed. Besides, it counts the calls of each thread by itself.
//
// A sendto that only asks the kernel for something, by netlink, is not counted: to be killed there is to
// be killed at the next one. Exit status 99 says that killat itself failed.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// numbers are those of the system calls that change something, by name.
var numbers = map[string]uint32{
	"mkdirat": unix.SYS_MKDIRAT, "symlinkat": unix.SYS_SYMLINKAT, "linkat": unix.SYS_LINKAT, "renameat": unix.SYS_RENAMEAT,
	"renameat2": unix.SYS_RENAMEAT2, "unlinkat": unix.SYS_UNLINKAT, "utimensat": unix.SYS_UTIMENSAT, "write": unix.SYS_WRITE,
	"pwrite64": unix.SYS_PWRITE64, "ftruncate": unix.SYS_FTRUNCATE, "sendto": unix.SYS_SENDTO, "sendmsg": unix.SYS_SENDMSG,
	"mount": unix.SYS_MOUNT, "umount2": unix.SYS_UMOUNT2, "move_mount": unix.SYS_MOVE_MOUNT, "setns": unix.SYS_SETNS,
	"exit_group": unix.SYS_EXIT_GROUP,
}

// asChild begins the arguments of the process that becomes the command: it waits until it is traced.
const asChild = "-child"

// failed is the exit status of killat itself, which no command under test ends with: `dnet run` has 125.
const failed = 99

// All is done by the first thread: that one traces, and of the child it is the one that is traced.
func init() { runtime.LockOSThread() }

func main() {
	err := errors.New("usage: killat CALL N COMMAND [ARG...]")
	switch args := os.Args[1:]; {
	case len(args) > 2 && args[0] == asChild:
		err = become(args[1], args[2:])
	case len(args) > 2:
		err = run(args[0], args[1], args[2:])
	}
	fmt.Fprintln(os.Stderr, "killat:", err)
	os.Exit(failed)
}

// become makes this process the command, with the filter, once another one traces it: descriptor 3
// comes to its end then.
func become(call string, command []string) error {
	if _, err := unix.Read(3, make([]byte, 1)); err != nil {
		return err
	}
	unix.CloseOnExec(3)
	path, err := exec.LookPath(command[0])
	if err != nil {
		return err
	}
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the call's number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: numbers[call], Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_TRACE},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	return unix.Exec(path, command, os.Environ())
}

// run runs the command until all of its processes have ended, and ends as it does. It returns only if it failed.
func run(call, nth string, command []string) error {
	n, err := strconv.Atoi(nth)
	if _, known := numbers[call]; !known || err != nil || n < 1 {
		return fmt.Errorf("%s %s: want one of %d system calls and a number from 1 on", call, nth, len(numbers))
	}
	pid, err := start(call, command)
	if err != nil {
		return err
	}
	status, err := tracer{n: n, isSend: call == "sendto", counts: map[int]int{}}.trace(pid)
	if err != nil {
		return err
	}
	if status.Signaled() {
		return unix.Kill(os.Getpid(), status.Signal())
	}
	os.Exit(status.ExitStatus())
	return nil
}

// start starts a process that becomes the command, and traces it and all that it will start.
func start(call string, command []string) (pid int, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	defer w.Close() // which the child waits for
	child := exec.Command("/proc/self/exe", append([]string{asChild, call}, command...)...)
	child.Stdin, child.Stdout, child.Stderr, child.ExtraFiles = os.Stdin, os.Stdout, os.Stderr, []*os.File{r}
	if err := child.Start(); err != nil {
		return 0, err
	}
	const options = unix.PTRACE_O_TRACESECCOMP | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK |
		unix.PTRACE_O_TRACEEXEC
	pid = child.Process.Pid
	if _, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(pid), 0, options, 0, 0); errno != 0 {
		return 0, fmt.Errorf("ptrace: %w", errno)
	}
	return pid, nil
}
