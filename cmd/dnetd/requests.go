package main

import (
	"errors"
	"os"

	"dcni/pkg/cni"
	"dcni/pkg/host"
	"dcni/pkg/host/agent"
	"dcni/pkg/names"
	"dcni/pkg/wire"
)

// answer reads a request and replies. Descriptors that nobody wants are closed.
func (d *dnetd) answer(c *agent.Conn) {
	var req agent.Request
	files, err := c.Receive(&req)
	if err != nil {
		agent.CloseAll(files)
		d.reply(c, agent.Reply{}, wire.Errorf(wire.CodeDecode, "request: %v", err))
		return
	}
	d.log.Debug("request", "op", req.Op, "resolver", req.Resolver, "attachment", req.Attachment, "files", len(files))
	if req.Op == agent.Serve {
		reply, err := d.serve(req.Resolver, files)
		d.reply(c, reply, err)
		return
	}
	agent.CloseAll(files)
	switch req.Op {
	case agent.Know:
		reply, err := d.knows(req.Resolver)
		d.reply(c, reply, err)
	case agent.Forget:
		d.reply(c, agent.Reply{}, d.forget(req.Attachment))
	case agent.Refresh:
		d.reply(c, agent.Reply{}, d.refresh(req.Attachment))
	case agent.Status:
		d.reply(c, agent.Reply{}, nil)
	case agent.TakeOver:
		d.giveAway(c)
	default:
		d.reply(c, agent.Reply{}, wire.Errorf(wire.CodeDecode, "request %q: not known", req.Op))
	}
}

// reply sends a reply, with the error if there is one.
func (d *dnetd) reply(c *agent.Conn, r agent.Reply, err error) {
	r.PID, r.Version = os.Getpid(), cni.Version
	if err != nil {
		r.Error, r.Code = err.Error(), wire.CodeInternal
		var coded *wire.Error
		if errors.As(err, &coded) {
			r.Code = coded.Code
		}
		d.log.Warn("a request is refused", "error", err)
	}
	if err := c.Send(r); err != nil {
		d.log.Debug("a reply is not heard", "error", err)
	}
}

// serve answers a sandbox from now on, on sockets that it owns.
func (d *dnetd) serve(r *names.Resolver, files []int) (agent.Reply, error) {
	sockets, err := d.checkServe(r, files)
	if err != nil {
		agent.CloseAll(files)
		return agent.Reply{}, err
	}
	if err := d.memory.add(arrival{r, sockets}); err != nil {
		d.memory.remove(r.Owner)
		return agent.Reply{}, err
	}
	d.log.Debug("serves", "attachment", r.Owner, "names", r.Names)
	four, six := d.memory.ports(r.Cookie)
	return agent.Reply{Port: four, Port6: six}, nil
}

// checkServe tells what is wrong with a request to serve, or returns the
// descriptors as sockets.
func (d *dnetd) checkServe(r *names.Resolver, files []int) (sockets [families]host.NameServer, err error) {
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
		sockets[f], err = host.CheckNameServer(files[2*f], files[2*f+1], r.Cookie, names.Family(f) == names.IPv6)
		if err != nil {
			return sockets, wire.Errorf(wire.CodeDecode, "%v", err)
		}
	}
	return sockets, nil
}

// forget lets go of what an attachment brought, if it did.
func (d *dnetd) forget(a *wire.Attachment) error {
	if err := checkAttachment(a); err != nil {
		return err
	}
	if d.memory.get(*a) == nil {
		return nil
	}
	d.memory.remove(*a)
	d.log.Debug("forgets", "attachment", *a)
	return nil
}

// refresh reads an attachment's records again, for the ports that it publishes.
func (d *dnetd) refresh(a *wire.Attachment) error {
	if err := checkAttachment(a); err != nil {
		return err
	}
	return d.ports.refresh(a.Container)
}
