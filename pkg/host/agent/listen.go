package agent

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// absent says what it means when a connection breaks before its reply: that
// dnetd was ending as it was asked.
func absent(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		return fmt.Errorf("%w: it ended meanwhile", ErrAbsent)
	}
	return err
}

// Listen makes the socket at a path, for root alone, in place of one that a dnetd
// left that was killed. The file stays when the listener is closed: it may be
// another's by then.
func Listen(path string) (*net.UnixListener, error) {
	old, err := os.Lstat(path)
	if err == nil && old.Mode().Type() != os.ModeSocket {
		return nil, fmt.Errorf("%s is there, and is no socket", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	was := unix.Umask(0o177)
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	unix.Umask(was)
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	return l, nil
}

// Opener returns the ID of the process that made a listening socket: another's
// where it was handed over.
func Opener(l *net.UnixListener) (int, error) {
	cred, err := credentials(l)
	if err != nil {
		return 0, err
	}
	return int(cred.Pid), nil
}
