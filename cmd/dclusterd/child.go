package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"dcni/pkg/host/detach"
	"dcni/pkg/overlay/etcd/member"
)

// memberArg is the argument by which this program is a member of the store.
const memberArg = "member"

// Times of the member's process.
const (
	firstBackoff = 200 * time.Millisecond // before it is started again
	lastBackoff  = 30 * time.Second
	steadyTime   = time.Minute      // one that lived so long is started again at once
	endTime      = 10 * time.Second // from SIGTERM on
)

// A child is the process of the node's member. It is started again whenever it ends. The
// member's library ends its process in more than a hundred places, for one when the disk
// is full; this one goes on.
type child struct {
	n       *node
	program string

	ctx     context.Context
	stop    context.CancelFunc
	stopped chan struct{} // is closed when run has ended

	mu   sync.Mutex
	pid  int   // 0: it does not run
	last error // why it ended last
}

func newChild(n *node) *child {
	c := &child{n: n, program: detach.Self, stopped: make(chan struct{})}
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c
}

// run keeps the process running until end is called.
func (c *child) run() {
	defer close(c.stopped)
	backoff := firstBackoff
	for c.ctx.Err() == nil {
		start := time.Now()
		err := c.once(c.ctx)
		if c.ctx.Err() != nil {
			return
		}
		if time.Since(start) > steadyTime {
			backoff = firstBackoff
		}
		c.n.log.Error("the store's member has ended, and is started again", "error", err, "after", backoff)
		if !sleep(c.ctx, backoff) {
			return
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

// end ends the process, and waits for that.
func (c *child) end() {
	c.stop()
	<-c.stopped
}

// once runs the process until it ends. The process reads a member.Config from its standard
// input, as JSON, and ends at the end of that: when this process has died.
func (c *child) once(ctx context.Context) error {
	if err := c.lost(); err != nil {
		c.note(0, err)
		return err
	}
	cmd := exec.CommandContext(ctx, c.program, memberArg)
	cmd.Args[0] = "dclusterd"
	var said lastWords
	cmd.Stdout, cmd.Stderr = os.Stderr, io.MultiWriter(os.Stderr, &said)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = endTime
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's ^C is for this process, which ends the member
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.note(cmd.Process.Pid, nil)
	if err := json.NewEncoder(in).Encode(c.spec()); err != nil {
		c.n.log.Warn("the member did not read what it is to be", "error", err)
	}
	err = cmd.Wait() // the input stays open until then
	switch words := said.String(); {
	case words != "":
		err = errors.New(words)
	case err == nil:
		err = errors.New("it ended")
	}
	c.note(0, err)
	return fmt.Errorf("process %d: %w", cmd.Process.Pid, err)
}

// lost returns an error where the data of a member that has run is gone. Started all the
// same, it would be an empty store: the nodes would take away all networks.
func (c *child) lost() error {
	m := c.n.conf().Member
	if m == nil || !m.Began || c.n.state.Exists(filepath.Join(m.Dir, "member", "wal")) {
		return nil
	}
	return fmt.Errorf("the data of the store in %s is gone: `dnet cluster restore FILE` makes the store what a snapshot has, `dnet cluster init --recover` makes it anew", m.Dir)
}

// memberSays is what the process's own lines begin with, beside those of its library.
const memberSays = "dclusterd member: "

// lastWords keeps the last line that the process itself wrote, or by which the member's
// library ended it.
type lastWords struct {
	line string // that is being written
	last string
}

// Write takes what the process writes.
func (w *lastWords) Write(p []byte) (int, error) {
	lines := strings.Split(w.line+string(p), "\n")
	for _, line := range lines[:len(lines)-1] {
		if words, is := strings.CutPrefix(line, memberSays); is {
			w.last = words
		} else if words := fatal(line); words != "" {
			w.last = words
		}
	}
	w.line = lines[len(lines)-1]
	if len(w.line) > maxLine {
		w.line = ""
	}
	return len(p), nil
}

// fatal returns what a line of the member's library says if the library ends the process
// with it, else "".
func fatal(line string) string {
	var said struct{ Level, Msg, Error string }
	if json.Unmarshal([]byte(line), &said) != nil || said.Level != "fatal" && said.Level != "panic" {
		return ""
	}
	if said.Error == "" {
		return said.Msg
	}
	return said.Msg + ": " + said.Error
}

// maxLine is how long a line may be that is kept until its end.
const maxLine = 64 << 10

func (w *lastWords) String() string { return w.last }

func (c *child) note(pid int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pid, c.last = pid, err
}

// state returns the process's ID, 0 if it does not run, and why it ended last.
func (c *child) state() (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pid, c.last
}

// spec is what the member is to be.
func (c *child) spec() member.Config {
	conf, s := c.n.conf(), c.n.state
	m := conf.Member
	spec := member.Config{
		Name: conf.Node, Dir: m.Dir, Client: cmp.Or(m.private, conf.clientURL()), Peer: conf.peerURL(),
		TLS:     member.TLS{CA: s.Path(fileCA), Cert: s.Path(fileCert), Key: s.Path(fileKey)},
		Members: m.Members, Cluster: conf.Cluster, State: member.New, ForceNew: m.Alone, Log: "stderr",
	}
	if m.Existing {
		spec.State = member.Existing
	}
	return spec
}
