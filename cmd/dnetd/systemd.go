package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"dcni/pkg/host/systemd"
)

// A manager is the systemd that started dnetd: what it handed over, and what it
// wants to hear. The zero manager is nobody, and hears nothing.
type manager struct {
	*systemd.Service
	listener *net.UnixListener // of dnetd.socket; nil: none
	store    *fdStore          // nil: none
}

// joinManager returns the systemd that the environment tells of. The environment
// is taken away: it concerns no process that dnetd starts.
func joinManager(socket string, log *slog.Logger) (manager, error) {
	service, handed, err := systemd.Join(os.Getenv, os.Getpid())
	for _, name := range systemd.Variables {
		err = errors.Join(err, os.Unsetenv(name))
	}
	m := manager{Service: service}
	var stored []systemd.Descriptor
	for _, d := range handed {
		if _, known := parseStoreKey(d.Name); known || m.listener != nil {
			stored = append(stored, d)
			continue
		}
		l, failed := listenerOf(d, socket)
		m.listener, err = l, errors.Join(err, failed)
	}
	if service != nil {
		m.store = newFDStore(service, log, stored)
	}
	return m, err
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

// tell tells systemd how dnetd is, until the context ends: a line when something
// has changed, and, if it waits for that, that dnetd is well.
func (m manager) tell(ctx context.Context, log *slog.Logger, state func() string, health func(context.Context) error) {
	if m.Service == nil {
		return
	}
	every := tellEvery
	if m.Watchdog > 0 {
		every = min(every, m.Watchdog/3)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var told string
	for {
		if now := state(); now != told {
			told = now
			say(log, m.Status(now))
		}
		if m.Watchdog > 0 && well(ctx, log, health) {
			say(log, m.Alive())
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

// well reports whether dnetd is.
func well(ctx context.Context, log *slog.Logger, health func(context.Context) error) bool {
	limited, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	err := health(limited)
	if err != nil && ctx.Err() == nil {
		log.Error("dnetd is not well", "error", err)
	}
	return err == nil
}

// say logs that systemd could not be told.
func say(log *slog.Logger, err error) {
	if err != nil {
		log.Warn("systemd can't be told", "error", err)
	}
}
