package engineapi

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// Limits of a connection. An answer may take as long as it takes: a plugin may be slow, and
// events have no end.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	endTimeout    = 30 * time.Second // for what is being done when the server ends
)

// Serve answers requests at a listener until the context ends, or until nothing was asked for
// a time; 0: that never ends it. It closes the listener, and returns when all requests are
// answered.
func (s *Server) Serve(ctx context.Context, l net.Listener, idle time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		s.Run(ctx)
	}()
	if idle > 0 {
		go s.endIdle(ctx, cancel, idle)
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	var err error
	select {
	case err = <-served: // the listener failed
		cancel()
	case <-ctx.Done():
		s.End()
		end, stop := context.WithTimeout(context.Background(), endTimeout)
		defer stop()
		err = errors.Join(server.Shutdown(end), server.Close())
	}
	<-looked
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// endIdle ends the server when nothing was asked for some time.
func (s *Server) endIdle(ctx context.Context, end func(), idle time.Duration) {
	tick := time.NewTicker(min(idle, time.Second))
	defer tick.Stop()
	s.asked.Store(time.Now().UnixNano())
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s.idleFor(idle, time.Now()) {
			end()
			return
		}
	}
}

// idleFor reports whether nothing was asked for some time, and nothing is being answered.
func (s *Server) idleFor(idle time.Duration, now time.Time) bool {
	return s.busy.Load() == 0 && now.Sub(time.Unix(0, s.asked.Load())) >= idle
}

// counted counts the requests that are being answered.
func (s *Server) counted(answer func()) {
	s.busy.Add(1)
	defer func() {
		s.asked.Store(time.Now().UnixNano())
		s.busy.Add(-1)
	}()
	answer()
}
