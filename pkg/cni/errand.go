package cni

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"dcni/pkg/host"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// An Errand is a plugin's call that another process carries out in its place,
// with the plugin's own engine. Who died in the middle of one, the plugin's
// process or the other, has left no more than a plugin that died: the next verb
// finds its record.
type Errand struct {
	Plugin  *Plugin
	Program string                   // absolute path of the plugin
	Getenv  func(name string) string // its environment
	Conf    []byte                   // its standard input
	Stdout  io.Writer                // its standard output
	Log     *slog.Logger             // takes what it would write to its standard error
	Waits   func() bool              // reports whether the plugin still waits for the outcome
}

// ErrNotNow says that an errand was not begun, and nothing was printed.
var ErrNotNow = errors.New("an errand is not begun")

// Why it was not. The plugin itself may wait for its turn; who serves many may
// not. And a verb of a plugin that was killed must not come after the next one,
// which its runtime may have had carried out already.
var (
	errBusy = fmt.Errorf("%w: somebody else works on the attachment", ErrNotNow)
	errGone = fmt.Errorf("%w: the plugin has ended", ErrNotNow)
)

// Run carries the errand out on a machine. What went wrong is printed as the
// plugin would, and returned.
func (e Errand) Run(store records.Store, machine *host.Host) error {
	p := process{getenv: e.Getenv, stdin: bytes.NewReader(e.Conf), stdout: heard{e.Stdout, e.Waits}, stderr: lines{e.Log}}
	return p.attend(func() (verbs, error) {
		engine := e.Plugin.engine(store, machine)
		engine.Store, engine.Program, engine.Log = begun{store, e.Waits}, e.Program, p.stderr
		engine.Foresees = e.Plugin.chained()
		return engine, nil
	})
}

// begun are the records of an errand.
type begun struct {
	records.Store
	waits func() bool
}

// LockAttachment is where an errand begins. From then on the next verb waits for
// this one.
func (b begun) LockAttachment(a wire.Attachment) (*records.Lock, error) {
	lock, free, err := b.TryLockAttachment(a)
	if err == nil && !free {
		err = errBusy
	}
	if err == nil && !b.waits() {
		lock.Unlock()
		err = errGone
	}
	return lock, err
}

// heard is the standard output of a plugin that still waits. To one that does not
// nothing is said: it looks itself by now how far the errand came, or its
// runtime's DEL will.
type heard struct {
	io.Writer
	waits func() bool
}

func (h heard) Write(text []byte) (int, error) {
	if !h.waits() {
		return 0, errGone
	}
	return h.Writer.Write(text)
}

// lines logs what is written, a line each.
type lines struct{ log *slog.Logger }

func (l lines) Write(text []byte) (int, error) {
	l.log.Info(strings.TrimSpace(string(text)))
	return len(text), nil
}
