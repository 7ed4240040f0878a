// Package detach starts processes that outlive the one that starts them: dnetd,
// started by a plugin; the plugin that takes a bind away after ADD; and what
// dnet runs in the background.
package detach

import (
	"fmt"
	"math"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Self is the path of this very program, also if its file was replaced.
const Self = "/proc/self/exe"

// A Command is a program to be started.
type Command struct {
	Path  string
	Args  []string   // Args[0] is the process's name for itself
	Env   []string   // nil: the environment of this process
	Dir   string     // "": the directory of this process
	Files []*os.File // by descriptor, at least three; nil: /dev/null
}

// Start starts the command in a session of its own. The command has no
// descriptors but those of Files: a runtime or shell may have left others open
// by mistake, and waits until the other end of a pipe closes, or for a lock.
func (c Command) Start() (*os.Process, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	files := make([]*os.File, len(c.Files))
	for i, f := range c.Files {
		if files[i] = f; f == nil {
			files[i] = null
		}
	}
	const afterStandard = 3
	if err := unix.CloseRange(afterStandard, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, fmt.Errorf("close_range: %w", err)
	}
	return os.StartProcess(c.Path, c.Args, &os.ProcAttr{
		Dir: c.Dir, Env: c.Env, Files: files, Sys: &syscall.SysProcAttr{Setsid: true},
	})
}
