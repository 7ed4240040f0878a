package overlay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"dcni/pkg/ipam"
	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// A Service is a service of a network, as the store has it. Its name and its network are its
// key's as well.
type Service struct {
	service.Service
	Made string `json:"made,omitempty"` // RFC 3339
}

// Service is the key of a [Service]; the prefix of all of a network for the name "", of all
// networks for "", "".
func (k Keys) Service(network, name string) string {
	s := k.Prefix + "service/"
	if network != "" {
		s += network + "/" + name
	}
	return s
}

// Port is the key of a port that all nodes publish: its value is the service that has it, as
// "NETWORK/SERVICE".
func (k Keys) Port(p service.Port) string {
	return fmt.Sprintf("%sport/%s/%d", k.Prefix, p.Protocol, p.Published)
}

// ServiceOwner is the owner of a service's virtual addresses: of no node. So neither the
// removal of a node, nor its death, nor a runtime's GC gives them back.
func ServiceOwner(name string) Owner { return Owner{Attachment: name} }

// OfService reports whether an address is a service's.
func (o Owner) OfService() bool { return o.Node == "" }

// service reads an entry as a service. A value that another key should have is none: its
// name becomes that of a chain of nftables, and its addresses are rewritten.
func (k Keys) service(network string, e Entry) (Service, error) {
	v, err := read[Service](e)
	if err != nil {
		return v, err
	}
	if e.Key != k.Service(v.Network, v.Name) || v.Network != network {
		return v, fmt.Errorf("%s: it is service %q of network %q", e.Key, v.Name, v.Network)
	}
	w := service.Wish{Name: v.Name, Mode: v.Mode, Affinity: v.Affinity, Health: v.Health, Ports: v.Ports, Local: v.Local}
	for _, a := range v.VIPs {
		if !usable(a) {
			return v, fmt.Errorf("%s: vip %s: must be an address of the network", e.Key, a)
		}
		w.VIPs = append(w.VIPs, a.String())
	}
	if _, err := w.Parse(); err != nil {
		return v, fmt.Errorf("%s: %w", e.Key, err)
	}
	return v, nil
}

// Services returns a network's services, by name. Where a service's value can't be read, the
// error is an [UnreadableError], and the others are returned all the same.
func (c Cluster) Services(ctx context.Context, network string) ([]Service, error) {
	entries, err := c.list(ctx, c.Keys.Service(network, ""))
	if err != nil {
		return nil, err
	}
	out := make([]Service, 0, len(entries))
	var unread UnreadableError
	for _, e := range entries {
		v, err := c.Keys.service(network, e)
		if err != nil {
			unread.add(strings.TrimPrefix(e.Key, c.Keys.Service(network, "")), err)
			continue
		}
		out = append(out, v)
	}
	return out, unread.orNil()
}

// ServiceNetworks returns the networks that have services, by name.
func (c Cluster) ServiceNetworks(ctx context.Context) (list []string, err error) {
	prefix := c.Keys.Service("", "")
	_, err = c.Store.List(ctx, prefix, func(e Entry) error {
		name, _, _ := strings.Cut(strings.TrimPrefix(e.Key, prefix), "/")
		if !slices.Contains(list, name) && network.ValidName(name) {
			list = append(list, name)
		}
		return nil
	})
	return list, err
}

// A ServiceExistsError says that a network has a service of the name.
type ServiceExistsError struct{ Service, Network string }

func (e *ServiceExistsError) Error() string {
	return fmt.Sprintf("service %s exists already on network %s", e.Service, e.Network)
}

// CreateService makes a service with an address of each family of its network: those that its
// VIPs name, or free ones. With mode dnsrr it has none. All is one transaction. Errors are of
// code 7 (no such network, an address outside of it), 101 (an address is another's), 102 (a port is
// another service's) and 11 (none is left); a [ServiceExistsError] where there is one.
func (c Cluster) CreateService(ctx context.Context, v Service) (Service, error) {
	if err := names.Check("name", v.Name); err != nil {
		return v, err
	}
	n, err := c.Network(ctx, v.Network)
	if err != nil {
		return v, err
	}
	owner := wire.Attachment{Network: v.Network, IfName: v.Name}
	s := &search{Cluster: c, Claim: Claim{Attachment: owner}, net: n, used: map[netip.Addr]Owner{}}
	if v.Mode == service.VIP {
		if s.plan, err = n.IPAM().Plan(ipam.Request{Owner: owner, Static: v.VIPs}); err != nil {
			return v, fmt.Errorf("vip: %w", err)
		}
	}
	err = again("service "+v.Name, func() (done bool, err error) {
		v, done, err = s.tryService(ctx, v)
		return done, err
	})
	return v, err
}

