package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// memory runs a plugin in its place, and adds the plugin's greatest resident
// size to a file: `memory FILE PLUGIN`.
//
// The size is read from /proc while the plugin is stopped at its exit. The
// figure of wait4(2) would not do: it counts in the size of the process that
// forked, which is greater than a plugin.
func memory(log, plugin string) error {
	runtime.LockOSThread() // a tracer is a thread
	cmd := exec.Command(plugin)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	pid := cmd.Process.Pid
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
		return err
	}
	if err := syscall.PtraceSetOptions(pid, syscall.PTRACE_O_TRACEEXIT); err != nil {
		return err
	}
	for signal := 0; ; {
		if err := syscall.PtraceCont(pid, signal); err != nil {
			return err
		}
		if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
			return err
		}
		switch {
		case status.Exited():
			os.Exit(status.ExitStatus())
		case status.Signaled():
			return fmt.Errorf("%s: %s", plugin, status.Signal())
		case status.TrapCause() == syscall.PTRACE_EVENT_EXIT:
			signal = 0
			if err := note(log, pid); err != nil {
				return err
			}
		default:
			signal = int(status.StopSignal())
		}
	}
}

// note appends the size of a process to a file.
func note(log string, pid int) error {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	_, size, _ := bytes.Cut(status, []byte("VmHWM:"))
	size, _, _ = bytes.Cut(size, []byte("kB"))
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, string(size))
	return errors.Join(err, f.Close())
}
