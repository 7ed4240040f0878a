package cni

import (
	"errors"
	"fmt"
	"slices"

	"dcni/pkg/firewall"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// Publish has an attachment publish ports that another attachment of its container has, so
// that they go on when that one is detached: with the same host ports, chosen ones too. Where it
// publishes some already it keeps those, with the numbers of the others for what has none yet.
// notGateway are the families in which its network is not the container's gateway network (any
// more): nothing is bound on the host there. It does nothing on a network that publishes none.
func (e *Engine) Publish(a wire.Attachment, ports []firewall.Port, notGateway []firewall.Family) error {
	lock, err := e.Locks.LockAttachment(a)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	rec, err := e.Records.Get(a, e.Plugin.Type)
	if err != nil {
		return err
	}
	mode, err := e.parseRecorded(rec)
	if err != nil {
		return err
	}
	d := mode.Describe()
	if rec.State != records.Up || d.Ports.Ignore || d.Ports.Refuse != "" {
		return nil
	}
	if publishes(rec) && slices.Equal(rec.Endpoint.NotGateway, notGateway) {
		return nil
	}
	endpoint := endpointOf(rec)
	endpoint.OnLAN, endpoint.Routed, endpoint.NotGateway = d.OnLAN(), d.Routed, notGateway
	if publishes(rec) {
		endpoint.Ports = firewall.Numbered(endpoint.Ports, ports)
	} else {
		endpoint.Ports = publish(d.Ports, ports)
	}
	plan, err := mode.Plan(endpoint)
	if err != nil {
		return err
	}
	for _, o := range plan.Own {
		if published, is := o.(*firewall.Endpoint); is {
			return e.publish(rec, published)
		}
	}
	return nil
}

// publish takes back what an attachment publishes no more, records what it publishes, and then
// publishes it: what is not on record, DEL would leave. One that dies in between leaves what
// the record says, or less, which healing puts back.
func (e *Engine) publish(rec *records.Record, o *firewall.Endpoint) error {
	before := *rec
	if err := e.unbind(rec.Endpoint, o); err != nil {
		return errors.Join(err, e.restore(&before))
	}
	rec.Endpoint = o
	if !publishes(&before) { // else the runtime that made it may hold them
		rec.Holder = e.Facts.PortHolder()
	}
	chosen := slices.Clone(o.Ports)
	err := e.Records.Put(rec)
	if err == nil {
		_, err = wire.Ensure(e.Host, []wire.Object{o})
	}
	if err == nil && !slices.Equal(chosen, o.Ports) { // it has numbers now
		err = e.Records.Put(rec)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("publish ports of %s: %w", rec.Attachment, err), e.restore(&before))
	}
	e.relay(rec)
	return nil
}

// unbind takes back what an endpoint binds on the host and another one of the same attachment
// does not. By iptables all rules of an endpoint are made again at once.
func (e *Engine) unbind(before, after *firewall.Endpoint) error {
	if before == nil || after.Backend == firewall.IPTables {
		return nil
	}
	gone := before.Rebound(after)
	if gone == nil {
		return nil
	}
	return e.Host.Remove(gone)
}

// restore has an attachment publish again what it did.
func (e *Engine) restore(before *records.Record) error {
	if err := e.Records.Put(before); err != nil || before.Endpoint == nil {
		return err
	}
	_, err := wire.Ensure(e.Host, []wire.Object{before.Endpoint})
	return err
}

// What follows is about which of a container's networks has the host's ports. As with Docker it is the
// gateway network of each address family, which may be another one after every connect and
// disconnect. What a runtime attaches by itself is not asked here: it gives every network the
// ports, and package rules has the gateway endpoint take them over.

// Rebind has each of a container's networks bind its published ports on the host in the families of
// which it is the gateway network, and in no others: of those that stay when the container leaves one
// ("" for none). ports are the container's, for a gateway network that publishes none yet. It
// goes on past errors. The caller holds the container's lock of connections.
func (c *Connections) Rebind(container string, leaving wire.Attachment, ports []firewall.Port) error {
	if c.Engine == nil {
		return nil
	}
	list, err := c.Store.OfContainer(container)
	errs := []error{err}
	list = slices.DeleteFunc(records.Interfaces(list), func(r *records.Record) bool {
		return r.State != records.Up || r.Attachment == leaving
	})
	candidates := make([]network.Candidate, len(list))
	for i, r := range list {
		candidates[i] = r.Candidate()
		if r.Endpoint != nil {
			ports = AddPorts(ports, r.Endpoint.Ports)
		}
	}
	if len(ports) == 0 {
		return errors.Join(errs...)
	}
	for _, giving := range []bool{true, false} { // first those that give ports up: others bind their numbers
		for i, r := range list {
			not := network.NotGateway(candidates, i)
			if r.Firewall == nil || !rebinds(r, not) || givesUp(r, not) != giving {
				continue
			}
			if engine := c.Engine(r.Plugin); engine != nil {
				errs = append(errs, engine.Publish(r.Attachment, ports, not))
			}
		}
	}
	return errors.Join(errs...)
}

// rebinds reports whether what an attachment binds on the host changes, where its network is not the
// container's gateway network of some families. One that publishes nothing so far does as a gateway network.
func rebinds(r *records.Record, not []firewall.Family) bool {
	if !publishes(r) {
		return len(not) < len(firewall.Families())
	}
	return !slices.Equal(r.Endpoint.NotGateway, not)
}

// givesUp reports whether an attachment stops to be that of the gateway network of a family.
func givesUp(r *records.Record, not []firewall.Family) bool {
	return publishes(r) && slices.ContainsFunc(not, func(f firewall.Family) bool { return !slices.Contains(r.Endpoint.NotGateway, f) })
}

// AddPorts adds ports of one of a container's networks to those of others: each once, and none
// without a number that is there with one.
func AddPorts(ports, more []firewall.Port) []firewall.Port {
	for _, p := range more {
		same := func(q firewall.Port) bool {
			return q.HostIP == p.HostIP && q.Protocol == p.Protocol && q.ContainerPort == p.ContainerPort
		}
		switch {
		case slices.Contains(ports, p):
		case p.HostPort == 0 && slices.ContainsFunc(ports, same):
		default:
			ports = append(slices.DeleteFunc(slices.Clone(ports), func(q firewall.Port) bool { return q.HostPort == 0 && p.HostPort != 0 && same(q) }), p)
		}
	}
	return ports
}
