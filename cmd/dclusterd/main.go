// Command dclusterd is what makes a host a node of a cluster: the one program of dcni that
// speaks to etcd.
//
// It serves the cluster's store to the host's other programs through a unix socket
// (package remote), keeps the node's own keys, writes and removes the files of overlay
// networks, admits hosts (package join), and runs a member of the store as a child
// process, where the node has one. What runs on the node goes on without it.
//
// # Where to look
//
//	main.go       flags, signals, exit status
//	daemon.go     the process: its socket, and the node that it is, if it is one
//	config.go     what is on disk
//	node.go       a node, and the tasks that it runs; etcd.go: its store
//	alive.go      node/NAME and alive/NAME; underlay.go: the node's address and MTU
//	deaths.go     which nodes have died
//	conflists.go  the files of networks
//	ingress.go    the networks that the node is on for ports of services
//	releases.go   what waits to be given back
//	paths.go      what passes to other nodes, by probes; prober.go sends them
//	authority.go  the CA's key
//	door.go       the join door; renew.go: certificates
//	child.go      the store's member, as a child; member.go: that process
//	members.go    how many members there are; plan.go decides it
//	snapshots.go  the store's daily snapshots
//	recover.go    what the node puts into a store that was lost; rebuild.go: makes one
//	verbs.go      what `dnet cluster` asks for; init.go, join.go, leave.go, status.go: some of it
//
// README.md beside this file is its manual.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"dcni/cmd/internal/usage"
	"dcni/pkg/host/systemd"
	"dcni/pkg/overlay"
	"dcni/pkg/records"
)

// gcPercent is how much memory may grow between two collections.
const gcPercent = 40

// options are the command line.
type options struct {
	confDir   string
	level     slog.Level
	grace     time.Duration // how long a node that has died keeps its addresses
	snapshots int           // how many daily snapshots of the store are kept
	onDemand  bool          // dnet started it: it ends where the host is in no cluster
	version   bool
}

// parse reads the command line.
func parse(args []string, stdout io.Writer) (options, error) {
	o := options{}
	f, version := usage.Flags("dclusterd")
	f.StringVar(&o.confDir, "conf-dir", string(records.DefaultConfDir()), "`folder` of network configurations")
	f.TextVar(&o.level, "log-level", slog.LevelInfo, "least `level` that is logged: debug, info, warn or error")
	f.DurationVar(&o.grace, "address-grace", overlay.Grace*time.Second, "`time` that a node keeps its addresses which this one finds dead")
	f.IntVar(&o.snapshots, "snapshots", defaultSnapshots, "`number` of daily snapshots of the store that are kept; 0: none are written")
	f.BoolVar(&o.onDemand, "on-demand", false, "end if the host is in no cluster, as when dnet starts it")
	if err := usage.Parse(f, args, stdout); err != nil {
		return o, err
	}
	o.version = *version
	if o.grace < 0 {
		return o, fmt.Errorf("--address-grace %s: must be 0s or more, as 24h", o.grace)
	}
	if o.snapshots < 0 {
		return o, fmt.Errorf("--snapshots %d: must be 0 (none) or more", o.snapshots)
	}
	return o, nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if len(os.Args) == 2 && os.Args[1] == memberArg {
		os.Exit(runMember(ctx, os.Stdin, os.Stderr))
	}
	// Lists of 10,000 endpoints pass through it: it keeps 37 MB after some by Go's own
	// measure, and 31 so, of which 23 are the program's file.
	debug.SetGCPercent(gcPercent)
	os.Exit(run(ctx, records.Default(), os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program; it returns the exit status.
func run(ctx context.Context, store records.Store, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stdout)
	if status, all := usage.Answer("dclusterd", err, o.version, stdout, stderr); all {
		return status
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: o.level}))
	d := newDaemon(o, store, log)
	if d.systemd, _, err = systemd.Join(os.Getenv, os.Getpid()); err == nil {
		err = d.run(ctx)
	}
	if err != nil {
		log.Error("dclusterd ends", "error", err)
		return usage.StatusError
	}
	return 0
}
