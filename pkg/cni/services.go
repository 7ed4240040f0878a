package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/overlay"
	"dcni/pkg/records"
	"dcni/pkg/records/leases"
	"dcni/pkg/service"
)

// This file is about services: which of them a container is a task of, and their virtual
// addresses, which are addresses of the network as those of containers are.

// services reads the services that the runtime says the container is a task of.
func (r *Request) services() error {
	r.Services = splitList(r.Args[service.ArgService])
	for _, name := range r.Services {
		if err := names.Check("CNI_ARGS "+service.ArgService, name); err != nil {
			return err
		}
	}
	return nil
}

// ready reports whether a container is ready for connections with its claim. A task of a service
// is when its ADD has ended: dnetd says so then to other nodes. Which services there are is known
// to dnetd, but before it has seen the cluster's store for the node's first container on the
// network. Those that the runtime names are looked up in the store.
func (c clusterSource) ready(ctx context.Context, n *ClusterNode, r *Request) (bool, error) {
	p, err := c.store.ServedAlone(r.Network)
	if err != nil || len(r.Services) > 0 {
		list, err := n.Services(ctx, r.Network)
		if _, unread := errors.AsType[*overlay.UnreadableError](err); err != nil && !unread {
			return false, err
		}
		p.Services = nil
		for _, v := range list {
			p.Services = append(p.Services, v.Service)
		}
	}
	task := service.Endpoint{Owner: r.Attachment, Name: r.Name, Names: r.claimed}
	if err := (&service.Client{Wanted: r.Services, Endpoint: task}).Lacking(p.Network); err != nil {
		return false, err
	}
	return !slices.ContainsFunc(p.Services, func(s service.Service) bool { return task.Bears(s.Name) }), nil
}

// ClaimVIPs leases a service's virtual addresses, one of each family of its network: those
// that are asked for, or free ones. What the service had before is given back.
func ClaimVIPs(store records.Store, f Facts, d network.Description, s service.Service) ([]netip.Addr, error) {
	if t := d.IPAM.Type; t != "dipam" && t != "" {
		return nil, fmt.Errorf("network %s has its addresses of the IPAM plugin %s, of which no service can have one: use mode %s, or a network with dipam",
			d.Name, t, service.DNSRR)
	}
	owner := records.Service{Service: s}
	source := dipamSource{store: store, facts: f, network: d}
	l, err := source.Claim(&Request{Attachment: owner.Owner(), Static: s.VIPs})
	if err != nil {
		return nil, fmt.Errorf("vip: %w", err)
	}
	return network.Endpoint{Addresses: l.Addresses}.IPs(), nil
}

// ReleaseVIPs gives them back.
func ReleaseVIPs(store records.Store, i network.IPAM, s service.Service) error {
	owner := records.Service{Service: s}
	return leases.Of(store, i.Own.DataDir, s.Network).Release(owner.Owner())
}
