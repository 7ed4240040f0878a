package main

import (
	"errors"
	"os"
	"syscall"
	"time"

	"dcni/pkg/cni"
	"dcni/pkg/host/agent"
	"dcni/pkg/host/dnssock"
	"dcni/pkg/names"
	"dcni/pkg/wire"
)

// answer reads a request and replies.
func (d *dnetd) answer(c *agent.Conn) {
	var req agent.Request
	c.SetDeadline(time.Now().Add(firstMessageTimeout))
	files, err := c.Receive(&req)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.SetDeadline(time.Now().Add(lateMessageTimeout))
		files, err = c.Receive(&req) // dnetd may have been stopped, and the request has come
	}
	c.SetDeadline(time.Time{}) // the reply is the first message, so the socket has room for it
	if err != nil {
		agent.CloseAll(files)
		d.reply(c, agent.Reply{}, malformed(err))
		return
	}
	d.log.Debug("request", "op", req.Op, "resolver", req.Resolver, "attachment", req.Attachment, "files", len(files))
	switch {
	case req.Op == agent.TakeOver:
		agent.CloseAll(files)
		d.handOver(c)
	case !c.CallerAlive(): // the plugin's retry may already be served: this late request must not undo it
		agent.CloseAll(files)
		d.log.Debug("a request is too late", "op", req.Op)
	default:
		reply, err := d.perform(req, files)
		d.reply(c, reply, err)
	}
}

// malformed returns the error for a request that can't be read; another code says
// that dnetd had no descriptors left for it.
func malformed(err error) error {
	if outOfFiles(err) {
		return &wire.Error{Code: wire.CodeTryAgain, Msg: "request", Err: err}
	}
	return wire.Errorf(wire.CodeDecode, "request: %v", err)
}

func outOfFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// perform carries out a request. It closes descriptors that the request has no use
// for.
func (d *dnetd) perform(req agent.Request, files []int) (agent.Reply, error) {
	if req.Op == agent.Serve {
		return d.serve(req.Resolver, files)
	}
	agent.CloseAll(files)
	if req.Peers != nil {
		return agent.Reply{}, d.performPeers(req.Op, req.Peers)
	}
	switch req.Op {
	case agent.Know:
		return d.knows(req.Resolver)
	case agent.Forget:
		return d.forget(req.Attachment)
	case agent.Refresh:
		return agent.Reply{}, d.refresh(req.Attachment)
	case agent.Services:
		if req.Attachment == nil {
			return agent.Reply{}, wire.Errorf(wire.CodeDecode, "attachment: missing")
		}
		return agent.Reply{}, d.services.make(req.Attachment.Network)
	case agent.Ingress:
		return agent.Reply{}, d.setIngress(req.Attachment, req.Conf)
	case agent.Cluster:
		return agent.Reply{}, d.startCluster()
	case agent.Events:
		return agent.Reply{Events: d.healer.eventsAfter(req.After)}, nil
	case agent.Status:
		return agent.Reply{}, nil
	}
	return agent.Reply{}, wire.Errorf(wire.CodeDecode, "request %q: not known", req.Op)
}

// performPeers carries out a request about what an overlay network has on other nodes.
func (d *dnetd) performPeers(op agent.Op, p *wire.Peers) error {
	if err := checkPeers(p); err != nil {
		return err
	}
	switch op {
	case agent.Sync:
		return d.syncPeers(p)
	case agent.Know:
		if p.Encrypted {
			return errors.Join(d.overlays.Check(p), d.encryption.knows(p.Network))
		}
		return d.overlays.Check(p)
	case agent.Forget:
		d.overlays.Forget(p.Network)
		d.encryption.forget(p.Network)
		return nil
	}
	return wire.Errorf(wire.CodeDecode, "request %q: not known of peers", op)
}

