// Package services gives sandboxes the virtual addresses of services: rules in the sandbox
// that lead them to tasks, as package service says from what is on record.
package services

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"dcni/pkg/firewall"
	"dcni/pkg/host/conntrack"
	"dcni/pkg/host/nft"
	"dcni/pkg/host/nstable"
	"dcni/pkg/host/spaces"
	"dcni/pkg/records"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// Services works on the clients of services.
type Services struct {
	*spaces.Set
	Records records.Store
	// Await waits until dnetd has seen the cluster's store, or a while, where it was asked to.
	Await func()
	Ports Ports
}

// Ports are the ports of the host that services have.
type Ports interface {
	// EnsureIngress makes them so, and returns those that can't be had; first: what a process that died
	// left undone is done as well.
	EnsureIngress(n service.Network, first bool) (*firewall.RefusedError, error)
	// CheckIngress tells how they differ.
	CheckIngress(n service.Network) error
}

// Of returns the kind of a client.
func (h Services) Of(o *service.Client) wire.Kind { return client{h, o} }

// client is a [service.Client]. All that changes it is done under the lock of the network's
// services, and under that of the sandbox, whose table it shares with the name server.
type client struct {
	h Services
	o *service.Client
}

// Ensure makes the client's rules so. Where the network has no services it looks for one
// directory. The attachment counts as a task before it is on record, for its own connections;
// others have it when it is up, see [Services.Sync].
func (c client) Ensure() (changed bool, err error) {
	network := c.o.Owner.Network
	if c.o.OfCluster && !c.h.Records.KnowsServices(network) {
		c.h.Await() // it is the network's first container here
	}
	if !c.h.Records.HasServices(network) {
		return false, c.lacking(service.Network{})
	}
	lock, err := c.h.Records.LockServices(network)
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	n, err := c.view()
	if err != nil {
		return false, err
	}
	if err := errors.Join(c.lacking(n), n.Crowded(c.o.Endpoint)); err != nil {
		return false, err
	}
	changed, err = c.h.apply(c.o, n.Balancer())
	if err != nil || !n.Publishes() {
		return changed, err
	}
	// What it leads to is on record: others have this one as a task when it is up.
	up, err := c.h.Records.ServicesOf(network)
	if err != nil || c.h.Ports.CheckIngress(up) == nil {
		return changed, err
	}
	_, err = c.h.Ports.EnsureIngress(up, false)
	return true, err
}

// lacking returns an error if the network lacks a service that is wanted.
func (c client) lacking(n service.Network) error {
	if c.o.OfCluster {
		return nil
	}
	return c.o.Lacking(n)
}

// view returns the network's services with the client as it is to be.
func (c client) view() (service.Network, error) {
	n, err := c.h.Records.ServicesOf(c.o.Owner.Network)
	for _, e := range n.Endpoints {
		if e.Owner == c.o.Owner && e.Node == "" { // it is known better than the object says
			return n, err
		}
	}
	return n.With(c.o.Endpoint), err
}

// Check compares the client's rules, and those of the ports of the network's services.
func (c client) Check() error {
	if !c.h.Records.HasServices(c.o.Owner.Network) {
		return nil
	}
	n, err := c.view()
	if err != nil {
		return err
	}
	return errors.Join(c.h.eachTable(c.o, func(t nstable.Table, six bool) error {
		return t.CheckServices(n.Name, n.Balancer().Of(c.o.Owner, six))
	}), c.h.Ports.CheckIngress(n))
}

// Remove takes the client's rules away, where the sandbox stays, and what is known of the
// attachment as a task.
func (c client) Remove() error {
	network := c.o.Owner.Network
	if !c.h.Records.HasServices(network) {
		return nil
	}
	err := c.h.Records.ForgetTask(c.o.Owner)
	if c.o.NetNS == "" || c.h.shared(c.o) {
		return err
	}
	lock, e := c.h.Records.LockServices(network)
	if e != nil {
		return errors.Join(err, e)
	}
	defer lock.Unlock()
	_, e = c.h.apply(c.o, service.Balancer{Network: network})
	if gone(e) {
		e = nil
	}
	return errors.Join(err, e)
}

