// Package systemd is what systemd and a service say to one another: sockets and
// descriptors handed over at the start (sd_listen_fds(3)), notifications
// (sd_notify(3)), and descriptors that systemd keeps for the next start (the
// file descriptor store of systemd.service(5)).
//
// The protocol is datagrams of NAME=VALUE lines. github.com/coreos/go-systemd
// (v22.7.0) can't send descriptors along, and what it is handed it wraps as
// os.File, whose Fd takes O_NONBLOCK off a socket for every process that has it.
package systemd

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Variables are the environment variables that [Join] reads. They concern the
// process that systemd started, and not the ones that this starts.
var Variables = []string{
	"NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "WATCHDOG_PID", "WATCHDOG_USEC", "FDSTORE",
}

// A Descriptor is one that systemd hands over. The name of a listening socket is
// that of its unit, or its FileDescriptorName; that of a stored one what it was
// stored under.
type Descriptor struct {
	Name string
	FD   int
}

// A Service speaks to the systemd that started this process. It may be used by
// several goroutines. The nil Service, of a process that no service manager waits for, does
// nothing.
type Service struct {
	// Watchdog is how long systemd waits for a [Service.Alive] before it restarts
	// the service; 0: it does not.
	Watchdog time.Duration

	notify *net.UnixAddr

	mu    sync.Mutex // of what is kept, and of the order of messages about it
	kept  map[string]int
	names int // bytes of LISTEN_FDNAMES at the next start
}

// maxNames is the limit for LISTEN_FDNAMES, in bytes: a variable of the
// environment takes 128 KiB (MAX_ARG_STRLEN, execve(2)), and with a longer one
// the service could not be started any more. Some are for the names of its
// listening sockets.
const maxNames = 128<<10 - 1<<10

// How long a message may wait for a systemd that is busy: its queue has room for
// 512 (net.unix.max_dgram_qlen, as systemd sets it). One with descriptors hardly
// waits: ADDs do for it, one after the other, and it may be sent again.
const (
	sayTimeout  = 5 * time.Second
	keepTimeout = 5 * time.Millisecond
)

// firstFD is the number of the first descriptor handed over (SD_LISTEN_FDS_START).
const firstFD = 3

// Join returns the way to systemd, and what it handed over, which is the
// caller's: by the environment, and the process's ID, which the environment must
// be meant for. The Service is nil where systemd waits for no notifications.
func Join(getenv func(string) string, pid int) (*Service, []Descriptor, error) {
	handed, err := handedOver(getenv, pid)
	if err != nil {
		return nil, nil, err
	}
	path := getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil, handed, nil
	}
	s := &Service{notify: &net.UnixAddr{Name: path, Net: "unixgram"}, kept: make(map[string]int)}
	for _, d := range handed {
		s.count(d.Name, 1)
	}
	if s.Watchdog, err = watchdog(getenv, pid); err != nil {
		return nil, handed, err
	}
	return s, handed, nil
}

// handedOver returns the descriptors from [firstFD] on, closed in processes that
// this one starts.
func handedOver(getenv func(string) string, pid int) ([]Descriptor, error) {
	if getenv("LISTEN_PID") != strconv.Itoa(pid) {
		return nil, nil
	}
	n, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if err != nil || n < 0 {
		return nil, fmt.Errorf("LISTEN_FDS=%q is no number of descriptors", getenv("LISTEN_FDS"))
	}
	names := strings.Split(getenv("LISTEN_FDNAMES"), ":")
	list := make([]Descriptor, n)
	for i := range list {
		list[i].FD = firstFD + i
		if i < len(names) {
			list[i].Name = names[i]
		}
		if _, err := unix.FcntlInt(uintptr(list[i].FD), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
			return nil, fmt.Errorf("LISTEN_FDS=%d, descriptor %d: %w", n, list[i].FD, err)
		}
	}
	return list, nil
}

// watchdog returns what WatchdogSec is.
func watchdog(getenv func(string) string, pid int) (time.Duration, error) {
	text := getenv("WATCHDOG_USEC")
	if whose := getenv("WATCHDOG_PID"); text == "" || whose != "" && whose != strconv.Itoa(pid) {
		return 0, nil
	}
	µs, err := strconv.ParseUint(text, 10, 50)
	if err != nil {
		return 0, fmt.Errorf("WATCHDOG_USEC=%q is no number of microseconds", text)
	}
	return time.Duration(µs) * time.Microsecond, nil
}

// Ready says that the service does its work from now on.
func (s *Service) Ready() error { return s.send(sayTimeout, "READY=1") }

// Stopping says that the service is about to end.
func (s *Service) Stopping() error { return s.send(sayTimeout, "STOPPING=1") }

// Alive says that the service is well, see Watchdog.
func (s *Service) Alive() error { return s.send(sayTimeout, "WATCHDOG=1") }

// Status says in a line how the service is, for systemctl status.
func (s *Service) Status(line string) error { return s.send(sayTimeout, "STATUS="+line) }

// ErrFull says that there is no room for another descriptor.
var ErrFull = errors.New("systemd's file descriptor store is full")

// Keep has systemd keep descriptors under a name, and hand them to the next
// process of this service. They stay the caller's. What is kept already stays.
func (s *Service) Keep(name string, fds ...int) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.names+len(fds)*(len(name)+1) > maxNames {
		return ErrFull
	}
	// Without FDPOLL=0 systemd drops a socket with an error waiting, as one has
	// whose peer was not there.
	if err := s.send(keepTimeout, "FDSTORE=1\nFDPOLL=0\nFDNAME="+name, fds...); err != nil {
		return err
	}
	s.count(name, len(fds))
	return nil
}

// Drop has systemd close all that it keeps under a name. With an error it still
// keeps them, and may be told again.
func (s *Service) Drop(name string) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept[name] == 0 {
		return nil
	}
	if err := s.send(keepTimeout, "FDSTOREREMOVE=1\nFDNAME="+name); err != nil {
		return err
	}
	s.count(name, -s.kept[name])
	return nil
}

// count notes that more descriptors, or less, are kept under a name.
func (s *Service) count(name string, n int) {
	s.names += n * (len(name) + 1)
	if s.kept[name] += n; s.kept[name] == 0 {
		delete(s.kept, name)
	}
}

// send sends one message.
func (s *Service) send(timeout time.Duration, state string, fds ...int) error {
	if s == nil {
		return nil
	}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram"}) // at an address that the kernel chooses
	if err == nil {
		defer func() { _ = c.Close() }() // the message is sent
		err = c.SetWriteDeadline(time.Now().Add(timeout))
	}
	if err == nil {
		_, _, err = c.WriteMsgUnix([]byte(state), unix.UnixRights(fds...), s.notify)
	}
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}
