package main

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"dcni/pkg/cni"
	"dcni/pkg/dns"
	"dcni/pkg/host"
	"dcni/pkg/host/agent"
	"dcni/pkg/netns"
	"dcni/pkg/overlay/follow"
	"dcni/pkg/records"
	"dcni/pkg/records/filecache"
	"dcni/pkg/wire"
)

// A dnetd is the agent.
type dnetd struct {
	options options
	store   *records.CachedStore
	log     *slog.Logger
	cookie  uint64 // of its own namespace, in which no container is

	server      *dns.Server
	registry    *registry
	listener    *listener
	socketStore socketStore
	ports       *ports
	healer      *healer
	services    *services
	overlays    *follow.Networks
	// startCluster starts dclusterd where none answers.
	startCluster func() error
	encryption   *encryption
	tasks        *taskReporter
	ingress      sync.Mutex // held while the node itself is attached or detached

	manager manager

	resolvConf string    // path of the host's
	upstream   *upstream // as it was read last; nil: never

	reconcileEvery time.Duration // between two looks at the records
	claimTime      time.Duration // from the start until systemd's store drops what no record has claimed

	handedOver atomic.Bool // a successor serves

	work  sync.Mutex                      // held while the registry is compared with the records, or handed over
	seen  map[wire.Attachment]seenRecords // the records that reconcile has dealt with; guarded by work
	moved []wire.Attachment               // their sockets are at another port than their records say; guarded by work

	end context.CancelFunc // ends run; set by it
}

// newDnetd returns an agent that has nothing open yet.
func newDnetd(o options, store records.Store, log *slog.Logger) (*dnetd, error) {
	cookie, err := netns.CookieAt(netns.Own)
	if err != nil {
		return nil, err
	}
	store.Cache = &filecache.Cache{}
	cached := records.NewCachedStore(store)
	ports, err := newPorts(cached, log)
	if err != nil {
		return nil, err
	}
	server := dns.NewServer(dns.Config{})
	d := &dnetd{
		options: o, store: cached, log: log, cookie: cookie,
		server: server, socketStore: noStore{}, ports: ports, healer: newHealer(cached, log),
		resolvConf: "/etc/resolv.conf", reconcileEvery: 5 * time.Second, claimTime: claimTime,
	}
	d.registry = newRegistry(server, d.socketStore, log)
	d.services = newServices(store, log, d.registry.setServices)
	d.services.hold, d.services.turns = ports.hold, ports.turns
	d.healer.services = d.services.makeAgain
	d.startCluster = clusterStarter(store)
	open := openCluster(store, d.startCluster)
	d.overlays = &follow.Networks{
		Log: log, Kept: store, Open: open, Host: openHost(store),
		Show: d.registry.setRemote, Served: d.services.notice, Trim: debug.FreeOSMemory,
	}
	d.tasks = newTaskReporter(store, log, open)
	d.services.report = d.tasks.wakeUp
	d.encryption = &encryption{store: store, log: log}
	d.healer.run = engineRunner(cached, func(machine *host.Host, e *cni.Engine) {
		machine.NeverStartDnetd, e.Relay, e.Announce = true, d.refreshPorts, d.announce
	})
	return d, nil
}

// errServed says that another dnetd runs, and a dnetd on demand is not needed.
var errServed = errors.New("another dnetd serves")

// run serves until the context ends, or until the agent has no more to do.
func (d *dnetd) run(ctx context.Context) error {
	ctx, d.end = context.WithCancel(ctx)
	defer d.end()
	raiseFileLimit(d.log)
	d.readUpstream()
	switch err := d.begin(); {
	case errors.Is(err, errServed):
		d.log.Info("another dnetd serves already", "socket", d.options.socket)
		return nil
	case err != nil:
		return err
	}
	defer d.listener.leave()
	d.overlays.Begin(ctx) // before the first request
	var tasks sync.WaitGroup
	tasks.Go(debug.FreeOSMemory) // reading the records took memory that is not needed again
	for _, task := range []func(context.Context){
		d.listen, d.watchUpstream, d.watchRecords, d.healer.serve, d.services.serve, d.tasks.serve, d.overlays.Serve, d.encryption.serve, d.awaitIdle, d.serveHTTP, d.cleanStore, d.notifySystemd,
	} {
		tasks.Go(func() { task(ctx) })
	}
	<-ctx.Done()
	d.notified(d.manager.Stopping())
	tasks.Wait()
	d.finish()
	d.log.Info("dnetd ends")
	return nil
}

// begin gets the unix socket and all sandboxes, from the dnetd that runs or
// from the records. It holds a lock, so that one dnetd does so at a time.
func (d *dnetd) begin() error {
	lock, err := d.store.LockAgent(d.options.socket)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	start := time.Now()
	d.services.showAll() // before the first container is answered
	err = d.takeOver()
	if errors.Is(err, agent.ErrAbsent) {
		if d.listener, err = openListener(d.options.socket, d.manager.listener); err != nil {
			return err
		}
		lock.Unlock() // a request that comes now waits in the listener's queue
		d.restore()
		d.ports.restore()
		err = nil
	}
	if err == nil {
		d.log.Info("dnetd serves", "containers", d.registry.count(), "networks", d.registry.networkCount(), "after", time.Since(start))
	}
	return err
}

// takeOver takes over from the dnetd that runs; ErrAbsent where there is none.
func (d *dnetd) takeOver() (err error) {
	const tries = 3
	for range tries {
		var predecessor *agent.Conn
		if predecessor, err = d.predecessor(); err != nil {
			return err
		}
		if d.options.onDemand {
			predecessor.Close()
			return errServed
		}
		err = d.takeOverFrom(predecessor)
		predecessor.Close()
		if !lost(err) && !errors.Is(err, errRefused) {
			return err
		}
		d.log.Info("once more, from the beginning", "error", err)
	}
	return err
}
