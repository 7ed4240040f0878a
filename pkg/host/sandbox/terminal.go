package sandbox

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// IsTerminal reports whether a file is a terminal.
func IsTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// foreground gives the terminal to the child, if this process's own group has it. A
// job in the background has no terminal to give.
func (c *Child) foreground() {
	if c.terminal == nil {
		return
	}
	fd := int(c.terminal.Fd())
	if group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err == nil && group == unix.Getpgrp() {
		_ = unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, c.PID) // on an error the child stops when it reads, as a job does
	}
}

// background takes the terminal back.
func (c *Child) background() {
	if c.terminal == nil {
		return
	}
	fd := int(c.terminal.Fd())
	if group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err == nil && group == c.PID {
		signal.Ignore(unix.SIGTTOU) // otherwise a process in the background may not take it
		_ = unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, unix.Getpgrp())
		signal.Reset(unix.SIGTTOU)
	}
}

// stopped is called when the child was stopped by ^Z, or by reading from a terminal
// in the background. It stops this process's own job, so that the shell sees it.
// When the shell continues the job, stopped continues the child.
func (c *Child) stopped() {
	if c.terminal == nil {
		return // another program stopped the child, and will continue it
	}
	c.background()
	_ = unix.Kill(0, unix.SIGTSTP)
	c.foreground()
	_ = unix.Kill(-c.PID, unix.SIGCONT)
}
