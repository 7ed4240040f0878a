package cni

import (
	"fmt"
	"net/netip"
	"strings"

	"dcni/pkg/ipam"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// loopback are the addresses of every namespace's lo (RFC 1122, RFC 4291).
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128")}

// admit looks at a sandbox for a guest, and says what the record must know of
// it before anything happens.
func (e *Engine) admit(r *Request, mode Mode, rec *records.Record) error {
	if e.Plugin.Guest.Chained {
		if r.Prev == nil {
			return errNoPrev(e.Plugin.Name + " comes behind a plugin that makes the interface")
		}
		return nil
	}
	if err := r.wants(); err != nil {
		return err
	}
	found, err := e.Host.Survey(r.NetNS)
	shares := mode.Network().Shares
	if err == nil && shares != "" && !found.Own {
		found.Processes, err = e.Host.Inside(r.NetNS)
	}
	if err != nil {
		return err
	}
	if err := e.Plugin.Guest.Admit(r, found); err != nil {
		return err
	}
	rec.Cookie = found.Cookie
	if shares != "" {
		target, err := e.Host.Enter(shares)
		if err != nil {
			return err
		}
		rec.Target = target.Cookie
	}
	if len(r.Ports) > 0 {
		fmt.Fprintf(e.Log, "%s: published ports are discarded: network %s has none\n", e.Plugin.Name, r.Network)
	}
	return nil
}

// Vacant tells why a sandbox can't be made to share another namespace, or nil:
// whatever has been in it would stay behind. Where it is the runtime's doing,
// the error says what to ask of that instead.
func (r *Request) Vacant(found wire.Survey, instead string) error {
	switch {
	case found.Fixed:
		return wire.Errorf(wire.CodeSandbox, "CNI_NETNS %q: is a process's own network namespace, which can't be exchanged: use %s",
			r.NetNS, instead)
	case len(found.Links) > 0:
		return wire.Errorf(wire.CodeSandbox, "CNI_NETNS %q: has %s besides lo, which would stay behind; network %s goes together with no other",
			r.NetNS, strings.Join(found.Links, ", "), r.Network)
	case len(found.Processes) > 0:
		return wire.Errorf(wire.CodeSandbox, "CNI_NETNS %q: process %s is in it already, and would stay behind",
			r.NetNS, found.Processes[0])
	}
	return nil
}

// wants refuses what only an interface of the sandbox's own could have: to
// leave it out would break a promise.
func (r *Request) wants() error {
	what, given := "", ""
	switch {
	case len(r.Static) > 0:
		what, given = "ips", fmt.Sprint(r.Static)
	case r.MAC != "":
		what, given = "mac", r.MAC
	case len(r.Ranges) > 0:
		what, given = "ipRanges", fmt.Sprint(r.Ranges)
	default:
		return nil
	}
	return wire.Errorf(wire.CodeUnsupported, "%s %s: can't be had: network %s gives a container no interface of its own", what, given, r.Network)
}

// borrowed are the addresses of interfaces that are there already. Nobody gives
// them, and nobody takes them back.
type borrowed struct {
	host    Machine
	network Network
}

func (b borrowed) Claim(r *Request) (*Lease, error) {
	of, addresses := b.network.Shares, b.host.Addresses
	if of == "" {
		of, addresses = r.NetNS, b.host.Loopback
	}
	list, err := addresses(of)
	return &Lease{Addresses: assigned(list), DNS: b.network.DNS}, err
}

func assigned(list []netip.Prefix) []ipam.Assigned {
	var out []ipam.Assigned
	for _, p := range list {
		out = append(out, ipam.Assigned{Address: p})
	}
	return out
}

func (borrowed) Abandon(*Request, *Lease) error                     { return nil }
func (borrowed) Release(*Request) error                             { return nil }
func (borrowed) Check(*Request, []ipam.Assigned) error              { return nil }
func (borrowed) Collect(*Request, func(wire.Attachment) bool) error { return nil }
func (borrowed) Status(*Request) error                              { return nil }
