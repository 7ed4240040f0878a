package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"dcni/cmd/internal/usage"
	"dcni/pkg/cni"
	"dcni/pkg/host"
	"dcni/pkg/mode"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// heal runs the engines of the plugins that have keys among their records, in the
// order of mode.All: those that make interfaces come first.
func (h *healer) heal(ctx context.Context, all []records.RecordKey, keys []healKey) {
	for _, p := range mode.All {
		own := slices.DeleteFunc(ownKeys(p, all, keys), func(k healKey) bool { return h.throttled(runKey{p.Type, k}) })
		if len(own) == 0 {
			continue
		}
		h.log.Debug("heals", "plugin", p.Type, "of", own)
		start := time.Now()
		list, err := h.tryRun(ctx, p, scopeOf(own))
		if ctx.Err() != nil {
			return
		}
		h.account(p.Type, list, err)
		h.consume(p.Type, own, list, time.Since(start))
	}
	h.forgetLimiters()
}

// ownKeys returns the keys that a plugin has records of.
func ownKeys(p *network.Plugin, all []records.RecordKey, keys []healKey) (own []healKey) {
	for _, k := range keys {
		if slices.ContainsFunc(all, func(r records.RecordKey) bool { return r.Plugin == p.Type && k.covers(r) }) {
			own = append(own, k)
		}
	}
	return own
}

func scopeOf(keys []healKey) (s cni.Scope) {
	for _, k := range keys {
		switch {
		case k == healKey{}:
			return cni.Scope{}
		case k.Container == "":
			s.Networks = append(s.Networks, k.Network)
		default:
			s.Attachments = append(s.Attachments, k.Attachment)
		}
	}
	return s
}

// healTime is how long one run may take until that is logged.
const healTime = time.Minute

// tryRun runs a plugin's engine, and returns what it reports. It does not wait for
// it once the context ends: healing may be cut short at any time, as a plugin may be
// killed.
func (h *healer) tryRun(ctx context.Context, p *network.Plugin, s cni.Scope) ([]wire.HealEvent, error) {
	var list []wire.HealEvent
	ended := make(chan error, 1)
	go func() {
		ended <- recovered(func() error {
			return h.run(p, s, func(r wire.HealEvent) { list = append(list, r) })
		})
	}()
	late := time.NewTimer(healTime)
	defer late.Stop()
	for {
		select {
		case err := <-ended:
			return list, err
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-late.C:
			h.logOnce(fmt.Errorf("%s: healing takes more than %s: a plugin may hold a lock", p.Type, healTime))
		}
	}
}

// recovered returns what f does. The engine recovers from panics over one attachment;
// another panic is one plugin's.
func recovered(f func() error) (err error) {
	defer func() {
		if why := recover(); why != nil {
			err = fmt.Errorf("panic: %v\n%s", why, debug.Stack())
		}
	}()
	return f()
}

// engineRunner returns a function that heals a plugin's records on this machine.
// set changes the machine and the engine before they are used.
func engineRunner(store *records.CachedStore, set func(*host.Host, *cni.Engine)) func(*network.Plugin, cni.Scope, func(wire.HealEvent)) error {
	return func(p *network.Plugin, s cni.Scope, report func(wire.HealEvent)) error {
		machine, err := host.New(store.Store)
		if err != nil {
			return err
		}
		defer machine.Close()
		e := cni.NewEngine(p, store.Store, machine)
		e.Index = store
		set(machine, e)
		return e.Heal(s, report)
	}
}

// connectionReaper returns a function that ends what `dnet connect` connected containers to
// that are gone: their runtimes don't know of it. It returns what it ended.
func connectionReaper(store records.Store) func() ([]wire.Attachment, error) {
	return func() ([]wire.Attachment, error) {
		if containers, err := store.Connected(); err != nil || len(containers) == 0 {
			return nil, err
		}
		machine, err := host.New(store)
		if err != nil {
			return nil, err
		}
		defer machine.Close()
		c := cni.NewConnections(store, machine)
		c.Engine = func(plugin string) *cni.Engine { return engineOf(plugin, store, machine) }
		return c.Reap()
	}
}

