// Package watch tells of what may have been lost: it hears of all changes of links,
// addresses, routes and nftables, on the host and in sandboxes, and looks at those
// settings that the kernel does not tell of.
package watch

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"dcni/pkg/host/nlsock"
	"dcni/pkg/host/rtnl"

	"golang.org/x/sys/unix"
)

// What may have been lost.
type What int

// The kinds of events.
const (
	// Anything: the kernel could not tell us all that happened.
	Anything What = iota
	// Rules: another program changed the table inet dcni, its users' chain
	// excepted, or an element in it.
	Rules
	// Foreign: rules of other programs changed that what is forwarded may go by. It comes a
	// moment later, once for all changes until then: they may come in crowds.
	Foreign
	// IPTables: another program changed chains of iptables that have or may have rules of dcni's.
	IPTables
	// Forwarding was switched off.
	Forwarding
	// Link: a link of the host was deleted, lowered, set in another way or taken
	// out of its bridge, or it lost an address or a route: a bridge, or the
	// host's end of a veth of ours.
	Link
	// Inside: the other end of a link, or its sandbox's lo, was lowered, or lost
	// an address or a route, or a rule or table of ours there was changed. Where no
	// veth of ours leads there, the event has the namespace's number.
	Inside
	// Lo: the lo of some sandbox was lowered. Containers that joined that one's namespace
	// have no link of their own to tell by.
	Lo
	// Parent: a link of the host came or went, was raised or lowered, or has got another
	// name or MTU. Interfaces of sandboxes may be on it.
	Parent
)

// An Event says where something may not be as it was.
type Event struct {
	What What
	Link string // name of the link, for Link, Inside and Parent
	NSID int    // number of the sandbox's namespace, for Inside without a link
}

// A Watcher hears of all that happens to links, addresses, routes and nftables,
// on the host and in all network namespaces that a link leads to from here,
// looks at the settings that the kernel does not tell of, and reports losses.
// What is added, as with each ADD, is no loss.
type Watcher struct {
	report  func(Event)
	ours    func(program string) bool
	route   *eventSocket
	rules   *eventSocket
	rt      *rtnl.Conn
	mu      sync.Mutex
	state   linkWatch
	again   map[string]bool // host's ends of veths whose sandbox lost an address, see poll
	ledger  ruleWatch
	foreign atomic.Bool // an event Foreign is on its way

	settings settingWatch
	closed   context.Context
	close    context.CancelFunc
}

