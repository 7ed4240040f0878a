package cni

import (
	"errors"
	"fmt"

	"dcni/pkg/firewall"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// Publish has an attachment publish ports that another attachment of its container has, so
// that they go on when that one is detached: with the same host ports, chosen ones too. It
// does nothing for an attachment that publishes some already, or on a network that publishes
// none.
func (e *Engine) Publish(a wire.Attachment, ports []firewall.Port) error {
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
	if rec.State != records.Up || publishes(rec) || d.Ports.Ignore || d.Ports.Refuse != "" {
		return nil
	}
	endpoint := endpointOf(rec)
	endpoint.OnLAN, endpoint.Routed, endpoint.Ports = d.OnLAN(), d.Routed, publish(d.Ports, ports)
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

// publish records what an attachment publishes, and then publishes it: what is not on
// record, DEL would leave.
func (e *Engine) publish(rec *records.Record, o *firewall.Endpoint) error {
	before := *rec
	rec.Endpoint, rec.Holder = o, e.Facts.PortHolder()
	if err := e.Records.Put(rec); err != nil {
		return err
	}
	if _, err := wire.Ensure(e.Host, []wire.Object{o}); err != nil {
		return errors.Join(fmt.Errorf("publish ports of %s: %w", rec.Attachment, err), e.Records.Put(&before))
	}
	e.relay(rec)
	return nil
}
