package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"dcni/pkg/dns"
	"dcni/pkg/relay"
)

// get asks a server for a page.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func noComplaint(context.Context) error { return nil }

// TestMetrics compares the page, without what Go and the process add, with what
// Prometheus's text format says of the figures.
func TestMetrics(t *testing.T) {
	var heals healCounts
	heals.PutBack.Store(4)
	heals.Failed.Store(1)
	r := reading{Containers: 3, Networks: 2, Heals: heals.byKind()}
	r.Relay = relay.Stats{Ports: 5, Waiting: 1, Connections: 6, Sessions: 7, Accepted: 20, Refused: 8, Bytes: 1000}
	r.DNS.Answers = [8]uint64{dns.Local: 10, dns.Cached: 20, dns.Forwarded: 30, dns.Failed: 1, dns.Late: 5, dns.Refused: 2, dns.Malformed: 3, dns.Dropped: 4}
	r.DNS.Latency[0], r.DNS.Latency[3], r.DNS.Latency[len(dns.Buckets)] = 5, 2, 1
	r.DNS.LatencySum = 4500 * time.Millisecond
	r.DNS.UpstreamErrors, r.DNS.Strays, r.DNS.UnderWay, r.DNS.Waiting, r.DNS.Connections, r.DNS.Delayed = 7, 8, 9, 12, 11, 13
	server := httptest.NewServer(httpHandler(func() reading { return r }, noComplaint))
	defer server.Close()
	status, page := get(t, server.URL+"/metrics")
	if status != http.StatusOK {
		t.Fatalf("status %d: %s", status, page)
	}
	var got strings.Builder
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "dcni_") {
			got.WriteString(line)
		}
	}
	const want = `dcni_build_info{goversion="GO",version="VERSION"} 1
dcni_containers 3
dcni_dns_queries_total{answer="cached"} 20
dcni_dns_queries_total{answer="dropped"} 4
dcni_dns_queries_total{answer="failed"} 1
dcni_dns_queries_total{answer="forwarded"} 30
dcni_dns_queries_total{answer="late"} 5
dcni_dns_queries_total{answer="local"} 10
dcni_dns_queries_total{answer="malformed"} 3
dcni_dns_queries_total{answer="refused"} 2
dcni_dns_queries_waiting 12
dcni_dns_tcp_connections 11
dcni_dns_tcp_delayed_total 13
dcni_dns_upstream_duration_seconds_bucket{le="0.001"} 5
dcni_dns_upstream_duration_seconds_bucket{le="0.002"} 5
dcni_dns_upstream_duration_seconds_bucket{le="0.004"} 5
dcni_dns_upstream_duration_seconds_bucket{le="0.008"} 7
dcni_dns_upstream_duration_seconds_bucket{le="0.016"} 7
dcni_dns_upstream_duration_seconds_bucket{le="0.032"} 7
dcni_dns_upstream_duration_seconds_bucket{le="0.064"} 7
dcni_dns_upstream_duration_seconds_bucket{le="0.128"} 7
dcni_dns_upstream_duration_seconds_bucket{le="0.256"} 7
dcni_dns_upstream_duration_seconds_bucket{le="0.512"} 7
dcni_dns_upstream_duration_seconds_bucket{le="1.024"} 7
dcni_dns_upstream_duration_seconds_bucket{le="2.048"} 7
dcni_dns_upstream_duration_seconds_bucket{le="+Inf"} 8
dcni_dns_upstream_duration_seconds_sum 4.5
dcni_dns_upstream_duration_seconds_count 8
dcni_dns_upstream_errors_total 7
dcni_dns_upstream_strays_total 8
dcni_dns_upstream_waiting 9
dcni_heals_total{kind="collected"} 0
dcni_heals_total{kind="failed"} 1
dcni_heals_total{kind="put_back"} 4
dcni_networks 2
dcni_overlay_kernel_checksums 0
dcni_relay_accepted_total 20
dcni_relay_bytes_total 1000
dcni_relay_connections 6
dcni_relay_ports 5
dcni_relay_ports_waiting 1
dcni_relay_refused_total 8
dcni_relay_sessions 7
`
	versions := regexp.MustCompile(`goversion="go[^"]+",version="v[^"]+"`)
	if g := versions.ReplaceAllString(got.String(), `goversion="GO",version="VERSION"`); g != want {
		t.Errorf("got\n%s\nwant\n%s", g, want)
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes", "process_open_fds"} {
		if !strings.Contains(page, "\n"+name+" ") {
			t.Errorf("no %s", name)
		}
	}
}

