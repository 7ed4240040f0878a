package cni

import (
	"encoding/json"
	"net/netip"
	"slices"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// This file is about a sandbox that is to be in the network namespace of another
// container, the donor.

// Donors are the containers whose network namespace another container may join.
type Donors interface {
	Donors() ([]network.Donor, error)
	// NetNSOf returns a path that leads to the namespace of a donor now, and that
	// namespace; "" if the donor does not run.
	NetNSOf(d *network.Donor) (path string, found wire.Sandbox)
}

// donor finds the container that a word means, for the request's container to join.
func (e *Engine) donor(r *Request, word string) (d *network.Donor, path string, found wire.Sandbox, err error) {
	list, err := e.Donors.Donors()
	if err != nil {
		return nil, "", found, err
	}
	list = append(list, network.Donor{Container: r.Container, Names: namesOf(r.Name)})
	d, err = network.FindDonor(list, word, r.Container, func(d *network.Donor) bool {
		where, what := e.Donors.NetNSOf(d)
		if where != "" {
			path, found = where, what
		}
		return where != ""
	})
	if err != nil {
		return nil, "", found, wire.Errorf(wire.CodeSandbox, "container %q: %v", word, err)
	}
	return d, path, found, nil
}

func namesOf(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}

// checkDonor tells whether the donor of an attachment is gone, or its network was. The
// sandbox keeps the namespace, in which only lo is left.
func (e *Engine) checkDonor(rec *records.Record) error {
	if rec.Donor == "" {
		return nil
	}
	d := network.Donor{Container: rec.Donor, Namespaces: []network.Namespace{{Path: rec.Source, Cookie: rec.Target}}}
	if path, _ := e.Donors.NetNSOf(&d); path != "" {
		return e.checkDonated(rec, path)
	}
	return wire.Errorf(wire.CodeSandbox, "container %s, whose network this is, has ended or was started again: only lo is left here; start %s again to join it",
		rec.Donor, rec.Container)
}

// checkDonated tells of a donor that runs, and was detached since: what it gave is no more.
func (e *Engine) checkDonated(rec *records.Record, path string) error {
	isLo := func(p netip.Prefix) bool { return p.Addr().IsLoopback() }
	given := slices.DeleteFunc(prefixesOf(rec.Addresses), isLo)
	have, err := e.NetNSAddresses.Addresses(path)
	if err != nil || len(given) == 0 || len(slices.DeleteFunc(have, isLo)) > 0 {
		return err
	}
	return wire.Errorf(wire.CodeSandbox, "container %s, whose network this is, was detached: %s is gone, and only lo is left here; attach %s again",
		rec.Donor, given[0].Addr(), rec.Donor)
}

func prefixesOf(list []ipam.Assigned) []netip.Prefix {
	prefixes := make([]netip.Prefix, len(list))
	for i, a := range list {
		prefixes[i] = a.Address
	}
	return prefixes
}

// donorAddresses are the addresses that another container got from its networks, or that
// are in its namespace.
type donorAddresses struct {
	presentAddresses
}

// Claim returns what the donor's gateway network gave it: the network by which it reaches
// others, IPv4 first. Where no network is known to have given it these addresses, they are
// all that is known.
func (p donorAddresses) Claim(r *Request) (*Lease, error) {
	list, err := p.addresses.Addresses(r.source)
	if err != nil {
		return nil, err
	}
	l := &Lease{Addresses: assigned(list), DNS: p.network.DNS}
	result := gatewayResult(r.donor.Attachments, list)
	if result == nil {
		return l, nil
	}
	r.donated = result.Routes
	l.Addresses = assignedBy(result)
	if l.DNS == nil {
		l.DNS = &network.DNS{
			Nameservers: result.DNS.Nameservers, Domain: result.DNS.Domain, Search: result.DNS.Search, Options: result.DNS.Options,
		}
	}
	return l, nil
}

// gatewayResult returns the result of the attachment that gave one of the addresses, the
// first of them that any gave; nil where there is none.
func gatewayResult(list []network.Donation, addresses []netip.Prefix) *types100.Result {
	var results []*types100.Result
	for _, one := range list {
		if result, err := ReadDonation(one.Result); err == nil {
			results = append(results, result)
		}
	}
	for _, a := range addresses {
		for _, result := range results {
			if slices.ContainsFunc(assignedBy(result), func(has ipam.Assigned) bool { return has.Address.Addr() == a.Addr() }) {
				return result
			}
		}
	}
	return nil
}

// ReadDonation reads a result as a runtime or a record keeps it.
func ReadDonation(raw json.RawMessage) (*types100.Result, error) {
	var head struct {
		CNIVersion string `json:"cniVersion"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, err
	}
	return readResult(raw, head.CNIVersion)
}

// assignedBy returns the addresses of a result that are in the sandbox.
func assignedBy(result *types100.Result) []ipam.Assigned {
	var list []ipam.Assigned
	for _, ip := range result.IPs {
		if i := ip.Interface; i != nil && *i >= 0 && *i < len(result.Interfaces) && result.Interfaces[*i].Sandbox == "" {
			continue
		}
		if a, ok := assignedIP(ip); ok {
			list = append(list, a)
		}
	}
	return list
}
