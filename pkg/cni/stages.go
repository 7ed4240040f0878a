package cni

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// This file is about how an ADD makes what is the attachment's own: at once, or in
// stages where the addresses depend on the link.

// tries is how many addresses of one family an ADD tries that machines on the LAN have
// (RFC 5227, MAX_CONFLICTS).
const tries = 10

// ensureOwn makes the attachment's own objects so. Where a machine on the LAN has an
// address, or another program's ipvlan on the same parent, all of it is made again with
// another: the link's MAC goes with the address. With an error it returns what could not be
// undone.
func (a *addition) ensureOwn() ([]wire.Object, error) {
	if err := a.askForHost(); err != nil {
		return nil, err // nothing is there
	}
	for try := 1; ; try++ {
		made, taken, err := a.ensureStages(try)
		if c, found := a.beside(err); found && len(made) == 0 {
			taken, err = []wire.Conflict{c}, nil
		}
		if coded := (*wire.Error)(nil); errors.As(err, &coded) && coded.Taken.IsValid() {
			err = a.nameOwner(coded.Taken, err)
		} else if coded != nil && coded.Code == wire.CodeAddressTaken { // the MAC, which may be made of an address
			for _, own := range a.endpoint.Addresses {
				err = a.nameOwner(own.Address.Addr(), err)
			}
		}
		if err != nil || len(taken) == 0 {
			return made, err
		}
		if err := a.replace(taken, try); err != nil {
			return nil, err // nothing is there
		}
	}
}

// askForHost asks the LAN for the addresses that a network with hostAccess is to give the
// host, by the host's link there. That has them from the first container on.
func (a *addition) askForHost() error {
	i := slices.IndexFunc(a.plan.Own, func(o wire.Object) bool { _, ok := o.(*wire.HostAccess); return ok })
	if i < 0 || !a.mode.Describe().ConflictDetection {
		return nil
	}
	access := a.plan.Own[i].(*wire.HostAccess)
	d := wire.Detection{Link: access.Link}
	for _, s := range access.Sources {
		if a.Host.Check(&wire.Addr{Dev: access.Link, Prefix: netip.PrefixFrom(s, s.BitLen())}) != nil {
			d.Addresses = append(d.Addresses, s)
		}
	}
	if len(d.Addresses) == 0 {
		return nil
	}
	w, err := a.LAN.Detect(d)
	if err != nil {
		return fmt.Errorf("detect address conflicts through %s: %w", d.Link, err)
	}
	defer w.Close()
	taken, err := w.Wait()
	for _, c := range taken {
		if c.MAC != "" { // else it is the host's already, on another link
			return wire.Errorf(wire.CodeAddressTaken, "ipam.auxAddresses.host \"%s\": is used by %s", c.Address, c.Holder())
		}
	}
	return err
}

// beside returns the address that the kernel refused, for another interface has it, if there
// is another in its place.
func (a *addition) beside(err error) (c wire.Conflict, found bool) {
	coded := (*wire.Error)(nil)
	if !errors.As(err, &coded) || !coded.Taken.IsValid() || slices.Contains(a.r.Static, coded.Taken) {
		return c, false
	}
	_, can := a.source.(Replacer)
	return wire.Conflict{Address: coded.Taken}, can
}

// ensureStages makes the attachment's own objects so, in two stages where the addresses
// depend on the link: its source wants to see it before it settles them, the sandbox may
// be without IPv6, or the LAN is asked for them. If machines there have some, or on an
// error, nothing stays but what could not be undone, which is returned.
func (a *addition) ensureStages(try int) (made []wire.Object, taken []wire.Conflict, err error) {
	c, settles := a.source.(Confirmer)
	detects := a.mode.Describe().ConflictDetection
	if !settles && !detects && !a.mayLackIPv6() {
		made, err = wire.Ensure(a.Host, a.plan.Own)
		return made, nil, err
	}
	defer func() {
		if err != nil || len(taken) > 0 {
			if undo := wire.Undo(a.Host, made); undo != nil {
				err = errors.Join(err, undo)
				return
			}
			made = nil
		}
	}()
	link, addresses := wire.Stages(a.plan.Own)
	if made, err = wire.Ensure(a.Host, link); err != nil {
		return made, nil, err
	}
	if settles {
		a.mac = a.endpoint.SandboxMAC()
		if err = c.Confirm(a.r, a.lease); err == nil {
			err = a.makePlan()
		}
		addresses = a.plan.Own // the first stage is so already
	}
	if err == nil && a.mayLackIPv6() {
		addresses, err = a.leaveOutIPv6(addresses)
	}
	if err == nil && detects {
		var beside []wire.Object
		addresses, beside, taken, err = a.detect(addresses, try > 1)
		made = append(made, beside...)
	}
	if err != nil || len(taken) > 0 {
		return made, taken, err
	}
	second, err := wire.Ensure(a.Host, addresses)
	return append(made, second...), nil, err
}

