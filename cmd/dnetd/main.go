// Command dnetd is the node agent: the name server of every container on the
// node, at 127.0.0.11 in the container's own namespace, and what else must
// outlive the plugins.
//
// Plugins register containers through a unix socket (package agent), and package
// dns answers the queries. dnetd writes nothing to disk: after a crash it opens the
// sockets again from the plugins' records. A second dnetd on the same socket takes
// over from the first without losing a query.
//
// # Where to look
//
//	main.go              flags, signals, exit status
//	dnetd.go             the agent's state, and the tasks that it runs
//	listen.go            the unix socket: which processes may connect, how many, how long
//	requests.go          the requests; check.go: which are refused
//	registry.go          the sandboxes and their names; sandbox.go: one of them
//	restore.go           at the start, sockets are opened from records
//	reconcile.go         later, records that have changed
//	handover_receive.go  everything comes from the dnetd before
//	handover_send.go     everything goes to the next dnetd
//	socketstore.go       keeps sockets while no dnetd runs; fdstore.go: systemd's
//	systemd.go           start, end and notifications where systemd starts dnetd
//	relay.go             published ports: holds them, and serves what netfilter can't
//	upstream.go          the host's name servers
//	cluster.go           overlay networks (package follow); remote.go: names of other nodes
//	idle.go              the end of a dnetd that a plugin started
//	limits.go            how many files it may open
//	heal.go              puts back what other programs remove
//	http.go              metrics and health; metrics.go: which
//
// README.md beside this file is its manual.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"dcni/cmd/internal/usage"
	"dcni/pkg/host/agent"
	"dcni/pkg/records"
)

// options are the command line.
type options struct {
	socket   string
	metrics  string // address to serve HTTP at; "": none
	level    slog.Level
	serve    bool // be the node's agent
	once     bool // put back what the records say, and end
	onDemand bool // a plugin started it: end with the last container
	version  bool
}

// parse reads the command line. Only the word serve has dnetd serve: a runtime may run each
// program that lies among its plugins, as Nomad does to learn their versions.
func parse(args []string, stdout io.Writer) (options, error) {
	o := options{serve: len(args) > 0 && args[0] == "serve"}
	bare := len(args) == 0
	if o.serve {
		args = args[1:]
	}
	f, version := usage.Flags("dnetd")
	f.StringVar(&o.socket, "socket", agent.Client{Store: records.Default()}.Socket(), "`path` of the unix socket for plugins")
	f.StringVar(&o.metrics, "metrics", defaultMetrics, "`address` to serve metrics and health at, empty for none")
	f.TextVar(&o.level, "log-level", slog.LevelInfo, "least `level` that is logged: debug, info, warn or error")
	f.BoolVar(&o.once, "once", false, "put everything back as the records say, and end")
	f.BoolVar(&o.onDemand, "on-demand", false, "end with the last container, as when a plugin starts it")
	if err := usage.Parse(f, args, stdout); err != nil {
		return o, err
	}
	o.version = *version || bare
	if !o.serve && !o.once && !o.version {
		return o, errors.New("say dnetd serve, with these flags, to have it be the node's agent")
	}
	if len(o.socket) == 0 || len(o.socket) >= len(syscall.RawSockaddrUnix{}.Path) {
		return o, fmt.Errorf("--socket %q: must be 1 to %d bytes", o.socket, len(syscall.RawSockaddrUnix{}.Path)-1)
	}
	if err := checkMetrics(o.metrics); err != nil {
		return o, err
	}
	return o, nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	os.Exit(run(ctx, records.Default(), os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program; it returns the exit status.
func run(ctx context.Context, store records.Store, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stdout)
	if status, all := usage.Answer("dnetd", err, o.version, stdout, stderr); all {
		return status
	}
	if o.once {
		return healOnce(ctx, store, stdout, stderr)
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: o.level}))
	d, err := newDnetd(o, store, log)
	if err == nil {
		err = d.join(os.Getenv, os.Getpid())
	}
	if err == nil {
		err = d.run(ctx)
	}
	if err != nil {
		log.Error("dnetd ends", "error", err)
		return usage.StatusError
	}
	return 0
}
