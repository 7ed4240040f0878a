package testhost

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// inside marks the process that Isolate started.
const inside = "DCNI_TESTHOST"

// Isolate runs the rest of the program in PID, mount and network namespaces of
// its own: it starts the program a second time, as the first process of a PID
// namespace, and ends with that one's exit status. In the second process it
// returns at once.
//
// So whatever a test starts (containerd, its shims, a sleeping helper) ends
// with the test, also when the test is killed: the kernel kills a PID
// namespace with its first process, and that one dies with us. And what by
// mistake happens on a thread that is in no host happens in an empty network,
// not in the machine's.
func Isolate() error {
	if os.Getenv(inside) != "" && os.Getpid() == 1 {
		return settle()
	}
	if os.Geteuid() != 0 {
		return errors.New("needs root to make namespaces: run `make integration`")
	}
	// Pdeathsig follows the thread that started the child, not the process.
	runtime.LockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	err := cmd.Run()
	removeCgroups()
	if cmd.ProcessState == nil {
		return err
	}
	os.Exit(cmd.ProcessState.ExitCode())
	return nil
}

// settle makes the new mount namespace private, so that nothing mounted in it
// reaches the machine's, and shows the new PID namespace in /proc.
func settle() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}
