package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"dcni/pkg/host/agent"
	"dcni/pkg/host/proc"
	"dcni/pkg/host/systemd"
)

// A manager is the systemd that started dnetd: what it handed over, and where it
// is notified. The zero manager stands for a dnetd that systemd did not start.
type manager struct {
	*systemd.Service
	listener *net.UnixListener // of dnetd.socket; nil: none
	store    *fdStore          // nil: none
}

// join has dnetd work with the systemd that the environment names, if it names one.
// It unsets the variables, which are not for programs that dnetd starts.
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
		d.socketStore, d.registry.socketStore = m.store, m.store
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

// predecessor returns a connection to the dnetd that serves at the socket;
// agent.ErrAbsent if there is none. Where systemd listens, a connection does not
// prove that a dnetd runs. One that was started by hand, and has taken that socket
// over, answers. A dnetd that is older than the socket can't be reached through it:
// predecessor ends that one, and this dnetd serves its sandboxes.
func (d *dnetd) predecessor() (*agent.Conn, error) {
	if d.manager.listener == nil {
		return agent.Dial(d.options.socket, requestTimeout)
	}
	older := running(readPID(d.options.socket))
	if older == nil {
		return nil, agent.ErrAbsent
	}
	if _, err := agent.Call(d.options.socket, probeTimeout, agent.Request{Op: agent.Status}); err == nil {
		return agent.Dial(d.options.socket, requestTimeout)
	}
	d.log.Warn("a dnetd that can't be reached is ended", "pid", older.Pid)
	return nil, errors.Join(agent.ErrAbsent, endProcess(older))
}

// probeTimeout is how long another dnetd may take to say that it runs.
const probeTimeout = time.Second

// running returns the process of an ID if it is another process of this program.
func running(pid int) *os.Process {
	if pid <= 0 || pid == os.Getpid() {
		return nil
	}
	p, err := os.FindProcess(pid) // has a descriptor of the process, so the ID can't become another's
	if err != nil {
		return nil
	}
	if name := proc.Process(pid).Name(); name == "" || name != proc.Process(os.Getpid()).Name() {
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

// cleanStore drops from systemd's store pairs that no record has claimed. By then,
// the records of ADDs that were at work at the start are up.
func (d *dnetd) cleanStore(ctx context.Context) {
	if d.manager.store == nil {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d.claimTime):
		d.manager.store.dropUnclaimed()
	}
}

// claimTime is how long after the start cleanStore waits.
const claimTime = 30 * time.Second

// notifySystemd notifies systemd until the context ends: that dnetd serves, the
// sockets to keep that it was too busy for, the status when it has changed, and
// that dnetd is well if systemd watches it.
func (d *dnetd) notifySystemd(ctx context.Context) {
	m := d.manager
	if m.Service == nil {
		return
	}
	every := notifyEvery
	if m.Watchdog > 0 {
		every = min(every, m.Watchdog/3)
	}
	var store sync.WaitGroup
	store.Go(func() { m.store.retryLoop(ctx, d.registry.eachEndpoint) })
	defer store.Wait()
	tick := time.NewTicker(every)
	defer tick.Stop()
	var ready bool
	var sent string
	for {
		ready = ready || d.notified(m.Ready())
		if now := d.status(); now != sent && d.notified(m.Status(now)) {
			sent = now
		}
		if m.Watchdog > 0 && d.well(ctx) {
			d.notified(m.Alive())
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// notifyEvery is how often dnetd looks whether there is something to send.
const notifyEvery = 5 * time.Second

// status is dnetd's line in systemctl status.
func (d *dnetd) status() string {
	return fmt.Sprintf("%d containers on %d networks", d.registry.count(), d.registry.networkCount())
}

// notified reports whether systemd took a notification, and logs if it did not.
func (d *dnetd) notified(err error) bool {
	if err != nil {
		d.log.Warn("systemd can't be told", "error", err)
	}
	return err == nil
}

// finish answers the queries that have been read, before the end. A successor reads
// the others, or the next dnetd, which finds the sockets in systemd's store. Where
// there is neither, waiting gains nothing.
func (d *dnetd) finish() {
	switch {
	case d.handedOver.Load():
		d.drain()
	case d.manager.store != nil:
		d.registry.drain(finishTime)
	}
}

// finishTime is how long queries may wait for upstreams when systemd restarts
// dnetd. Under load a socket's buffer is full after half a second.
const finishTime = 300 * time.Millisecond
