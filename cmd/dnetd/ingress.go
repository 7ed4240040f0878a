package main

import (
	"dcni/pkg/cni"
	"dcni/pkg/host"
	"dcni/pkg/mode/overlay"
	"dcni/pkg/netns"
	"dcni/pkg/records"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// This file is about the attachment by which a node of a cluster is on an overlay network for the ports of its
// services: an ordinary one, in a network namespace with nothing in it. dclusterd, which is on each node and follows
// the store, says when; it has no right to do so itself.

// setIngress makes the node's attachment to a network, in place of one that is there, or ends it where no
// configuration is given. After an error, or a death on the way, it is to be asked for again.
func (d *dnetd) setIngress(a *wire.Attachment, conf []byte) error {
	if err := checkAttachment(a); err != nil {
		return err
	}
	if *a != service.IngressOf(a.Network) {
		return wire.Errorf(wire.CodeDecode, "attachment %s: is no node's", a)
	}
	d.ingress.Lock()
	defer d.ingress.Unlock()
	machine, err := host.New(d.store.Store)
	if err != nil {
		return err
	}
	defer machine.Close()
	machine.NeverStartDnetd = true
	e := cni.NewEngine(overlay.Plugin, d.store.Store, machine)
	e.Index, e.Relay, e.Announce = d.store, d.refreshPorts, d.announce
	path := d.store.IngressNetNS(a.Network)
	return recovered(func() error {
		if err := d.endIngress(e, *a, path, conf); err != nil || len(conf) == 0 {
			return err
		}
		if err := netns.Pin(path); err != nil {
			return err
		}
		r, err := ingressRequest(*a, path, conf)
		if err == nil {
			_, err = e.Add(r)
		}
		if err == nil {
			d.log.Info("the node has the ports of a network's services", "network", a.Network)
		}
		return err
	})
}

// endIngress ends the attachment, and what is left of one. The namespace goes last: it says that there is something to end.
func (d *dnetd) endIngress(e *cni.Engine, a wire.Attachment, path string, conf []byte) error {
	list, err := d.store.OfAttachment(a)
	if err != nil && len(list) == 0 {
		return err
	}
	for _, r := range list {
		if len(r.Config) > 0 {
			conf = r.Config
		}
	}
	if len(list) > 0 {
		r, err := ingressRequest(a, path, conf)
		if err == nil {
			err = e.Del(r)
		}
		if err != nil {
			return err
		}
		d.log.Info("the node no longer has the ports of a network's services", "network", a.Network)
	}
	return netns.Unpin(path)
}

// ingressRequest is what a runtime would ask the plugin for.
func ingressRequest(a wire.Attachment, path string, conf []byte) (*cni.Request, error) {
	r, err := cni.ParseRequest(&cni.Call{
		ContainerID: a.Container, NetNS: path, IfName: a.IfName, Args: "DNET_CREATOR=" + string(records.ByIngress), Conf: conf,
	})
	if err == nil && r.Network != a.Network {
		err = wire.Invalid("name", r.Network, "must be "+a.Network)
	}
	return r, err
}
