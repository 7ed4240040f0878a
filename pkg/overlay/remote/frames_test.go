package remote

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dcni/pkg/overlay"
	"dcni/pkg/overlay/memory"
)

// counted counts the watches that go on.
type counted struct {
	overlay.Store
	watches atomic.Int32
}

func (c *counted) Watch(ctx context.Context, prefix string, after int64, each func(int64, []overlay.Event) error) error {
	c.watches.Add(1)
	defer c.watches.Add(-1)
	return c.Store.Watch(ctx, prefix, after, each)
}

func framed(text string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(text)))) + text
}

// odd is what no client of ours sends, with a part of what the server says of it.
var odd = []struct{ sent, said string }{
	{"", ""},
	{"\x00", ""},
	{"\x00\x00\x00\x05{}", ""},
	{"\x00\x00\x00\x00", "of 0 bytes"},
	{"\xff\xff\xff\xff", "of 4294967295 bytes"},
	{"GET / HTTP/1.1\r\n\r\n", "not a frame"},
	{framed("x"), "request: "},
	{framed("null"), `op \"\": must be one of get`},
	{framed("[]"), "request: "},
	{framed(`{"op":5}`), "request: "},
	{framed(`{"op":"drop"}`), `op \"drop\": must be`},
	{framed(`{"op":"commit"}`), "no txn"},
	{framed(`{"op":"commit","txn":{"then":[{"key":""}]}}`), "key is empty"},
	{framed(`{"op":"get"}`), "not found"},
	{framed(`{"op":"keep","key":"a"}`), "must be 1 or more"},
	{framed(`{"op":"keep","key":"a","ttl":-5}`), "negative"},
	{framed(`{"op":"admin","verb":"none","args":"x"}`), "no such verb"},
	{framed(`{"op":"watch","key":"a","after":-5}`), "compacted"},
	{framed(strings.Repeat("[", 20000)), "request: "},
	{framed("x") + framed(`{"op":"get","key":"a"}`), "not found"}, // and goes on
}

// TestOddFrames: whatever a client sends, it gets an answer or none, and others are
// served.
func TestOddFrames(t *testing.T) {
	f := newFixture(t, memory.New())
	for _, c := range odd {
		conn, err := f.dial().dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, c.sent); err != nil {
			t.Error(err)
		}
		if c.said == "" {
			_ = conn.CloseWrite()
		}
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		said := ""
		for !strings.Contains(said, c.said) || said == "" {
			frame, err := conn.receive()
			if err != nil {
				break
			}
			said += string(frame)
		}
		if !strings.Contains(said, c.said) {
			t.Errorf("to %.40q the server says %q, want %q", c.sent, said, c.said)
		}
		conn.Close()
		served(t, f)
	}
}

func served(t *testing.T, f *fixture) {
	t.Helper()
	if _, err := f.dial().Get(t.Context(), "k"); !errors.Is(err, overlay.ErrNotFound) {
		t.Fatalf("the server is gone: %v", err)
	}
}

func FuzzServer(f *testing.F) {
	for _, c := range odd {
		f.Add([]byte(c.sent))
	}
	fix := newFixture(f, memory.New())
	f.Fuzz(func(t *testing.T, sent []byte) {
		conn, err := (&Client{path: fix.path}).dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = conn.Write(sent) // the server may have closed before
		_ = conn.CloseWrite()
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the server does not end the connection: %v", err)
		}
	})
}

// TestOddAnswers: a client that gets what it can't read says so.
func TestOddAnswers(t *testing.T) {
	path := newFixture(t, memory.New()).path + "2"
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	answers := make(chan string)
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			if _, err := newConn(c).receive(); err == nil {
				_, _ = io.WriteString(c, <-answers)
			}
			c.Close()
		}
	}()
	for _, answer := range []string{"", "\x00\x00", "\x00\x00\x00\x00", "\xff\xff\xff\xff{}", framed("x"), framed(`[]`), framed(`{"last":true}`), framed(`{}`)} {
		c, err := Dial(path, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		go func() { answers <- answer }()
		if e, err := c.Get(t.Context(), "k"); err == nil || errors.Is(err, overlay.ErrNotFound) {
			t.Errorf("answer %q: %v, %v", answer, e, err)
		}
		c.Close()
	}
}
