package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"dcni/pkg/overlay"
)

const (
	// page is how many entries a frame has.
	page = 500
	// patience is how long a client may leave what it is sent unread. One that takes
	// longer has to begin anew.
	patience = 20 * time.Second
)

// A Server serves a store to the processes of its node. All of its fields are needed.
type Server struct {
	Store overlay.Store
	Self  func() Self
	// Admin answers what is no matter of the store, such as `dnet cluster`. Neither
	// verb nor args were looked at. Its errors keep their kind and code.
	Admin func(ctx context.Context, verb string, args json.RawMessage) (json.RawMessage, error)
}

// Listen makes the socket at a path, of mode 0600 from the start, in place of one that
// is there. Its directory must exist.
func Listen(path string) (*net.UnixListener, error) {
	// No other user can look into a new directory, where the socket gets its mode.
	dir, err := os.MkdirTemp(filepath.Dir(path), ".sock")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(dir) }() // a directory that is left is empty
	made := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // a file that is left does no harm, and another server's may be there by then
	if err = os.Chmod(made, 0o600); err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(made))
	}
	return l, nil
}

// Serve serves until the context ends, and returns once nothing is served any more. It
// closes the listener.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	ctx, cancel := context.WithCancel(ctx)
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel()
	defer l.Close() // a client that hears of the end finds no listener
	context.AfterFunc(ctx, func() { l.Close() })
	for {
		c, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				c.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // no descriptors are left, mostly
			time.Sleep(50 * time.Millisecond)
			continue
		}
		clients.Go(func() { s.handle(ctx, newConn(c)) })
	}
}

// handle serves a connection. While a request is carried out it reads on, to see when the
// client goes.
func (s *Server) handle(ctx context.Context, c *conn) {
	defer c.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	frames := make(chan []byte)
	bad := make(chan error, 1)
	go func() {
		defer cancel()
		bad <- s.read(ctx, c, frames)
	}()
	for {
		select {
		case frame := <-frames:
			if s.answer(ctx, c, frame) != nil {
				return
			}
		case <-ctx.Done():
			select {
			case err := <-bad:
				if errors.Is(err, errFrame) {
					_ = s.send(c, reply{Last: true, Failure: fail(err)})
				}
			default:
			}
			return
		}
	}
}

// read hands on frames until the client has closed its side.
func (s *Server) read(ctx context.Context, c *conn, frames chan<- []byte) error {
	for {
		frame, err := c.receive()
		if err != nil {
			return err
		}
		select {
		case frames <- frame:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// send sends a frame to a client that reads.
func (s *Server) send(c *conn, r reply) error {
	if err := c.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	frame, err := pack(data)
	if err != nil {
		return err
	}
	_, err = c.Write(frame)
	return err
}

// answer carries out a request. Its error ends the connection.
func (s *Server) answer(ctx context.Context, c *conn, frame []byte) error {
	var q request
	if err := json.Unmarshal(frame, &q); err != nil {
		return s.send(c, reply{Last: true, Failure: fail(fmt.Errorf("request: %w", err))})
	}
	r, err := s.do(ctx, c, q)
	if err != nil {
		r = reply{Failure: fail(err)}
	}
	r.Last = true
	err = s.send(c, r)
	if err == nil || errors.As(err, new(net.Error)) {
		return err
	}
	return s.send(c, reply{Last: true, Failure: fail(err)}) // it was too long
}

// do carries out a request and returns the last frame of the answer.
func (s *Server) do(ctx context.Context, c *conn, q request) (r reply, err error) {
	switch q.Op {
	case opGet:
		var e overlay.Entry
		e, err = s.Store.Get(ctx, q.Key)
		r.Entry = &e
	case opList:
		r, err = s.list(ctx, c, q.Key)
	case opCommit:
		if q.Txn == nil {
			return r, errors.New("commit: there is no txn")
		}
		r.Done, r.Revision, err = s.Store.Commit(ctx, *q.Txn)
	case opWatch:
		err = s.Store.Watch(ctx, q.Key, q.After, func(revision int64, events []overlay.Event) error {
			return s.send(c, reply{Revision: revision, Events: events})
		})
	case opKeep:
		err = s.Store.Keep(ctx, q.Key, q.Value, q.TTL)
	case opSelf:
		self := s.Self()
		r.Self = &self
	case opAdmin:
		r.Result, err = s.Admin(ctx, q.Verb, q.Args)
	default:
		err = fmt.Errorf("op %q: must be one of %s, %s, %s, %s, %s, %s, %s", q.Op, opGet, opList, opCommit, opWatch, opKeep, opSelf, opAdmin)
	}
	return r, err
}

// list sends entries page by page, and returns the last one.
func (s *Server) list(ctx context.Context, c *conn, prefix string) (r reply, err error) {
	r.Revision, err = s.Store.List(ctx, prefix, func(e overlay.Entry) error {
		if len(r.Entries) == page {
			if err := s.send(c, reply{Entries: r.Entries}); err != nil {
				return err
			}
			r.Entries = r.Entries[:0]
		}
		r.Entries = append(r.Entries, e)
		return nil
	})
	return r, err
}
