package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exit statuses when no command was started: those of a shell and of Docker.
const (
	statusNoSandbox     = 125 // the sandbox could not be made
	statusNotExecutable = 126
	statusNotFound      = 127
)

// exec becomes the command, or returns an [ExecError].
func (cmd *Command) exec() error {
	if err := os.Chdir(cmd.Dir); err != nil {
		return execError("chdir to cwd (\""+cmd.Dir+"\")", err)
	}
	if err := cmd.setUser(); err != nil {
		return err
	}
	path, err := cmd.findExecutable()
	if err != nil {
		return err
	}
	return execError("exec "+path, syscall.Exec(path, cmd.Args, cmd.Env))
}

// setUser makes this process the command's user's. The kernel forgets then with which signal
// the process ends when its parent does, so a command that is dnet's child is told again.
func (cmd *Command) setUser() error {
	u := cmd.User
	if u == nil {
		return nil
	}
	if err := errors.Join(syscall.Setgroups(u.Groups), syscall.Setgid(u.GID), syscall.Setuid(u.UID)); err != nil {
		return fmt.Errorf("become user %d:%d: %w", u.UID, u.GID, err)
	}
	if cmd.Join != nil {
		return nil
	}
	return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
}

// findExecutable finds the command's file as a shell does, by PATH of the
// command's own environment.
func (cmd *Command) findExecutable() (string, error) {
	name := cmd.Args[0]
	if strings.Contains(name, "/") {
		err := checkExecutable(name)
		switch {
		case errors.Is(err, unix.ENOENT):
			return "", execError(fmt.Sprintf("exec: %q: stat %s", name, name), err)
		case err != nil:
			return "", execError(fmt.Sprintf("exec: %q", name), err)
		}
		return name, nil
	}
	var denied error
	for _, dir := range filepath.SplitList(value(cmd.Env, "PATH")) {
		path := filepath.Join(dir, name)
		switch err := checkExecutable(path); {
		case err == nil:
			return path, nil
		case errors.Is(err, unix.EACCES):
			denied = err
		}
	}
	if denied != nil {
		return "", execError(fmt.Sprintf("exec: %q", name), denied)
	}
	return "", &ExecError{statusNotFound, fmt.Sprintf("exec: %q: executable file not found in $PATH", name)}
}

func checkExecutable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return unix.EISDIR
	}
	const x = 1 // access(2), X_OK
	return unix.Access(path, x)
}

func execError(what string, err error) *ExecError {
	var errno syscall.Errno
	errors.As(err, &errno)
	status := statusNotExecutable
	if errno == unix.ENOENT {
		status = statusNotFound
	}
	return &ExecError{status, fmt.Sprintf("%s: %v", what, errno)}
}

// value returns a variable of an environment. If it is there twice, the last
// counts.
func value(env []string, name string) string {
	var found string
	for _, kv := range env {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			found = v
		}
	}
	return found
}