// New begins to listen; [Watcher.Run] then calls report, which must not wait. Changes
// of rules by programs that are ours are no events.
func New(ours func(program string) bool, report func(Event)) (w *Watcher, err error) {
	w = &Watcher{report: report, ours: ours, again: map[string]bool{}, ledger: ruleWatch{}}
	w.closed, w.close = context.WithCancel(context.Background())
	w.route, err = listenEvents(unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK, unix.RTNLGRP_TC, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
		unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF)
	if err == nil {
		w.rules, err = listenEvents(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	}
	if err == nil {
		w.rt, err = rtnl.Dial()
	}
	if err == nil {
		w.settings.rt, err = rtnl.Dial()
	}
	if err == nil {
		err = w.look()
	}
	if err == nil {
		w.settings.look(w.sandboxes())
	}
	if err != nil {
		w.Close()
		w.free()
		return nil, fmt.Errorf("listen to the kernel: %w", err)
	}
	return w, nil
}

// Run reports until the watcher is closed; the error then is that it is.
func (w *Watcher) Run() error {
	var wg sync.WaitGroup
	errs := make([]error, 2)
	wg.Go(func() { errs[0] = w.route.read(w.onRoute, w.onLoss) })
	wg.Go(func() { errs[1] = w.rules.read(w.onRules, w.onLoss) })
	wg.Go(func() { w.poll(w.closed) })
	wg.Wait()
	return errors.Join(errs...)
}

// free is what Run does in the end.
func (w *Watcher) free() {
	for _, s := range []*eventSocket{w.route, w.rules} {
		if s != nil {
			s.free()
		}
	}
}

// Close ends Run, which is to be called once.
func (w *Watcher) Close() {
	w.close()
	for _, s := range []*eventSocket{w.route, w.rules} {
		if s != nil {
			s.close()
		}
	}
	for _, rt := range []*rtnl.Conn{w.rt, w.settings.rt} {
		if rt != nil {
			rt.Close()
		}
	}
}

// look takes note of the links that there are.
func (w *Watcher) look() error {
	w.mu.Lock() // events wait: they are of before or after
	defer w.mu.Unlock()
	list, err := w.rt.Links()
	if err != nil {
		return err
	}
	w.state = linkWatch{links: map[int]*rtnl.Link{}, parents: map[int]parentLink{}, ask: w.rt.LinkByIndex}
	for _, l := range list {
		w.state.note(l)
		w.state.parents[l.Index] = parentOf(l)
	}
	return nil
}

// onLoss is for events that the socket had no room for.
func (w *Watcher) onLoss() {
	_ = w.look() // what can't be listed now is noted as it changes
	w.report(Event{What: Anything})
}

func (w *Watcher) onRoute(nsid int, r nlsock.Reply) {
	w.mu.Lock()
	events := w.state.feed(nsid, r)
	for _, h := range events {
		if r.Type == unix.RTM_DELADDR && h.What == Inside && h.Link != "" {
			w.again[h.Link] = true
		}
	}
	w.mu.Unlock()
	for _, h := range events {
		w.report(h)
	}
}

func (w *Watcher) onRules(nsid int, r nlsock.Reply) {
	did := w.ledger.feed(nsid, r, w.ours)
	if did.foreign && w.foreign.CompareAndSwap(false, true) {
		time.AfterFunc(foreignAfter, func() {
			w.foreign.Store(false)
			w.report(Event{What: Foreign})
		})
	}
	if did.iptables {
		w.report(Event{What: IPTables})
	}
	if !did.takes {
		return
	}
	if nsid == rtnl.Here {
		w.report(Event{What: Rules})
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, event := range w.state.insideOf(nsid, anyIndex) {
		w.report(event)
	}
}

// An eventSocket hears the multicast messages of all namespaces that have a
// number in ours, as those have that a veth leads to.
type eventSocket struct {
	fd   int
	over int // an eventfd: readable when the socket is to be closed

	mu   sync.Mutex
	gone bool // both are closed; guarded by mu
}

// foreignAfter is how long changes of other programs' rules are let come.
const foreignAfter = 400 * time.Millisecond

// gatherTime is how long messages are let come, from the first on. Each ADD
// yields dozens, and to wake for every one takes a processor from it.
const gatherTime = 20 * time.Millisecond

func listenEvents(protocol int, groups ...int) (*eventSocket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &eventSocket{fd: fd, over: -1}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, nlsock.SocketBuffer) // or as much as the host allows
	// Without CAP_NET_BROADCAST it hears of the host only.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 1)
	// Without an address it would pass for the kernel, and not get its own news.
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for _, group := range groups {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group))
	}
	if err == nil {
		s.over, err = unix.Eventfd(0, unix.EFD_CLOEXEC)
	}
	if err != nil {
		s.free()
		return nil, err
	}
	return s, nil
}

// close makes read return; read frees the socket.
func (s *eventSocket) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.gone {
		_, _ = unix.Write(s.over, binary.NativeEndian.AppendUint64(nil, 1)) // an eventfd takes that
	}
}

func (s *eventSocket) free() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	unix.Close(s.fd)
	if s.over >= 0 {
		unix.Close(s.over)
	}
}

// read passes each message on, and what was lost, until the socket is closed. It
// keeps a thread, which sleeps: the runtime's poller would wake for each message.
func (s *eventSocket) read(on func(nsid int, r nlsock.Reply), lost func()) error {
	defer s.free()
	buf, control := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4))
	for {
		ready := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}, {Fd: int32(s.over), Events: unix.POLLIN}}
		err := nlsock.RetryEINTR(func() error {
			_, err := unix.Poll(ready, -1)
			return err
		})
		switch {
		case err != nil:
			return os.NewSyscallError("poll", err)
		case ready[1].Revents != 0:
			return os.ErrClosed
		}
		pause := unix.NsecToTimespec(gatherTime.Nanoseconds())
		_ = unix.Nanosleep(&pause, nil) // a signal may end it
		if err := s.drain(buf, control, on, lost); err != nil {
			return err
		}
	}
}

// drain passes on what is there.
func (s *eventSocket) drain(buf, control []byte, on func(nsid int, r nlsock.Reply), lost func()) error {
	for {
		n, m, _, _, err := unix.Recvmsg(s.fd, buf, control, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.ENOBUFS):
			lost()
			continue
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return os.NewSyscallError("recvmsg", err)
		}
		nsid := nsidOf(control[:m])
		messages, _ := nlsock.ParseReplies(buf[:n])
		for _, r := range messages {
			on(nsid, r)
		}
	}
}

// nsidOf reads a namespace's number out of a control message.
func nsidOf(control []byte) int {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return rtnl.Here
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_NETLINK && m.Header.Type == unix.NETLINK_LISTEN_ALL_NSID && len(m.Data) >= 4 {
			return int(int32(binary.NativeEndian.Uint32(m.Data)))
		}
	}
	return rtnl.Here
}
