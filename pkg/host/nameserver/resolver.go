// Package nameserver gives a sandbox its name server: sockets that dnetd reads, and rules
// that lead port 53 to them.
package nameserver

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/agent"
	"dcni/pkg/host/dnssock"
	"dcni/pkg/host/nft"
	"dcni/pkg/host/nlsock"
	"dcni/pkg/host/nstable"
	"dcni/pkg/host/proc"
	"dcni/pkg/host/rtnl"
	"dcni/pkg/host/spaces"
	"dcni/pkg/names"
	"dcni/pkg/netns"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// Resolvers works on the name servers of sandboxes.
type Resolvers struct {
	*spaces.Set
	Records records.Store
	Dnetd   agent.Client
}

// Of returns the kind of a resolver.
func (h Resolvers) Of(o *names.Resolver) wire.Kind { return resolver{h, o} }

// resolver is a [names.Resolver]: sockets in the sandbox that dnetd reads, and
// rules there that lead port 53 to them. The sockets are opened here, so that
// dnetd, which is asked at any time, enters no namespace for it.
//
// Several attachments of a sandbox have one pair of sockets and one table, which
// does what any of them wants.
type resolver struct {
	h Resolvers
	o *names.Resolver
}

// Ensure hands the sockets to dnetd and installs the rules. What dnetd was told is to
// be taken back also if the rest fails, so that counts as a change.
func (r resolver) Ensure() (bool, error) {
	if r.o.Port != 0 && r.Check() == nil {
		return false, nil
	}
	if r.o.Intercept && r.o.Local == nil {
		r.o.Local = r.h.loopbackServers()
	}
	sockets, err := r.open()
	defer closeAll(sockets)
	if err != nil {
		return false, err
	}
	request := agent.Request{Op: agent.Serve, Resolver: r.o}
	var fds []int
	for _, s := range sockets {
		fds = append(fds, s.UDP, s.TCP)
	}
	reply, err := r.h.Dnetd.Ask(request, fds...)
	if err != nil {
		return true, err
	}
	r.o.Port, r.o.Port6 = reply.Port, reply.Port6
	return true, r.h.Lead(r.o)
}

// loopbackServers are the host's name servers that a container would look for in
// its own namespace, as that of systemd-resolved.
func (h Resolvers) loopbackServers() []netip.Addr {
	return slices.DeleteFunc(Nameservers(), func(a netip.Addr) bool { return !a.IsLoopback() || a == names.Address })
}

// resolverFamilies are those that a name server needs sockets of: IPv6 only where
// that is intercepted, and the kernel has it.
func resolverFamilies(intercept bool) (six []bool) {
	if !intercept {
		return []bool{false}
	}
	if _, err := os.Stat(proc.SysctlDir + "net/ipv6"); err != nil {
		return []bool{false}
	}
	return []bool{false, true}
}

// open opens the sockets, and what installs the rules: one visit to the sandbox is
// enough for both.
func (r resolver) open() ([]dnssock.NameServer, error) {
	s, err := r.h.Open(r.o.NetNS)
	if err != nil {
		return nil, err
	}
	var list []dnssock.NameServer
	err = s.Do(func() error {
		for _, six := range resolverFamilies(r.o.Intercept) {
			port := &r.o.Port
			if six {
				port = &r.o.Port6
			}
			server, err := dnssock.OpenHere(r.o.Cookie, cmp.Or(*port, names.UsualPort), dnssock.Address(six))
			if err != nil {
				return fmt.Errorf("name server sockets: %w", err)
			}
			list = append(list, server)
			*port = server.Port
		}
		return nft.Unsupported(s.DialNetfilter())
	})
	if errors.Is(err, dnssock.ErrNoSandbox) {
		err = &wire.Error{Code: wire.CodeNetNS, Msg: fmt.Sprintf("CNI_NETNS %q", r.o.NetNS), Err: err}
	}
	return list, err
}

func closeAll(list []dnssock.NameServer) {
	for _, s := range list {
		s.Close()
	}
}

// Lead installs the rules that lead port 53 in a sandbox to the ports of
// a resolver, and to what other attachments of the sandbox want that lead to the
// same ports. Where they are, nothing changes.
func (h Resolvers) Lead(r *names.Resolver) error {
	lock, err := h.Records.LockSandbox(r.Cookie)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return h.eachTable(r, nstable.Table.Install)
}

