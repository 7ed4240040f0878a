package agent

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestAccept says how waiting for a connection ends.
func TestAccept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	unix, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewListener(unix)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SetDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	if err := l.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	caller, err := Dial(path, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := c.Receive(&Request{}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a message that does not come: %v", err)
	}
	c.SetDeadline(time.Time{})
	if err := errors.Join(caller.Send(Request{Op: Status}), caller.Close()); err != nil {
		t.Fatal(err)
	}
	var r Request
	if _, err := c.Receive(&r); err != nil || r.Op != Status {
		t.Errorf("%v, %v", r, err)
	}
	time.AfterFunc(10*time.Millisecond, func() { _ = l.Close() })
	if _, err := l.Accept(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("when the listener is closed: %v", err)
	}
}
