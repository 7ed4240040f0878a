// Package netconn waits for connections that package net can't make: of another
// network namespace, with a mark, or of a protocol that it has no name for.
package netconn

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"
)

// A Conn is a socket that does not block and that Go's poller watches, such as a
// file that was made of its descriptor.
type Conn interface {
	syscall.Conn
	SetWriteDeadline(t time.Time) error
}

// Established waits until a socket is connected of which connect(2) said
// EINPROGRESS. The error is the connection's, or the context's once that is done.
func Established(ctx context.Context, c Conn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetWriteDeadline(time.Unix(1, 0)) })
	var failed error
	err = raw.Write(func(fd uintptr) (done bool) {
		// Once it has asked, the poller tells of what happens from then on only:
		// it may be done already.
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
