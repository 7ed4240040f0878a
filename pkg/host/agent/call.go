package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/oncejson"
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
	data, err := oncejson.Marshal(r, "")
	if err != nil {
		return Reply{}, err
	}
	if len(data) > maxMessage {
		return Reply{}, tooLong(len(data))
	}
	fd, err := dialBlocking(path, timeout)
	if err != nil {
		return Reply{}, err
	}
	defer unix.Close(fd)
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if err := again(func() error { return unix.Sendmsg(fd, data, rights, nil, unix.MSG_NOSIGNAL) }); err != nil {
		return Reply{}, absent(fmt.Errorf("%s: %w", path, err))
	}
	return readReply(fd, path)
}

// dialBlocking connects to a dnetd, with a time limit for each thing that is done
// then.
func dialBlocking(path string, timeout time.Duration) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	limit := unix.NsecToTimeval(max(timeout, time.Millisecond).Nanoseconds()) // 0 would be for ever
	for _, option := range []int{unix.SO_SNDTIMEO, unix.SO_RCVTIMEO} {
		err = errors.Join(err, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &limit))
	}
	if err == nil {
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

var errTimeout = errors.New("no answer: i/o timeout")

// readReply reads the answer to a request.
func readReply(fd int, path string) (Reply, error) {
	buf, rights := make([]byte, maxReply), make([]byte, unix.CmsgSpace(4))
	var n, m, flags int
	err := again(func() (err error) {
		n, m, flags, _, err = unix.Recvmsg(fd, buf, rights, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	extra, _ := received(rights[:max(m, 0)]) // none are meant to come
	CloseAll(extra)
	switch {
	case err == nil && n == 0:
		err = io.EOF
	case err == nil && flags&unix.MSG_TRUNC != 0:
		err = tooLong(n)
	}
	var reply Reply
	if err == nil {
		err = json.Unmarshal(buf[:n], &reply)
	}
	if err != nil {
		return Reply{}, absent(fmt.Errorf("%s: %w", path, err))
	}
	return reply, reply.Err()
}

// ErrTooLong says that a message is longer than dnetd takes one.
var ErrTooLong = errors.New("too long")

func tooLong(n int) error {
	return fmt.Errorf("message of %d bytes: %w, at most %d", n, ErrTooLong, maxMessage)
}