// engineOf returns the engine of a plugin by its type, nil for one of another suite's.
func engineOf(plugin string, store records.Store, machine *host.Host) *cni.Engine {
	p := mode.Of(plugin)
	if p == nil {
		return nil
	}
	return cni.NewEngine(p, store, machine)
}

// blockedNetworks returns a function that looks at other programs' rules, see
// [host.Host.Blocked].
func blockedNetworks(store records.Store) func() ([]string, error) {
	return func() ([]string, error) {
		machine, err := host.New(store)
		if err != nil {
			return nil, err
		}
		defer machine.Close()
		return machine.Blocked()
	}
}

// lostByIPTables returns a function that looks at iptables' rules, see [host.Host.LostByIPTables].
func lostByIPTables(store records.Store) func() (bool, error) {
	return func() (bool, error) {
		machine, err := host.New(store)
		if err != nil {
			return false, err
		}
		defer machine.Close()
		return machine.LostByIPTables()
	}
}

// reapConnections ends the connections of containers that are gone.
func (h *healer) reapConnections(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	var ended []wire.Attachment
	err := recovered(func() (err error) {
		ended, err = h.reap()
		return err
	})
	if err != nil {
		h.logOnce(err)
	}
	for _, a := range ended {
		h.counts.Reaped.Add(1)
		h.log.Info("disconnected", "network", a.Network, "container", a.Container, "interface", a.IfName, "reason", "the container is gone")
	}
}

// confSweeper returns what removes the files that killed writers have left among the host's networks.
// Another store's locks say nothing of who writes there.
func confSweeper(store records.Store) func() error {
	if store.Run != records.Default().Run {
		return func() error { return nil }
	}
	return func() error { return store.SweepConf(records.DefaultConfDir()) }
}

// ruleSweeper returns what [host.Host.SweepRules] does. Another store does not tell whose rules the
// host's are.
func ruleSweeper(store records.Store) func() ([]string, error) {
	if store.Run != records.Default().Run {
		return func() ([]string, error) { return nil, nil }
	}
	return func() ([]string, error) {
		machine, err := host.New(store)
		if err != nil {
			return nil, err
		}
		defer machine.Close()
		return machine.SweepRules()
	}
}

// healOnce puts everything back as the records say and prints what was done. It
// returns the exit status. A dnetd that runs is not asked, and need not run.
func healOnce(ctx context.Context, store records.Store, stdout, stderr io.Writer) int {
	cached := records.NewCachedStore(store)
	h := newHealer(cached, slog.New(slog.NewTextHandler(stderr, nil)))
	h.run = engineRunner(cached, func(*host.Host, *cni.Engine) {})
	keys, err := cached.Keys()
	errs := []error{err}
	for _, p := range mode.All {
		if len(ownKeys(p, keys, []healKey{{}})) == 0 {
			continue
		}
		list, err := h.tryRun(ctx, p, cni.Scope{})
		errs = append(errs, err)
		for _, r := range list {
			if r.Error != "" {
				errs = append(errs, errors.New(sentence(r)))
			} else {
				fmt.Fprintln(stdout, sentence(r))
			}
		}
	}
	ended, err := h.reap()
	swept, failed := h.sweepRules()
	for _, what := range swept {
		fmt.Fprintln(stdout, "removed: "+what)
	}
	errs = append(errs, err, failed, h.sweep())
	for _, a := range ended {
		fmt.Fprintf(stdout, "%s: disconnected (the container is gone)\n", a)
	}
	if err := errors.Join(errs...); err != nil {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(stderr, "dnetd: %s\n", strings.TrimSpace(line))
		}
		return usage.StatusError
	}
	return 0
}

// sentence says what was done, for people.
func sentence(r wire.HealEvent) string {
	whose := r.Network
	if r.Container != "" {
		whose = r.Attachment.String()
	}
	s := whose + ": " + r.Did
	if r.Error != "" {
		s = whose + ": not " + r.Did
	}
	if r.Object != "" {
		s += ": " + r.Object
	}
	if r.Was != "" {
		s += " (" + strings.ReplaceAll(r.Was, "\n", "; ") + ")"
	}
	if r.Error != "" {
		s += ": " + strings.ReplaceAll(r.Error, "\n", "; ")
	}
	return s
}
