package main

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync/atomic"

	"dcni/pkg/cni"
	"dcni/pkg/ddns"
	"dcni/pkg/host"
	"dcni/pkg/host/agent"
	"dcni/pkg/host/early"
)

// maxErrands is how many errands are carried out at a time. What comes beyond
// the plugins do themselves, and their requests must find a place, too.
const maxErrands = maxRequests / 4

// errandCounts are what is counted of them, by how they ended.
type errandCounts [early.Declined + 1]atomic.Uint64

// byOutcome returns the counts under the names that metrics have for them.
func (c *errandCounts) byOutcome() map[string]uint64 {
	return map[string]uint64{
		"done": c[early.Done].Load(), "failed": c[early.Failed].Load(), "declined": c[early.Declined].Load(),
	}
}

// carryOut does what a plugin has to do, in its place, where that can't make a
// difference. The engine and the machine that it works on are the plugin's; only
// what that would ask dnetd for is said here at once. It waits for nobody: who
// holds an attachment may be waiting for dnetd.
func (d *dnetd) carryOut(c *agent.Conn, e *agent.Errand) {
	program, err := d.acceptable(c, e)
	if err == nil {
		err = d.admitErrand()
	}
	if err != nil {
		d.log.Debug("an errand is left to the plugin", "error", err)
		d.answerErrand(c, early.Declined, nil)
		return
	}
	defer func() { <-d.errands }()
	machine, err := host.New(d.store.Store)
	if err != nil {
		d.answerErrand(c, early.Declined, nil) // the plugin can say why
		return
	}
	defer machine.Close() // which waits for the kernel; the plugin does not
	machine.Ask = d.askSelf
	stdout := &printout{}
	status := d.outcome(cni.Errand{
		Plugin: ddns.Plugin, Program: program, Getenv: func(name string) string { return e.Env[name] },
		Conf: e.Conf, Stdout: stdout, Log: d.log, Waits: c.Waits,
	}, machine)
	if stdout.tooLong {
		status = early.Declined
	}
	d.answerErrand(c, status, stdout.Bytes())
}

// ownMark is what a plugin of our version calls it.
var ownMark = early.Mark(early.Version)

// acceptable returns the plugin that an errand is for, or tells why it is none
// of dnetd's.
func (d *dnetd) acceptable(c *agent.Conn, e *agent.Errand) (program string, err error) {
	caller, err := c.Caller()
	switch {
	case err != nil:
		return "", err
	case e.Mark != ownMark:
		return "", fmt.Errorf("version %q: must be %s, as of %s", e.Mark, ownMark, early.Version)
	case filepath.Base(caller.Program) != plugin:
		return "", fmt.Errorf("program %s: must be %s", caller.Program, plugin)
	case !caller.Neighbour:
		return "", errors.New("the plugin's namespaces or its root directory are others")
	case !common(e.Env["CNI_NETNS"]):
		return "", fmt.Errorf("CNI_NETNS %q: may lead the plugin elsewhere than dnetd", e.Env["CNI_NETNS"])
	}
	return caller.Program, nil
}

// common reports whether a path leads every process of these namespaces to the
// same place: some runtimes hand the sandbox to the plugin as an open file,
// /proc/self/fd/3. None at all is common.
func common(path string) bool {
	if path == "" {
		return true
	}
	if !filepath.IsAbs(path) {
		return false
	}
	for _, own := range []string{"/proc/self/", "/proc/thread-self/", "/dev/fd/", "/dev/std"} {
		if strings.HasPrefix(filepath.Clean(path), own) {
			return false
		}
	}
	return true
}

// admitErrand finds a place for an errand.
func (d *dnetd) admitErrand() error {
	select {
	case d.errands <- struct{}{}:
		return nil
	default:
		return fmt.Errorf("%d are being carried out", maxErrands)
	}
}

// A printout is what a plugin is to print. The engine undoes what it can't print.
type printout struct {
	bytes.Buffer
	tooLong bool // for an answer
}

func (p *printout) Write(text []byte) (int, error) {
	if p.tooLong = p.tooLong || p.Len()+len(text) >= early.MaxReply; p.tooLong {
		return 0, errTooLong
	}
	return p.Buffer.Write(text)
}

var errTooLong = errors.New("too long for an answer")

// outcome runs an errand. What would end the plugin must not end dnetd: where
// the engine gives up, the plugin may try.
func (d *dnetd) outcome(errand cni.Errand, machine *host.Host) (status byte) {
	defer func() {
		if why := recover(); why != nil {
			d.log.Error("an errand went wrong", "error", why, "stack", string(debug.Stack()))
			status = early.Declined
		}
	}()
	switch err := errand.Run(d.store.Store, machine); {
	case err == nil:
		return early.Done
	case errors.Is(err, cni.ErrNotNow):
		return early.Declined
	default:
		return early.Failed
	}
}

// answerErrand tells the plugin. Nobody may be left to be told.
func (d *dnetd) answerErrand(c *agent.Conn, status byte, stdout []byte) {
	d.errandCounts[status].Add(1)
	if err := c.Answer(status, stdout); err != nil {
		d.log.Debug("the end of an errand is not heard", "error", err)
	}
}

// askSelf is how errands ask dnetd.
func (d *dnetd) askSelf(r agent.Request, fds ...int) (agent.Reply, error) {
	own, err := agent.Duplicate(fds)
	if err != nil {
		return agent.Reply{}, err
	}
	reply := d.complete(d.perform(r, own))
	return reply, reply.Err()
}