// detect asks the LAN for the attachment's addresses, and makes what needs none while it
// waits. It returns what is left to be made, what it changed, and which are taken.
func (a *addition) detect(objects []wire.Object, again bool) (left, made []wire.Object, taken []wire.Conflict, err error) {
	d := detectionThrough(a.mode.Describe().Parent,
		wire.Detection{NetNS: a.r.NetNS, Link: a.r.IfName, Addresses: a.endpoint.IPs(), Again: again})
	w, err := a.LAN.Detect(d)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("detect address conflicts through %s: %w", d.Link, err)
	}
	defer w.Close()
	left, rest := wire.NeedAddresses(objects)
	if made, err = wire.Ensure(a.Host, rest); err == nil {
		taken, err = w.Wait()
	}
	return left, made, taken, err
}

// replace gets other addresses in place of those that are taken. What was asked for by
// value, or what another IPAM plugin gave, can't be replaced.
func (a *addition) replace(taken []wire.Conflict, try int) error {
	source, can := a.source.(Replacer)
	for _, c := range taken {
		if !can || slices.Contains(a.r.Static, c.Address) {
			return a.nameOwner(c.Address, ipam.InUse(c.Address, "used by "+c.Holder()))
		}
		fmt.Fprintf(a.Log, "%s: %s: address %s is used by %s\n", a.Plugin.Type, a.r.Attachment, c.Address, c.Holder())
	}
	if try == tries {
		return wire.Errorf(wire.CodeTryAgain, "network %s: the %d addresses that were tried are used by others, the last, %s, by %s",
			a.r.Network, tries, taken[0].Address, taken[0].Holder())
	}
	if err := source.Replace(a.r, a.lease, taken); err != nil {
		return err
	}
	return a.makePlan()
}

// nameOwner returns the error about an address that an interface has beside the attachment's: it
// names the container, where that is one on the same parent, of whichever network.
func (a *addition) nameOwner(address netip.Addr, err error) error {
	list, _ := a.Index.List("") // what can't be read names nothing
	for _, r := range list {
		on := a.mode.Describe().Parent
		if r.Attachment == a.r.Attachment || r.Parent == nil || on == nil || r.Parent.Name != on.Name {
			continue
		}
		if slices.ContainsFunc(r.AddressesThere(), func(has ipam.Assigned) bool { return has.Address.Addr() == address }) {
			return ipam.InUse(address, "leased to "+r.Attachment.String())
		}
	}
	return err
}

// mayLackIPv6 reports whether there are addresses that the sandbox can't have if its
// owner has switched IPv6 off.
func (a *addition) mayLackIPv6() bool {
	return a.Plugin.Kind == network.MakesInterface && a.endpoint.HasAddress6()
}

// leaveOutIPv6 leaves IPv6 out of the attachment if it is switched off in the sandbox,
// and returns what is still to be made.
func (a *addition) leaveOutIPv6(addresses []wire.Object) ([]wire.Object, error) {
	off, err := a.Sandboxes.IPv6Off(a.r.NetNS, a.r.IfName)
	if err != nil || !off {
		return addresses, err
	}
	a.ipv6Off = true
	if err := a.makePlan(); err != nil {
		return nil, err
	}
	if len(a.endpoint.Addresses) == 0 {
		return nil, wire.Errorf(wire.CodeSandbox,
			"CNI_NETNS %q: IPv6 is switched off there (net.ipv6.conf.all.disable_ipv6 or default.disable_ipv6 is 1), and network %s has addresses of IPv6 only",
			a.r.NetNS, a.r.Network)
	}
	_, addresses = wire.Stages(a.plan.Own)
	return addresses, nil
}
