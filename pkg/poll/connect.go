package poll

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"
)

// A Conn is a non-blocking socket that Go's poller watches, such as an [os.File] of
// its descriptor.
type Conn interface {
	syscall.Conn
	SetWriteDeadline(t time.Time) error
}

// Connected waits until a socket is connected after connect(2) returned EINPROGRESS.
// The error is the connection's, or the context's once that is done.
func Connected(ctx context.Context, c Conn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetWriteDeadline(time.Unix(1, 0)) })
	var failed error
	err = raw.Write(func(fd uintptr) (done bool) {
		// Go's poller reports only what happens from now on, and the socket may be
		// connected already: ask before waiting.
		code, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR)
		if err == nil && code != 0 {
			err = syscall.Errno(code)
		}
		if err == nil {
			_, err = syscall.Getpeername(int(fd))
		}
		failed = os.NewSyscallError("connect", err)
		return !errors.Is(err, syscall.ENOTCONN)
	})
	if !stop() {
		return ctx.Err()
	}
	return errors.Join(err, failed)
}
