package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"dcni/pkg/host/agent"
	"dcni/pkg/host/offload"
	"dcni/pkg/mode/overlay"
)

// defaultMetrics is where metrics and health are served unless the command line says
// otherwise. No user chose it, so it yields to a container that publishes the port: ADD
// does not see the socket, and dnetd closes it. An address that a user did choose is in
// the way of containers, as any other program's.
const defaultMetrics = "127.0.0.1:9273"

// checkMetrics returns an error if --metrics is no address.
func checkMetrics(address string) error {
	if address == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	if err == nil && host != "" && host != "localhost" {
		_, err = netip.ParseAddr(host)
	}
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("--metrics %q: must be ADDRESS:PORT, or empty for none", address)
	}
	return nil
}

// httpHandler serves /metrics, and /healthz: 200 and "ok", or 503 and what is
// wrong.
func httpHandler(read func() reading, health func(context.Context) error) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(newMetrics(read), promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
		defer cancel()
		if err := health(ctx); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n")) // an error: the client is gone
	})
	return mux
}

// healthTimeout is how long dnetd may take to answer itself and still be well.
const healthTimeout = 2 * time.Second

// A webServer serves metrics and health.
type webServer struct {
	Log     *slog.Logger
	Handler http.Handler
	Retry   time.Duration // between tries to listen, while another has the port
	// Listen makes the socket; nil: as [net.Listen].
	Listen func(ctx context.Context, address string) (net.Listener, error)
}

// grace is how many tries to listen may fail before that is logged: a predecessor
// holds the port for a moment.
const grace = 3

// Serve serves at an address until the context ends. If the port is taken, dnetd
// goes on without metrics, logs that once, and tries again.
func (s *webServer) Serve(ctx context.Context, address string) {
	if s.Listen == nil {
		s.Listen = listenTCP
	}
	for try := 1; ; try++ {
		l, err := s.Listen(ctx, address)
		if err == nil {
			s.Log.Info("serving metrics and health", "address", l.Addr().String())
			err, try = s.serve(ctx, l), 0
		}
		if ctx.Err() != nil {
			return
		}
		switch {
		case try == 1 && errors.Is(err, errYields):
			s.Log.Warn("no metrics and no health for now", "reason", err)
		case try == grace && !errors.Is(err, errYields):
			s.Log.Error("no metrics and no health, still trying", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(s.Retry):
		}
	}
}

func listenTCP(ctx context.Context, address string) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(ctx, "tcp", address)
}

// maxWeb is how many connections there may be; each takes a descriptor, and
// some 8 KB.
const maxWeb = 256

// atMost closes connections beyond a limit.
func atMost(most int32) func(net.Conn, http.ConnState) {
	var open atomic.Int32
	return func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			if open.Add(1) > most {
				_ = c.Close() // the server then calls this with StateClosed
			}
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		case http.StateActive, http.StateIdle:
		}
	}
}

// serve serves until the context ends, with limits: any process on this machine may
// connect.
func (s *webServer) serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           s.Handler,
		ConnState:         atMost(maxWeb),
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	defer func() { _ = server.Close() }() // the listener may have been closed to make way
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// serveHTTP serves metrics and health until the context ends, where they are
// asked for.
func (d *dnetd) serveHTTP(ctx context.Context) {
	if d.options.metrics == "" {
		return
	}
	s := webServer{Log: d.log, Handler: httpHandler(d.reading, d.health), Retry: time.Second}
	if d.options.metrics == defaultMetrics {
		s.Listen = d.ports.listenBehind
	}
	s.Serve(ctx, d.options.metrics)
}

// reading returns what the metrics say now.
func (d *dnetd) reading() reading {
	return reading{
		DNS: d.server.Stats(), Containers: d.registry.count(), Networks: d.registry.networkCount(),
		Heals: d.healer.counts.byKind(), Relay: d.ports.relay.Stats(),
		Summed: d.summed(),
	}
}

// summed counts overlay networks whose device does not leave checksums to the NIC.
func (d *dnetd) summed() (n int) {
	for _, name := range d.overlays.Names() {
		if left, err := offload.IsOn(overlay.Device(name)); err == nil && !left {
			n++
		}
	}
	return n
}

// health returns an error if plugins get no answer from dnetd, or one from another
// dnetd.
func (d *dnetd) health(ctx context.Context) error {
	limit := healthTimeout
	if end, ok := ctx.Deadline(); ok {
		limit = time.Until(end)
	}
	reply, err := agent.Call(d.options.socket, limit, agent.Request{Op: agent.Status})
	if err == nil && reply.PID != os.Getpid() {
		err = fmt.Errorf("process %d answers at %s", reply.PID, d.options.socket)
	}
	return err
}

// well reports whether dnetd is, and logs if it is not.
func (d *dnetd) well(ctx context.Context) bool {
	err := d.health(ctx)
	if err != nil && ctx.Err() == nil {
		d.log.Error("dnetd is not well", "error", err)
	}
	return err == nil
}