// Probe finds nothing missing: the network may have no services.
func (c client) Probe() error { return nil }

// shared reports whether another attachment of the sandbox is on the same network.
func (h Services) shared(c *service.Client) bool {
	for _, r := range h.Records.Siblings(c.Owner) {
		if r.Network == c.Owner.Network && r.Cookie == c.Cookie && r.State == records.Up {
			return true
		}
	}
	return false
}

// apply makes a client's rules as its network has them, and has it forget connections to
// tasks that are gone. The caller has the lock of the network's services.
func (h Services) apply(c *service.Client, b service.Balancer) (changed bool, err error) {
	changed, err = h.install(c, b)
	if err != nil {
		return changed, err
	}
	return changed, h.forget(c, b.Kept())
}

// install makes a client's rules.
func (h Services) install(c *service.Client, b service.Balancer) (changed bool, err error) {
	lock, err := h.Records.LockSandbox(c.Cookie)
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	err = h.eachTable(c, func(t nstable.Table, six bool) error {
		did, err := t.InstallServices(b.Network, b.Of(c.Owner, six))
		changed = changed || did
		return err
	})
	return changed, err
}

// A change is how services become others, for all clients that have them as they were. The zero one is of
// clients of which that is not known.
type change struct {
	known     bool
	was, is   service.Balancer // all services
	out, in   service.Balancer // those that differ
	forgetful bool             // connections are to be forgotten
}

func changeOf(was *service.Balancer, is service.Balancer) change {
	if was == nil {
		return change{is: is, in: is, forgetful: true}
	}
	d := change{known: true, was: *was, is: is, out: was.Without(is), in: is.Without(*was)}
	d.forgetful = d.out.Loses(d.in)
	return d
}

// change makes a client's rules so. Where it is known which rules the client has, nothing is listed of them,
// unless that fails, as where another program took them away.
func (h Services) change(c *service.Client, d change) error {
	if !d.known {
		_, err := h.install(c, d.is)
		return err
	}
	lock, err := h.Records.LockSandbox(c.Cookie)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return h.eachTable(c, func(t nstable.Table, six bool) error {
		if !d.out.Has(six) && !d.in.Has(six) {
			return nil
		}
		if d.was.Has(six) && d.is.Has(six) && t.ChangeServices(d.is.Network, d.out.Of(c.Owner, six), d.in.Of(c.Owner, six)) == nil {
			return nil
		}
		_, err := t.InstallServices(d.is.Network, d.is.Of(c.Owner, six))
		return err
	})
}

// none reports whether nothing becomes another.
func (d change) none() bool {
	return d.known && !d.out.Has(false) && !d.out.Has(true) && !d.in.Has(false) && !d.in.Has(true)
}

// eachTable calls f with the table of each family of a client's sandbox.
func (h Services) eachTable(c *service.Client, f func(t nstable.Table, six bool) error) error {
	s, err := h.sandbox(c)
	if err != nil {
		return err
	}
	conn, err := s.Netfilter()
	if err != nil {
		return nft.Unsupported(err)
	}
	var errs []error
	for _, six := range []bool{false, true} {
		errs = append(errs, f(nstable.New(conn, s.RT, six), six))
	}
	return errors.Join(errs...)
}

// sandbox opens a client's sandbox, if it is still at its path.
func (h Services) sandbox(c *service.Client) (*spaces.Space, error) {
	found, err := h.Sandbox(c.NetNS)
	if err == nil && (found.Cookie != c.Cookie || found.Own) {
		err = wire.Errorf(wire.CodeNetNS, "CNI_NETNS %q: is another network namespace than the one attached", c.NetNS)
	}
	if err != nil {
		return nil, err
	}
	return h.In(c.NetNS)
}

// forget has a client forget its connections to tasks that are gone, once the rules lead
// elsewhere.
func (h Services) forget(c *service.Client, kept map[netip.Addr][]netip.Addr) error {
	if len(kept) == 0 {
		return nil
	}
	s, err := h.sandbox(c)
	if err != nil {
		return err
	}
	return s.Do(func() error { return conntrack.FlushTo(kept) })
}

