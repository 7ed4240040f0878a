package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"dcni/pkg/overlay"
)

// A Client uses the store of a [Server]. Many may do so at once: each call has a
// connection, and leaves it to the next one.
type Client struct {
	path    string
	timeout time.Duration

	mu     sync.Mutex
	closed bool
	idle   []*conn
}

var _ overlay.Store = (*Client)(nil)

// maxIdle is how many connections wait for the next call.
const maxIdle = 4

// Dial connects to the server at a path. It returns ErrUnavailable where none is. The
// timeout is how long the server may take to accept a connection, and for each answer
// but those of Watch, Keep and Admin; 0: as long as a call's context. It should be
// longer than that of the server's own store, which knows better what is wrong.
func Dial(path string, timeout time.Duration) (*Client, error) {
	c := &Client{path: path, timeout: timeout}
	conn, err := c.dial(context.Background())
	if err != nil {
		return nil, err
	}
	c.release(conn)
	return c, nil
}

// Close closes the connections that no call has. The calls end as they would.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	var err error
	for _, conn := range c.idle {
		err = errors.Join(err, conn.Close())
	}
	c.idle = nil
	return err
}

// Get returns an entry.
func (c *Client) Get(ctx context.Context, key string) (overlay.Entry, error) {
	r, err := c.ask(ctx, request{Op: opGet, Key: key}, c.timeout)
	if err != nil || r.Entry == nil {
		return overlay.Entry{}, orEmpty(err)
	}
	return *r.Entry, nil
}

// orEmpty returns an error, or that an answer lacks what it is to have.
func orEmpty(err error) error {
	if err == nil {
		return errors.New("dclusterd: an answer with nothing in it: is it of another version?")
	}
	return err
}

