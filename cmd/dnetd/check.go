package main

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"

	"dcni/pkg/host/agent"
	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// maxName is the limit of each word of an identity, in bytes (NAME_MAX: they are
// names of files).
const maxName = 255

// checkAttachment returns an error for an attachment that no plugin has.
func checkAttachment(a *wire.Attachment) error {
	if a == nil {
		return wire.Errorf(wire.CodeDecode, "attachment: missing")
	}
	for _, w := range []struct{ field, value string }{
		{"network", a.Network}, {"container", a.Container}, {"ifName", a.IfName},
	} {
		if w.value == "" || w.value == "." || w.value == ".." || len(w.value) > maxName || strings.ContainsAny(w.value, "/\x00") {
			return wire.Invalid(w.field, w.value, fmt.Sprintf("must be 1 to %d bytes without '/'", maxName))
		}
	}
	return nil
}

// check returns an error for a resolver that no plugin of ours sends.
func (d *dnetd) check(r *names.Resolver) error {
	if r == nil {
		return wire.Errorf(wire.CodeDecode, "resolver: missing")
	}
	if err := checkAttachment(&r.Owner); err != nil {
		return err
	}
	if !filepath.IsAbs(r.NetNS) || len(r.NetNS) >= syscall.PathMax || strings.ContainsRune(r.NetNS, 0) {
		return wire.Invalid("netns", r.NetNS, "must be an absolute path")
	}
	if r.Cookie == 0 || r.Cookie == d.cookie {
		return wire.Invalid("cookie", r.Cookie, "must be that of a sandbox, which is not the host's namespace")
	}
	if _, err := names.CheckTTL("ttl", int64(r.TTL)); err != nil {
		return err
	}
	for i, name := range r.Names {
		if err := names.Check(fmt.Sprintf("names[%d]", i), name); err != nil {
			return err
		}
	}
	for i, l := range r.Links {
		if err := names.Check(fmt.Sprintf("links[%d].alias", i), l.Alias); err != nil {
			return err
		}
	}
	for i, h := range r.Hosts {
		field := fmt.Sprintf("hosts[%d]", i)
		if err := errors.Join(names.Check(field, h.Name), checkHost(field, h.Addresses)); err != nil {
			return err
		}
	}
	for i, s := range r.Servers {
		if !s.IsValid() || s.Port() == 0 || s.Addr().IsUnspecified() {
			return wire.Invalid(fmt.Sprintf("servers[%d]", i), s, "must be an IP address with a port")
		}
	}
	return errors.Join(
		checkAddresses("addresses", r.Addresses), checkAddresses("gateways", r.Gateways), checkAddresses("local", r.Local), checkListen(r),
	)
}

// checkListen wants a link for addresses on it.
func checkListen(r *names.Resolver) error {
	if len(r.Listen) > 0 && !network.ValidLink(r.Bridge) {
		return wire.Invalid("bridge", r.Bridge, "must be "+network.LinkRule)
	}
	return checkAddresses("listen", r.Listen)
}

// checkHost allows 0.0.0.0 and :: as well: a name with these leads nowhere.
func checkHost(field string, list []netip.Addr) error {
	return checkAddresses(field, slices.DeleteFunc(slices.Clone(list), netip.Addr.IsUnspecified))
}

func checkAddresses(field string, list []netip.Addr) error {
	for i, a := range list {
		if !a.IsValid() || a.IsUnspecified() || a.Zone() != "" {
			return wire.Invalid(fmt.Sprintf("%s[%d]", field, i), a, "must be an IP address")
		}
	}
	return nil
}

// knows returns the ports of an attachment's sandbox, and an error that says how its
// registered resolver differs from one.
func (d *dnetd) knows(want *names.Resolver) (agent.Reply, error) {
	if err := d.check(want); err != nil {
		return agent.Reply{}, err
	}
	is := d.registry.get(want.Owner)
	if is == nil {
		return agent.Reply{}, wire.Errorf(wire.CodeInternal, "%s is not served", want.Owner)
	}
	// dnetd decides the ports, and a sandbox has many paths.
	same := *want
	same.Port, same.Port6, same.NetNS = is.Port, is.Port6, is.NetNS
	reply := agent.Reply{Port: is.Port, Port6: is.Port6}
	if err := errors.Join(append(differences(is, &same), d.registry.gateways.Check(is))...); err != nil {
		reply.Error, reply.Code = err.Error(), wire.CodeInternal // an answer as good as any: nothing is refused
	}
	return reply, nil
}

// differences compares two resolvers field by field.
func differences(is, want *names.Resolver) []error {
	var errs []error
	a, b := reflect.ValueOf(*is), reflect.ValueOf(*want)
	for i := range a.NumField() {
		// As text, no list and an empty one are the same.
		x, y := fmt.Sprint(a.Field(i).Interface()), fmt.Sprint(b.Field(i).Interface())
		if x != y {
			field, _, _ := strings.Cut(a.Type().Field(i).Tag.Get("json"), ",")
			errs = append(errs, fmt.Errorf("%s is %s: want %s", field, x, y))
		}
	}
	return errs
}

// checkPeers returns an error for peers that no plugin asks for.
func checkPeers(p *wire.Peers) error {
	if err := checkAttachment(&wire.Attachment{Network: p.Network, Container: "any", IfName: "any"}); err != nil {
		return err
	}
	for _, l := range []struct{ field, value string }{{"bridge", p.Bridge}, {"vxlan", p.Vxlan}} {
		if !network.ValidLink(l.value) {
			return wire.Invalid(l.field, l.value, "must be "+network.LinkRule)
		}
	}
	return nil
}
