package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"dcni/pkg/host/agent"
	"dcni/pkg/host/systemd"
)

// A manager is the systemd that started dnetd: what it handed over, and what it
// wants to hear. The zero manager is nobody, and hears nothing.
type manager struct {
	*systemd.Service
	listener *net.UnixListener // of dnetd.socket; nil: none
	store    *fdStore          // nil: none
}

// join has dnetd work with the systemd that the environment tells of, if it tells
// of one. The environment is taken away: it concerns no process that dnetd starts.
func (d *dnetd) join(getenv func(string) string, pid int) error {
	service, handed, err := systemd.Join(getenv, pid)
	for _, name := range systemd.Variables {
		err = errors.Join(err, os.Unsetenv(name))
	}
	m := manager{Service: service}
	var stored []systemd.Descriptor
	for _, h := range handed {
		if _, known := parseStoreKey(h.Name); known || m.listener != nil {
			stored = append(stored, h)
			continue
		}
		l, failed := listenerOf(h, d.options.socket)
		m.listener, err = l, errors.Join(err, failed)
	}
	if service != nil {
		m.store = newFDStore(service, d.log, stored)
		d.vault, d.memory.vault = m.store, m.store
	}
	d.manager = m
	return err
}

// listenerOf returns the listening socket that systemd opened.
func listenerOf(d systemd.Descriptor, socket string) (*net.UnixListener, error) {
	file := os.NewFile(uintptr(d.FD), d.Name)
	defer file.Close()
	l, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("descriptor %q of systemd: %w", d.Name, err)
	}
	unix, ok := l.(*net.UnixListener)
	if !ok || unix.Addr().Network() != "unixpacket" || unix.Addr().String() != socket {
		return nil, errors.Join(l.Close(), fmt.Errorf("systemd listens at %s %s: must be --socket, unixpacket %s",
			l.Addr().Network(), l.Addr(), socket))
	}
	return unix, nil
}

// prior returns a connection to the dnetd that serves at the socket;
// agent.ErrAbsent if there is none. Where systemd listens there, connecting
// proves nothing. A dnetd that was started by hand may have taken that socket
// over, and answers. One that is older than the socket nobody can reach any
// more: it is ended, and leaves its sandboxes to us.
func (d *dnetd) prior() (*agent.Conn, error) {
	if d.manager.listener == nil {
		return agent.Dial(d.options.socket, requestTimeout)
	}
	older := running(readPID(d.options.socket))
	if older == nil {
		return nil, agent.ErrAbsent
	}
	if _, err := agent.Call(d.options.socket, priorTime, agent.Request{Op: agent.Status}); err == nil {
		return agent.Dial(d.options.socket, requestTimeout)
	}
	d.log.Warn("a dnetd that nobody reaches is ended", "pid", older.Pid)
	return nil, errors.Join(agent.ErrAbsent, endProcess(older))
}

// priorTime is how long another dnetd may take to answer.
const priorTime = time.Second

// running returns the process of that ID if it is another of this program.
func running(pid int) *os.Process {
	if pid <= 0 || pid == os.Getpid() {
		return nil
	}
	p, err := os.FindProcess(pid) // holds it: the ID can't become another's meanwhile
	if err != nil {
		return nil
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	own, failed := os.ReadFile("/proc/self/comm")
	if err != nil || failed != nil || !bytes.Equal(name, own) {
		return nil
	}
	return p
}

// endProcess ends a process and waits until it is gone.
func endProcess(p *os.Process) error {
	err := p.Signal(syscall.SIGTERM)
	for end := time.Now().Add(requestTimeout); err == nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			err = p.Kill()
		} else {
			err = p.Signal(syscall.Signal(0))
		}
	}
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// settleStore drops from systemd's store what no record wants. Records of ADDs
// that were at work at the start are up by then.
func (d *dnetd) settleStore(ctx context.Context) {
	if d.manager.store == nil {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d.settleAfter):
		d.manager.store.settle()
	}
}

// settleTime is how long after the start that is.
const settleTime = 30 * time.Second

// tellManager tells systemd that dnetd serves, and how it is, until the context
// ends: which sockets to keep, if it was too busy before, a line when something
// has changed, and, if it waits for that, that dnetd is well.
func (d *dnetd) tellManager(ctx context.Context) {
	m := d.manager
	if m.Service == nil {
		return
	}
	every := tellEvery
	if m.Watchdog > 0 {
		every = min(every, m.Watchdog/3)
	}
	var store sync.WaitGroup
	store.Go(func() { m.store.keepUp(ctx, d.memory.served) })
	defer store.Wait()
	tick := time.NewTicker(every)
	defer tick.Stop()
	var ready bool
	var told string
	for {
		ready = ready || d.hear(m.Ready())
		if now := d.status(); now != told && d.hear(m.Status(now)) {
			told = now
		}
		if m.Watchdog > 0 && d.well(ctx) {
			d.hear(m.Alive())
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// tellEvery is how often dnetd sees whether there is something to tell.
const tellEvery = 5 * time.Second

// status is dnetd's line in systemctl status.
func (d *dnetd) status() string {
	return fmt.Sprintf("%d containers on %d networks", d.memory.count(), d.memory.networkCount())
}

// hear reports whether systemd was told, and logs if it was not.
func (d *dnetd) hear(err error) bool {
	if err != nil {
		d.log.Warn("systemd can't be told", "error", err)
	}
	return err == nil
}

// finish answers what has been read, before the end. What is unread is for a
// successor, or for the next dnetd, which finds the sockets in systemd's store:
// until then queries wait. Where there is neither, nothing is gained by waiting.
func (d *dnetd) finish() {
	switch {
	case d.succeeded.Load():
		d.drain()
	case d.manager.store != nil:
		d.memory.drain(finishTime)
	}
}

// finishTime is how long queries may wait for upstreams when systemd restarts
// dnetd: a socket's buffer holds half a second of many.
const finishTime = 300 * time.Millisecond
