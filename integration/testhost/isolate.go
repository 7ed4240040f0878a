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

// inside marks the processes that Isolate started: the first of the PID namespace, and
// the one that runs the rest of the program.
const (
	inside  = "DCNI_TESTHOST"
	asFirst = "first"
	asRest  = "rest"
)

// Isolate runs the rest of the program in PID, mount and network namespaces of
// its own: it starts the program a second time, as the first process of a PID
// namespace, which starts it a third time, and ends with that one's exit status. In
// the third process it returns at once.
//
// The process between waits for whatever a test leaves behind. Without it a thousand dead
// processes are in /proc at the end, and each search for a process reads them all.
//
// So whatever a test starts (containerd, its shims, a sleeping helper) ends
// with the test, also when the test is killed: the kernel kills a PID
// namespace with its first process, and that one dies with us. And what by
// mistake happens on a thread that is in no host happens in an empty network,
// not in the machine's.
func Isolate() error {
	switch os.Getenv(inside) {
	case asFirst:
		return beFirst()
	case asRest:
		return os.Unsetenv(inside)
	}
	if os.Geteuid() != 0 {
		return errors.New("needs root to make namespaces: run `make integration`")
	}
	// Pdeathsig follows the thread that started the child, not the process.
	runtime.LockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"="+asFirst)
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

// beFirst is the first process of a PID namespace: it starts the program once more, waits for
// every process that is left to it, and ends as the program does.
func beFirst() error {
	if err := settle(); err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"="+asRest)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait: %w", err)
		}
		if err == nil && pid == cmd.Process.Pid {
			if status.Signaled() {
				return fmt.Errorf("%s ended: %s", cmd.Path, status.Signal())
			}
			os.Exit(status.ExitStatus())
		}
	}
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