// gone reports whether a sandbox is not there any more.
func gone(err error) bool {
	coded := (*wire.Error)(nil)
	return errors.As(err, &coded) && coded.Code == wire.CodeNetNS || spaces.Gone(err)
}

// Made has what the rules of each client of a network were made from last.
type Made map[madeKey]*service.Balancer

// A madeKey is an attachment as it is up now: another ADD of it has another moment.
type madeKey struct {
	owner  wire.Attachment
	cookie uint64
	up     records.Moment
}

// Sync makes the rules of all clients of a network so that are up, and the ports of its services, and
// returns what the network has of services, and which ports can't be had. What is being attached or deleted is left to the plugin that does
// so, which asks for this again when it is done: a DEL says on record that it begins, and then
// waits for the lock. Clients whose rules were made from the same are passed over, as all others are when
// a container comes that is no task. What is taken from them is healing's to put back.
func (h Services) Sync(network string, first bool, made Made) (n service.Network, refused *firewall.RefusedError, err error) {
	lock, err := h.Records.LockServices(network)
	if err != nil {
		return n, nil, err
	}
	defer lock.Unlock()
	clients, unread := h.Records.Clients(network)
	if n, err = h.Records.ServicesAmong(network, clients); err != nil {
		return n, nil, errors.Join(err, unread)
	}
	errs := []error{unread, h.syncClients(clients, n.Balancer(), made)}
	refused, err = h.Ports.EnsureIngress(n, first)
	return n, refused, errors.Join(append(errs, err)...)
}

// A job is a client whose rules are to become others.
type job struct {
	*service.Client
	key madeKey
	change
	err error
}

// syncClients makes the rules of those clients so whose were made from something else.
func (h Services) syncClients(list []records.Client, b service.Balancer, made Made) error {
	changes, up := map[*service.Balancer]change{}, map[madeKey]bool{}
	var jobs []*job
	for _, r := range list {
		if !r.Leads {
			continue
		}
		key := madeKey{r.Owner, r.Cookie, r.Up}
		up[key] = true
		was := made[key]
		if _, is := changes[was]; !is {
			changes[was] = changeOf(was, b)
		}
		if d := changes[was]; !d.none() {
			c := &service.Client{NetNS: r.NetNS, Cookie: r.Cookie, Endpoint: service.Endpoint{Owner: r.Owner}}
			jobs = append(jobs, &job{Client: c, key: key, change: d})
		}
	}
	maps.DeleteFunc(made, func(key madeKey, _ *service.Balancer) bool { return !up[key] })
	// Connections to come before those to be forgotten: all clients are to lead elsewhere soon.
	h.each(jobs, func(j *job) error { return h.change(j.Client, j.change) })
	h.each(slices.DeleteFunc(slices.Clone(jobs), func(j *job) bool { return j.err != nil || !j.forgetful }),
		func(j *job) error { return h.forget(j.Client, j.in.Kept()) })
	var errs []error
	for _, j := range jobs {
		if j.err == nil {
			made[j.key] = &b
			continue
		}
		delete(made, j.key)
		if !gone(j.err) {
			errs = append(errs, fmt.Errorf("services of %s: %w", j.Owner, j.err))
		}
	}
	return errors.Join(errs...)
}

// How many clients are worked on at a time, and how many have their namespaces open. To close a socket after
// rules were deleted waits until the kernel has freed them, 5 to 20 ms: it has done so when all of a part are made.
const workers, part = 2, 100

// each does something for each client.
func (h Services) each(jobs []*job, step func(*job) error) {
	for list := range slices.Chunk(jobs, part) {
		var work sync.WaitGroup
		for first := range workers {
			work.Go(func() {
				for i := first; i < len(list); i += workers {
					list[i].err = step(list[i])
				}
			})
		}
		work.Wait()
		for _, j := range list {
			h.Forget(j.NetNS)
		}
	}
}
