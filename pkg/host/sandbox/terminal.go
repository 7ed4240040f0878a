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

// foreground gives the terminal to the child, if it is ours to give: a job in
// the background has none.
func (c *Child) foreground() {
	if c.terminal == nil {
		return
	}
	fd := int(c.terminal.Fd())
	if group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err == nil && group == unix.Getpgrp() {
		_ = unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, c.PID) // else it stops when it reads, as jobs do
	}
}

// background takes the terminal back.
func (c *Child) background() {
	if c.terminal == nil {
		return
	}
	fd := int(c.terminal.Fd())
	if group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err == nil && group == c.PID {
		signal.Ignore(unix.SIGTTOU) // who is not in the foreground may not take it otherwise
		_ = unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, unix.Getpgrp())
		signal.Reset(unix.SIGTTOU)
	}
}

// stopped is called when the child was stopped, by ^Z or by reading from a
// terminal that is not its own. Then this process's own job stops too, for the
// shell to see, and when it is continued so is the child.
func (c *Child) stopped() {
	if c.terminal == nil {
		return // somebody's wish, who will continue it
	}
	c.background()
	_ = unix.Kill(0, unix.SIGTSTP)
	c.foreground()
	_ = unix.Kill(-c.PID, unix.SIGCONT)
}
