package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"dcni/pkg/trust"
	"dcni/pkg/trust/join"
)

// serveDoor serves the join door from when the node has the CA's key, until the context ends.
func (n *node) serveDoor(ctx context.Context) {
	select {
	case <-n.authorized:
	case <-ctx.Done():
	}
	for ctx.Err() == nil {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", n.conf().hostPort(join.Port))
		if err == nil {
			err = n.serveJoin(ctx, l)
		}
		if ctx.Err() == nil {
			n.log.Error("no host can join at this node", "error", err)
			sleep(ctx, lookPause)
		}
	}
}

// maxJoining is how many connections the door has at a time. Strangers may make any number,
// and dclusterd needs its descriptors for the plugins of this node.
const maxJoining = 64

// limitConns returns an http.Server's ConnState that closes connections that come while as
// many as that are open.
func limitConns(most int64) func(net.Conn, http.ConnState) {
	var open atomic.Int64
	return func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			if open.Add(1) > most {
				c.Close()
			}
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		}
	}
}

func (n *node) serveJoin(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler: n.door().Handler(), TLSConfig: trust.Server(n.current),
		ReadHeaderTimeout: storeTime, ReadTimeout: storeTime, WriteTimeout: 4 * storeTime, IdleTimeout: storeTime,
		ConnState: limitConns(maxJoining),
		ErrorLog:  slog.NewLogLogger(n.log.Handler(), slog.LevelDebug), // handshakes of strangers
	}
	stop := context.AfterFunc(ctx, func() {
		end, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = server.Shutdown(end)
		_ = server.Close()
	})
	defer stop()
	n.log.Info("hosts can join", "address", l.Addr())
	err := server.Serve(tls.NewListener(l, server.TLSConfig))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// door is the join door with what it needs of the node.
func (n *node) door() join.Door {
	return join.Door{
		Store: n.store, Keys: n.keys, Cluster: n.conf().Cluster, CA: n.authority(), Now: time.Now,
		Endpoints: func() []string { return n.conf().Endpoints }, Members: n.store.MemberNames,
	}
}