// tryService makes the service with what is free as far as is known. Where it is not done, more
// is known.
func (s *search) tryService(ctx context.Context, v Service) (_ Service, done bool, err error) {
	assigned, ok, err := s.assign(ctx)
	if err != nil {
		return v, false, fmt.Errorf("vip: %w", err)
	}
	if !ok {
		return v, false, nil
	}
	v.VIPs = nil
	t := Txn{If: []Condition{{Key: s.Keys.Network(s.net.Name), Created: s.net.Generation}, {Key: s.Keys.Service(v.Network, v.Name)}}}
	for _, a := range assigned {
		key := s.Keys.Addr(v.Network, a.Address.Addr())
		v.VIPs = append(v.VIPs, a.Address.Addr())
		t.If = append(t.If, Condition{Key: key})
		t.Then = append(t.Then, Change{Key: key, Value: []byte(ServiceOwner(v.Name).String())})
	}
	for _, port := range v.Ports {
		t.If = append(t.If, Condition{Key: s.Keys.Port(port)})
		t.Then = append(t.Then, Change{Key: s.Keys.Port(port), Value: []byte(v.Network + "/" + v.Name)})
	}
	t.Then = append(t.Then, put(s.Keys.Service(v.Network, v.Name), v), Change{Key: s.Keys.Use(v.Network), Value: []byte(s.Node)})
	if done, _, err = s.Store.Commit(ctx, t); done || err != nil {
		return v, done, err
	}
	if err := s.still(ctx); err != nil {
		return v, false, err
	}
	own, err := s.get(ctx, s.Keys.Service(v.Network, v.Name))
	if err == nil && own.Modified != 0 {
		err = &ServiceExistsError{v.Name, v.Network}
	}
	if err == nil {
		err = s.portsFree(ctx, v.Service)
	}
	if err != nil {
		return v, false, err
	}
	if err := s.learnUsed(ctx, assigned); err != nil {
		return v, false, fmt.Errorf("vip: %w", err)
	}
	return v, false, nil
}

// portsFree returns an error of code 102 where another service has one of the ports.
func (c Cluster) portsFree(ctx context.Context, v service.Service) error {
	for _, port := range v.Ports {
		e, err := c.get(ctx, c.Keys.Port(port))
		if err != nil {
			return err
		}
		if network, name, _ := strings.Cut(string(e.Value), "/"); e.Modified != 0 {
			return wire.Errorf(wire.CodePortTaken, "port %d/%s is already published by service %s of network %s", port.Published, port.Protocol, name, network)
		}
	}
	return nil
}

// RemoveService removes a service, and gives its addresses back, all at once: its names and
// rules go from clients within milliseconds of that. It is no error if there is none.
func (c Cluster) RemoveService(ctx context.Context, network, name string) error {
	return again("service "+name, func() (bool, error) {
		e, err := c.get(ctx, c.Keys.Service(network, name))
		if err != nil || e.Modified == 0 {
			return err == nil, err
		}
		t := Txn{If: []Condition{unchanged(e)}, Then: []Change{remove(e.Key)}}
		addrs, err := c.addressesOf(ctx, network, e)
		if err != nil {
			return false, err
		}
		ports, err := c.portsOf(ctx, network, name)
		if err != nil {
			return false, err
		}
		for _, port := range ports {
			t.If, t.Then = append(t.If, unchanged(port)), append(t.Then, remove(port.Key))
		}
		for _, a := range addrs {
			if ParseOwner(a.Value) == ServiceOwner(name) {
				t.If, t.Then = append(t.If, unchanged(a)), append(t.Then, remove(a.Key))
			}
		}
		done, _, err := c.Store.Commit(ctx, t)
		return done, err
	})
}

// portsOf returns the entries of a service's ports.
func (c Cluster) portsOf(ctx context.Context, network, name string) (list []Entry, err error) {
	all, err := c.list(ctx, c.Keys.Prefix+"port/")
	for _, e := range all {
		if string(e.Value) == network+"/"+name {
			list = append(list, e)
		}
	}
	return list, err
}

// addressesOf returns the entries of a service's addresses, or where its value can't be read
// of all addresses of the network.
func (c Cluster) addressesOf(ctx context.Context, network string, e Entry) (list []Entry, err error) {
	v, err := c.Keys.service(network, e)
	if err != nil {
		return c.list(ctx, c.Keys.Addr(network, netip.Addr{}))
	}
	for _, vip := range v.VIPs {
		a, err := c.get(ctx, c.Keys.Addr(network, vip))
		if err != nil {
			return nil, err
		}
		if a.Modified != 0 {
			list = append(list, a)
		}
	}
	return list, nil
}

// RecoverService makes a service again, with the addresses that it had, in a store that has
// lost it. One that is there is left as it is.
func (c Cluster) RecoverService(ctx context.Context, v service.Service) error {
	_, err := c.CreateService(ctx, Service{Service: v})
	if _, exists := errors.AsType[*ServiceExistsError](err); exists {
		return nil
	}
	return err
}

// serviceless returns an error if a network that is to be removed has services. Docker has no
// such case: there a service keeps its network by its tasks alone.
func (c Cluster) serviceless(ctx context.Context, name string) error {
	entries, err := c.list(ctx, c.Keys.Service(name, ""))
	if err != nil || len(entries) == 0 {
		return err
	}
	list := make([]string, len(entries))
	for i, e := range entries {
		list[i] = strings.TrimPrefix(e.Key, c.Keys.Service(name, ""))
	}
	return network.Refused(network.Forbidden, fmt.Errorf("network %s has services: %s: dnet service rm comes first", name, strings.Join(list, ", ")))
}