func TestHealth(t *testing.T) {
	var sick error
	server := httptest.NewServer(httpHandler(func() reading { return reading{} }, func(ctx context.Context) error {
		if _, limited := ctx.Deadline(); !limited {
			t.Error("a look without a limit")
		}
		return sick
	}))
	defer server.Close()
	if status, body := get(t, server.URL+"/healthz"); status != http.StatusOK || body != "ok\n" {
		t.Errorf("got %d %q", status, body)
	}
	sick = errors.New("no answer from /run/dcni/dnetd.sock")
	if status, body := get(t, server.URL+"/healthz"); status != http.StatusServiceUnavailable || body != sick.Error()+"\n" {
		t.Errorf("got %d %q", status, body)
	}
	if status, _ := get(t, server.URL+"/debug"); status != http.StatusNotFound {
		t.Errorf("/debug: %d", status)
	}
	resp, err := http.Post(server.URL+"/metrics", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", resp.StatusCode)
	}
}

// TestMetricsPortTaken: another program has the port; dnetd serves there as soon as
// that is gone, and lets it go when it ends.
func TestMetricsPortTaken(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := other.Addr().String()
	var log strings.Builder
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	server := &webServer{
		Log: slog.New(slog.NewTextHandler(&log, nil)), Retry: 10 * time.Millisecond,
		Handler: httpHandler(func() reading { return reading{} }, noComplaint),
	}
	go func() {
		defer close(ended)
		server.Serve(ctx, address)
	}()
	time.Sleep(2 * grace * server.Retry)
	_ = other.Close()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(server.Retry) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	if status, _ := get(t, "http://"+address+"/healthz"); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	cancel()
	<-ended
	if c, err := net.Dial("tcp", address); err == nil {
		_ = c.Close()
		t.Error("listens after its end")
	}
	if n := strings.Count(log.String(), "address already in use"); n != 1 {
		t.Errorf("logged %d times, want once:\n%s", n, log.String())
	}
}

// TestManyWebClients has more connections than may be, which say nothing: one
// too many is closed, and when they are gone others are served.
func TestManyWebClients(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	server := &webServer{Handler: httpHandler(func() reading { return reading{} }, noComplaint)}
	go func() { _ = server.serve(ctx, l) }()
	var open []net.Conn
	for range maxWeb + 1 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		open = append(open, c)
	}
	last := open[maxWeb]
	_ = last.SetReadDeadline(time.Now().Add(2 * time.Second))
	if _, err := last.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a connection too many is open:", err)
	}
	for _, c := range open {
		_ = c.Close()
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		resp, err := http.Get("http://" + l.Addr().String() + "/healthz")
		if err == nil {
			_ = resp.Body.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func TestMetricsFlag(t *testing.T) {
	for address, ok := range map[string]bool{
		"": true, "127.0.0.1:9273": true, ":9273": true, "[::1]:9273": true, "localhost:0": true,
		"9273": false, "127.0.0.1": false, "127.0.0.1:metrics": false, "127.0.0.1:65536": false, "host:9273": false,
	} {
		_, err := parse([]string{"serve", "--metrics", address}, io.Discard)
		want := fmt.Sprintf("--metrics %q: must be ADDRESS:PORT, or empty for none", address)
		if ok && err != nil || !ok && (err == nil || err.Error() != want) {
			t.Errorf("%q: %v", address, err)
		}
	}
}
