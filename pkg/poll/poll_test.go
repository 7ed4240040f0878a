package poll

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair returns the descriptors of two connected sockets.
func pair(t *testing.T) (a, b int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.Close(fds[0]), unix.Close(fds[1]) })
	return fds[0], fds[1]
}

// write makes the other end of a socket readable.
func write(t *testing.T, fd int) {
	t.Helper()
	if _, err := unix.Write(fd, []byte("x")); err != nil {
		t.Fatal(err)
	}
}

// events returns the events that come within a moment, in order.
func (e *Epoll) events(t *testing.T, most int) []int32 {
	t.Helper()
	if err := e.SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	var all []int32
	err := e.Each(most, func(ids []int32) {
		if len(ids) > most {
			t.Errorf("%d events at once: must be at most %d", len(ids), most)
		}
		all = append(all, ids...)
	})
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func open(t *testing.T) *Epoll {
	t.Helper()
	e, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func TestEvents(t *testing.T) {
	e := open(t)
	var ends []int
	for id := range int32(5) {
		a, b := pair(t)
		if err := e.Add(a, id, Readable|Once); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, b)
	}
	if got := e.events(t, 2); got != nil {
		t.Errorf("nothing was written: %v", got)
	}
	for _, b := range ends[:3] {
		write(t, b)
	}
	if got := e.events(t, 2); !slices.Equal(got, []int32{0, 1, 2}) {
		t.Errorf("events of %v: must be of 0 to 2, once each", got)
	}
}

func TestChange(t *testing.T) {
	e := open(t)
	a, b := pair(t)
	write(t, b)
	if err := e.Add(a, 7, 0); err != nil {
		t.Fatal(err)
	}
	if got := e.events(t, 1); got != nil {
		t.Errorf("it is watched for nothing: %v", got)
	}
	for _, id := range []int32{7, 8, 8} { // each is one event
		if err := e.Change(a, id, Readable|Once); err != nil {
			t.Fatal(err)
		}
		if got := e.events(t, 1); !slices.Equal(got, []int32{id}) {
			t.Errorf("%v: must be one of %d", got, id)
		}
	}
	if err := e.Remove(a); err != nil {
		t.Fatal(err)
	}
	if err := e.Change(a, 7, Readable); !errors.Is(err, unix.ENOENT) {
		t.Errorf("it is still watched: %v", err)
	}
}

// Without Once a socket has events as long as there is something to read.
func TestAgain(t *testing.T) {
	e := open(t)
	a, b := pair(t)
	if err := e.Add(a, 1, Readable); err != nil {
		t.Fatal(err)
	}
	write(t, b)
	times := 0
	if err := e.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	err := e.Each(1, func([]int32) {
		if times++; times == 3 {
			_ = e.Close()
		}
	})
	if errors.Is(err, os.ErrDeadlineExceeded) || times != 3 {
		t.Errorf("%v after %d events", err, times)
	}
}

func TestClose(t *testing.T) {
	e := open(t)
	ended := make(chan error)
	for range 2 {
		go func() { ended <- e.Each(1, func([]int32) {}) }()
	}
	time.Sleep(10 * time.Millisecond) // one waits for events, the other for its turn
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-ended; errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	}
	a, _ := pair(t)
	if err := e.Add(a, 1, Readable); err == nil {
		t.Error("added to a closed one")
	}
}
