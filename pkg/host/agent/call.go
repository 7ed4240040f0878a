package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxReply is how long a reply may be, in bytes.
const maxReply = 8 << 10

// Call sends one request to the dnetd at a path and returns its reply; the
// descriptors stay the caller's. The error is ErrAbsent where none runs, and
// what the reply says where that is one.
//
// It blocks its thread. A plugin calls once or twice in its life, and to set up
// the network poller of the Go runtime takes longer than dnetd's answer.
func Call(path string, timeout time.Duration, r Request, fds ...int) (Reply, error) {
	data, err := pack(r)
	if err != nil {
		return Reply{}, err
	}
	fd, err := dialBlocking(path, timeout)
	if err != nil {
		return Reply{}, err
	}
	c := Conn{fd: fd}
	defer c.Close()
	if err := c.send(data, fds); err != nil {
		return Reply{}, absent(fmt.Errorf("%s: %w", path, err))
	}
	reply, err := c.readReply()
	if err != nil {
		return Reply{}, absent(fmt.Errorf("%s: %w", path, err))
	}
	return reply, reply.Err()
}

// dialBlocking connects to a dnetd, with a time limit for each thing that is done
// then.
func dialBlocking(path string, timeout time.Duration) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	limit := unix.NsecToTimeval(max(timeout, time.Millisecond).Nanoseconds()) // 0 would be for ever
	if err = limitEach(fd, limit); err == nil {
		err = again(func() error { return unix.Connect(fd, &unix.SockaddrUnix{Name: path}) })
	}
	switch {
	case err == nil:
		return fd, nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED):
		err = fmt.Errorf("%w at %s", ErrAbsent, path)
	default:
		err = fmt.Errorf("connect to %s: %w", path, err)
	}
	_ = unix.Close(fd) // nothing was sent
	return -1, err
}

// limitEach limits how long each thing that is done with a socket may take; zero:
// for ever.
func limitEach(fd int, limit unix.Timeval) (err error) {
	for _, option := range []int{unix.SO_SNDTIMEO, unix.SO_RCVTIMEO} {
		err = errors.Join(err, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &limit))
	}
	return err
}

// again repeats a system call that a signal interrupted, which the Go runtime
// sends its threads. EAGAIN is how a time limit shows.
func again(call func() error) error {
	for {
		switch err := call(); {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return errTimeout
		default:
			return err
		}
	}
}

var errTimeout = fmt.Errorf("no answer: %w", os.ErrDeadlineExceeded)

// readReply reads the answer to a request.
func (c *Conn) readReply() (reply Reply, err error) {
	buf := make([]byte, maxReply)
	n, extra, err := c.receive(buf)
	CloseAll(extra) // none are meant to come
	if err != nil {
		return Reply{}, err
	}
	return reply, json.Unmarshal(buf[:n], &reply)
}

// ErrTooLong says that a message is longer than dnetd takes one.
var ErrTooLong = errors.New("too long")

func tooLong(n int) error {
	return fmt.Errorf("message of %d bytes: %w, at most %d", n, ErrTooLong, maxMessage)
}
