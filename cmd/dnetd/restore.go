package main

import (
	"errors"
	"maps"
	"runtime"
	"slices"
	"sync"

	"dcni/pkg/host/agent"
	"dcni/pkg/host/dnssock"
	"dcni/pkg/names"
	"dcni/pkg/records"
)

// restore serves all that the records say is up. The request to forget of a DEL
// that begins now waits in the listener's queue.
func (d *dnetd) restore() {
	d.work.Lock()
	defer d.work.Unlock()
	keys, err := d.store.Keys()
	if err != nil {
		d.log.Error("records can't be listed", "error", err)
	}
	list, err := d.store.GetAll(keys)
	if err != nil {
		d.log.Error("not all records can be read", "error", err)
	}
	list = slices.DeleteFunc(list, func(r *records.Record) bool { return !d.isServed(r) })
	if err := d.registry.add(d.reopenAll(list)...); err != nil {
		d.log.Error("sockets can't be served", "error", err)
	}
	for _, record := range list {
		r := record.Resolver
		if four, six := d.registry.ports(r.Cookie); r.Port != four || r.Port6 != 0 && r.Port6 != six {
			d.moved = append(d.moved, record.Attachment)
		}
	}
}

// reopenAll opens the sockets of the sandboxes that records have resolvers for.
func (d *dnetd) reopenAll(list []*records.Record) (registrations []registration) {
	bySandbox := map[uint64][]*names.Resolver{}
	for _, r := range list {
		bySandbox[r.Resolver.Cookie] = append(bySandbox[r.Resolver.Cookie], r.Resolver)
	}
	var mu sync.Mutex
	inParallel(slices.Collect(maps.Values(bySandbox)), func(list []*names.Resolver) {
		group, err := d.reopen(list)
		if err != nil {
			d.log.Warn("a sandbox can't be served", "attachment", list[0].Owner, "error", err)
		}
		mu.Lock()
		defer mu.Unlock()
		registrations = append(registrations, group...)
	})
	return registrations
}

// inParallel calls f for each of a list, a few at a time.
func inParallel[T any](list []T, f func(T)) {
	work := make(chan T)
	var workers sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for x := range work {
				f(x)
			}
		})
	}
	for _, x := range list {
		work <- x
	}
	close(work)
	workers.Wait()
}

// isServed reports whether a record that is up has a resolver that can be served. Any
// plugin may write one: ddns, or one that makes an interface and has "names" in its
// configuration.
func (d *dnetd) isServed(r *records.Record) bool {
	if r.State != records.Up || r.Resolver == nil {
		return false
	}
	err := d.check(r.Resolver)
	if err == nil && r.Resolver.Owner != r.Attachment {
		err = errors.New("its resolver is another attachment's")
	}
	if err != nil {
		d.log.Error("a record can't be used", "attachment", r.Attachment, "plugin", r.Plugin, "error", err)
	}
	return err == nil
}

// reopen opens the sockets of one sandbox, which has these resolvers. With an error
// it leaves none open.
func (d *dnetd) reopen(list []*names.Resolver) ([]registration, error) {
	slices.SortFunc(list, byPriority)
	registrations := make([]registration, len(list))
	for i, r := range list {
		registrations[i].resolver = r
	}
	for f := range families {
		port := portOf(list, f)
		if f == names.IPv6 && port == 0 {
			continue // not asked for
		}
		socket, err := d.open(list, f, port)
		if err != nil {
			registrations[0].closeSockets()
			return nil, err
		}
		registrations[0].sockets[f] = socket
	}
	return registrations, nil
}

// portOf returns the port that is on record for a family; 0: none.
func portOf(list []*names.Resolver, f names.Family) uint16 {
	for _, r := range list {
		port := [families]uint16{r.Port, r.Port6}[f]
		if port != 0 {
			return port
		}
	}
	return 0
}

// open returns the sockets of one family: those in the socket store, or new ones,
// by the first path that leads to the sandbox.
func (d *dnetd) open(list []*names.Resolver, f names.Family, port uint16) (dnssock.NameServer, error) {
	if udp, tcp, ok := d.socketStore.claim(list[0].Cookie, f); ok {
		s, err := dnssock.Check(udp, tcp, list[0].Cookie, f == names.IPv6)
		if err == nil {
			return s, nil
		}
		agent.CloseAll([]int{udp, tcp})
	}
	var errs []error
	for _, r := range list {
		s, err := dnssock.Open(r.NetNS, r.Cookie, port, f == names.IPv6)
		if err == nil {
			return s, nil
		}
		errs = append(errs, err)
	}
	return dnssock.NameServer{}, errors.Join(errs...)
}