// syncPeers begins with the keys, if there are to be some: other nodes have to answer.
func (d *dnetd) syncPeers(p *wire.Peers) error {
	if !p.Encrypted {
		return d.overlays.Sync(p)
	}
	if err := d.encryption.begin(p.Network); err != nil {
		return err
	}
	return errors.Join(d.overlays.Sync(p), d.encryption.sync(p.Network))
}

// reply sends a reply, with the error if there is one.
func (d *dnetd) reply(c *agent.Conn, r agent.Reply, err error) {
	if err := c.Send(d.complete(r, err)); err != nil {
		d.log.Debug("a reply can't be sent", "error", err)
	}
}

// complete returns a reply with the error, if there is one, and with this process's
// ID and version.
func (d *dnetd) complete(r agent.Reply, err error) agent.Reply {
	r.PID, r.Version = os.Getpid(), cni.Version
	if err != nil {
		r.Error, r.Code = err.Error(), wire.CodeInternal
		var coded *wire.Error
		switch {
		case errors.As(err, &coded):
			r.Code = coded.Code
		case outOfFiles(err):
			r.Code = wire.CodeTryAgain
		}
		d.log.Warn("a request is refused", "error", err)
	}
	return r
}

// serve registers an attachment. The sockets are dnetd's from now on.
func (d *dnetd) serve(r *names.Resolver, files []int) (agent.Reply, error) {
	sockets, err := d.checkServe(r, files)
	if err != nil {
		agent.CloseAll(files)
		return agent.Reply{}, err
	}
	err = d.registry.add(registration{r, sockets})
	if err == nil {
		err = d.registry.gateways.Check(r)
	}
	if err != nil {
		d.registry.remove(r.Owner)
		return agent.Reply{}, err
	}
	d.log.Debug("serves", "attachment", r.Owner, "names", r.Names)
	four, six := d.registry.ports(r.Cookie)
	return agent.Reply{Port: four, Port6: six}, nil
}

// checkServe returns the descriptors of a request to serve as sockets, or what is
// wrong with it.
func (d *dnetd) checkServe(r *names.Resolver, files []int) (sockets [families]dnssock.NameServer, err error) {
	if err := d.check(r); err != nil {
		return sockets, err
	}
	want := 2
	if r.Port6 != 0 {
		want = 4
	}
	if len(files) != want {
		return sockets, wire.Errorf(wire.CodeDecode, "%d descriptors: must be %d, a UDP socket and a TCP listener for each family", len(files), want)
	}
	for f := range len(files) / 2 {
		sockets[f], err = dnssock.Check(files[2*f], files[2*f+1], r.Cookie, names.Family(f) == names.IPv6)
		if err != nil {
			return sockets, malformed(err)
		}
	}
	return sockets, nil
}

// forget unregisters an attachment, if it is registered.
func (d *dnetd) forget(a *wire.Attachment) (agent.Reply, error) {
	if err := checkAttachment(a); err != nil {
		return agent.Reply{}, err
	}
	known := d.registry.get(*a)
	if known == nil {
		return agent.Reply{}, nil
	}
	d.registry.remove(*a)
	d.log.Debug("forgets", "attachment", *a)
	reply := agent.Reply{}
	if reply.Port, reply.Port6 = d.registry.ports(known.Cookie); !d.registry.knows(known.Cookie) {
		reply.Last = known.Cookie
	}
	return reply, nil
}

// refreshPorts has the dnetd that serves read an attachment's records again: this one,
// or by now its successor.
func (d *dnetd) refreshPorts(a wire.Attachment) error {
	_, err := agent.Call(d.options.socket, requestTimeout, agent.Request{Op: agent.Refresh, Attachment: &a})
	return err
}

// announce has the services of a network have the tasks that are on record now.
func (d *dnetd) announce(network string) error {
	if !d.store.HasServices(network) {
		return nil
	}
	return d.services.make(network)
}

// refresh reads an attachment's records again, for the ports that it publishes.
func (d *dnetd) refresh(a *wire.Attachment) error {
	if err := checkAttachment(a); err != nil {
		return err
	}
	return d.ports.refresh(a.Container)
}