// List calls each with the entries below a prefix.
func (c *Client) List(ctx context.Context, prefix string, each func(overlay.Entry) error) (revision int64, err error) {
	err = c.frames(ctx, request{Op: opList, Key: prefix}, c.timeout, func(r reply) error {
		revision = r.Revision
		for _, e := range r.Entries {
			if err := each(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return revision, nil
}

// Commit makes changes if the conditions hold.
func (c *Client) Commit(ctx context.Context, t overlay.Txn) (bool, int64, error) {
	r, err := c.ask(ctx, request{Op: opCommit, Txn: &t}, c.timeout)
	return r.Done, r.Revision, err
}

// Watch calls each with changes.
func (c *Client) Watch(ctx context.Context, prefix string, after int64, each func(int64, []overlay.Event) error) error {
	err := c.frames(ctx, request{Op: opWatch, Key: prefix, After: after}, 0, func(r reply) error {
		if len(r.Events) == 0 {
			return nil
		}
		return each(r.Revision, r.Events)
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// Keep keeps an entry.
func (c *Client) Keep(ctx context.Context, key string, value []byte, ttl int) error {
	frame, err := packRequest(request{Op: opKeep, Key: key, Value: value, TTL: ttl})
	if err != nil {
		return err
	}
	conn, err := c.begin(ctx, frame)
	if err != nil {
		return err
	}
	defer conn.Close()
	// The server deletes the entry once it has read the end, and then answers.
	stop := context.AfterFunc(ctx, func() {
		_ = conn.CloseWrite()
		if c.timeout > 0 {
			_ = conn.SetReadDeadline(time.Now().Add(c.timeout))
		}
	})
	defer stop()
	_, err = c.receive(conn)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return c.failed(ctx, err)
}

// Self returns what the server says of its node.
func (c *Client) Self(ctx context.Context) (Self, error) {
	r, err := c.ask(ctx, request{Op: opSelf}, c.timeout)
	if err != nil || r.Self == nil {
		return Self{}, orEmpty(err)
	}
	return *r.Self, nil
}

// Admin has the server carry out a verb. args is sent as JSON, nil: none; into gets the
// result, nil: it is of no interest. Only the context limits its time.
func (c *Client) Admin(ctx context.Context, verb string, args, into any) error {
	q := request{Op: opAdmin, Verb: verb}
	if args != nil {
		data, err := json.Marshal(args)
		if err != nil {
			return fmt.Errorf("%s: %w", verb, err)
		}
		q.Args = data
	}
	r, err := c.ask(ctx, q, 0)
	if err != nil || into == nil {
		return err
	}
	if err := json.Unmarshal(r.Result, into); err != nil {
		return fmt.Errorf("%s: the answer: %w", verb, err)
	}
	return nil
}

// ask sends a request and returns the answer of one frame.
func (c *Client) ask(ctx context.Context, q request, timeout time.Duration) (answer reply, err error) {
	err = c.frames(ctx, q, timeout, func(r reply) error {
		answer = r
		return nil
	})
	return answer, err
}

// frames sends a request and hands on the answer's frames, for each of which the server
// has so much time.
func (c *Client) frames(ctx context.Context, q request, timeout time.Duration, each func(reply) error) error {
	frame, err := packRequest(q)
	if err != nil {
		return err
	}
	conn, err := c.begin(ctx, frame)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	usable := false
	defer func() {
		if stop() && usable {
			c.release(conn)
		} else {
			conn.Close()
		}
	}()
	for {
		if timeout > 0 {
			_ = conn.SetReadDeadline(time.Now().Add(timeout))
		}
		if ctx.Err() != nil { // the deadline may have been that of its end
			return c.failed(ctx, ctx.Err())
		}
		r, err := c.receive(conn)
		usable = r.Last
		if err != nil {
			return c.failed(ctx, err)
		}
		if err := each(r); err != nil {
			return err
		}
		if r.Last {
			return nil
		}
	}
}

// receive reads a frame of an answer. The error may be the one that it tells of.
func (c *Client) receive(conn *conn) (r reply, err error) {
	frame, err := conn.receive()
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(frame, &r); err != nil {
		return reply{}, fmt.Errorf("%w: %w", errFrame, err)
	}
	return r, r.Failure.err()
}

// begin sends a request on a connection. One that waited may be of a server that has
// ended since, and has not heard of the request then.
func (c *Client) begin(ctx context.Context, frame []byte) (*conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, c.failed(ctx, err)
	}
	for {
		conn := c.take()
		waited := conn != nil
		if !waited {
			var err error
			if conn, err = c.dial(ctx); err != nil {
				return nil, err
			}
		}
		_, err := conn.Write(frame)
		if err == nil {
			return conn, nil
		}
		conn.Close()
		if !waited {
			return nil, c.failed(ctx, err)
		}
	}
}

func (c *Client) dial(ctx context.Context) (*conn, error) {
	d := net.Dialer{Timeout: c.timeout}
	nc, err := d.DialContext(ctx, "unix", c.path)
	if err != nil {
		return nil, c.failed(ctx, err)
	}
	return newConn(nc.(*net.UnixConn)), nil
}

// take returns a connection that waits for a call, or nil.
func (c *Client) take() *conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.idle)
	if n == 0 {
		return nil
	}
	conn := c.idle[n-1]
	c.idle = slices.Delete(c.idle, n-1, n)
	return conn
}

// release has a connection wait for the next call.
func (c *Client) release(conn *conn) {
	if conn.SetDeadline(time.Time{}) != nil {
		conn.Close()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle) == maxIdle {
		conn.Close()
		return
	}
	c.idle = append(c.idle, conn)
}

// failed returns what an error is to the callers of a store. One that the server sent
// stays what it is.
func (c *Client) failed(ctx context.Context, err error) error {
	var remote *remoteError
	switch {
	case err == nil || errors.As(err, &remote):
		return err
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %s: %w", overlay.ErrUnavailable, c.path, ctx.Err())
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w: %s: no answer within %v", overlay.ErrUnavailable, c.path, c.timeout)
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %s: dclusterd has ended", overlay.ErrUnavailable, c.path)
	}
	var op *net.OpError
	if errors.As(err, &op) { // its text repeats the path
		err = op.Err
	}
	return fmt.Errorf("%w: %s: %w", overlay.ErrUnavailable, c.path, err)
}
