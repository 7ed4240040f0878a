package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestLimitConns has connections beyond the limit closed, and new ones served once others
// have ended.
func TestLimitConns(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ConnState = limitConns(2)
	server.Start()
	defer server.Close()
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	served := func(c net.Conn) bool {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = c.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
		n, _ := c.Read(make([]byte, 1))
		return n == 1
	}
	first, second := dial(), dial()
	if !served(first) || !served(second) {
		t.Fatal("the first two are not served")
	}
	if third := dial(); served(third) {
		t.Error("a third is served")
	}
	first.Close()
	for deadline := time.Now().Add(10 * time.Second); !served(dial()); {
		if time.Now().After(deadline) {
			t.Fatal("none is served after the first has ended")
		}
	}
	if !served(second) {
		t.Error("the second is not served any more")
	}
}
