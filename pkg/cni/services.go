package cni

import (
	"fmt"
	"net/netip"

	"dcni/pkg/names"
	"dcni/pkg/network"
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