// eachTable calls f for each family that a resolver wants something of.
func (h Resolvers) eachTable(r *names.Resolver, f func(t nstable.Table, want nstable.Redirect) error) error {
	s, err := h.Open(r.NetNS)
	if err != nil {
		return err
	}
	var errs []error
	for _, six := range []bool{false, true} {
		want := nstable.RedirectFor(r, six)
		if want.Port == 0 {
			continue
		}
		t, err := tableOf(s, six)
		if err == nil {
			err = f(t, want)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Check asks dnetd, and looks at the rules. After a crash dnetd may have had to
// take other ports than are on record.
func (r resolver) Check() error {
	reply, unknown := r.h.Dnetd.Call(agent.AnswerTimeout, agent.Request{Op: agent.Know, Resolver: r.o})
	now := *r.o
	if reply.Port != 0 {
		now.Port, now.Port6 = reply.Port, reply.Port6
	}
	return errors.Join(unknown, r.h.eachTable(&now, nstable.Table.Check))
}

// Remove has dnetd forget the attachment, and takes the rules away with the last
// one of the sandbox. It goes on without dnetd: that drops by itself what has no
// record any more.
func (r resolver) Remove() error {
	if r.o.NetNS == "" || !r.there() {
		r.forget()
		return nil
	}
	lock, err := r.h.Records.LockSandbox(r.o.Cookie)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	reply := r.forget() // under the lock: every attachment that relied on the rules it saw has registered with dnetd by now
	var siblings []*names.Resolver
	if reply.Last != r.o.Cookie { // to ask the records takes longer than all the rest, on a host with many networks
		var sure bool
		if siblings, sure = r.siblings(); !sure || len(siblings) == 0 && reply.Port+reply.Port6 != 0 {
			return nil // the rest is an attachment's that is being made, or another container's in the same sandbox
		}
	}
	s, err := r.h.Open(r.o.NetNS)
	if err != nil {
		return nil // gone by now, and the rules with it
	}
	for _, six := range []bool{false, true} {
		t, err := tableOf(s, six)
		if err == nil {
			err = t.Release(r.o, siblings)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// forget has dnetd forget the attachment. An error is a reply that says nothing.
func (r resolver) forget() agent.Reply {
	reply, _ := r.h.Dnetd.Call(agent.ForgetTimeout, agent.Request{Op: agent.Forget, Attachment: &r.o.Owner})
	return reply
}

// there reports whether the path still leads to the sandbox.
func (r resolver) there() bool {
	cookie, err := netns.CookieAt(r.o.NetNS)
	return err == nil && cookie == r.o.Cookie
}

// siblings returns the resolvers of the sandbox's other attachments. It is not sure
// while one of them is being made: what that wants is not yet on record.
func (r resolver) siblings() (list []*names.Resolver, sure bool) {
	for _, other := range r.h.Records.Siblings(r.o.Owner) {
		switch {
		case other.Cookie != r.o.Cookie:
		case other.State == records.Adding:
			return nil, false
		case other.State == records.Up && other.Resolver != nil:
			list = append(list, other.Resolver)
		}
	}
	return list, true
}

// Probe tells whether dnetd answers or could be started, and whether the kernel
// takes the rules. They are installed in a namespace of their own.
func (r resolver) Probe() error {
	errs := []error{r.h.Dnetd.Probe(), probeMapping(r.o)}
	for _, a := range r.o.Listen {
		errs = append(errs, GatewayTaken(a))
	}
	return errors.Join(errs...)
}

func probeMapping(r *names.Resolver) error {
	return netns.Scratch(func() error {
		conn, err := nlsock.Dial(unix.NETLINK_NETFILTER)
		if err != nil {
			return nft.Unsupported(err)
		}
		defer conn.Close()
		rt, err := rtnl.Dial()
		if err != nil {
			return err
		}
		defer rt.Close()
		if err := rt.SetUp(rtnl.LoIndex, true); err != nil {
			return fmt.Errorf("raise lo: %w", err)
		}
		at := *r
		at.Port, at.Port6 = names.DNSPort, names.DNSPort
		for _, six := range resolverFamilies(r.Intercept) {
			if err := nstable.New(conn, rt, six).Install(nstable.RedirectFor(&at, six)); err != nil {
				return fmt.Errorf("kernel can't take the rules of a container's name server: %w", err)
			}
		}
		return nil
	})
}

// tableOf returns a family's table of a sandbox.
func tableOf(s *spaces.Space, six bool) (nstable.Table, error) {
	conn, err := s.Netfilter()
	if err != nil {
		return nstable.Table{}, nft.Unsupported(err)
	}
	return nstable.New(conn, s.RT, six), nil
}
