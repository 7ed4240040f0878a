package cni

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"dcni/pkg/firewall"
	"dcni/pkg/ipam"
	"dcni/pkg/jsonenc"
	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// resultOf reads a result off a plan: the bridge, the host's end and the
// sandbox's end, in the order that chained plugins know from the reference
// bridge plugin, then the sandbox's addresses and routes.
func resultOf(plan wire.Plan, e network.Endpoint, dns *network.DNS) *types100.Result {
	r := &types100.Result{CNIVersion: types100.ImplementedSpecVersion}
	if dns != nil {
		r.DNS = types.DNS{Nameservers: dns.Nameservers, Domain: dns.Domain, Search: dns.Search, Options: dns.Options}
	}
	for _, o := range slices.Concat(plan.Network, plan.Own) {
		switch o := o.(type) {
		case *wire.Bridge:
			mac := o.MAC
			if o.Adopted { // it has its owner's
				mac = ""
			}
			r.Interfaces = append(r.Interfaces, &types100.Interface{Name: o.Name, Mac: mac})
		case *wire.Veth:
			r.Interfaces = append(r.Interfaces,
				&types100.Interface{Name: o.Name, Mtu: o.MTU},
				&types100.Interface{Name: o.Peer, Mac: o.MAC, Mtu: o.MTU, Sandbox: o.NetNS})
		case *wire.Child: // not its parent: runtimes take every interface of the host for one of the container's
			r.Interfaces = append(r.Interfaces, &types100.Interface{
				Name: o.Name, Mac: cmp.Or(o.MAC, e.ParentMAC), Mtu: cmp.Or(o.MTU, e.MTU), Sandbox: o.NetNS,
			})
		case *wire.Route:
			if o.NetNS != "" {
				r.Routes = append(r.Routes, resultRoute(o))
			}
		case *names.Resolver:
			for i, a := range o.Listen { // in place of the sandbox's own
				r.DNS.Nameservers = append(r.DNS.Nameservers[:i:i], a.String())
			}
		}
	}
	inside := slices.IndexFunc(r.Interfaces, func(i *types100.Interface) bool { return i.Sandbox != "" })
	for _, a := range e.Addresses {
		ip := &types100.IPConfig{Address: ipNet(a.Address), Gateway: a.Gateway.AsSlice()}
		if e.Routed {
			ip.Gateway = nil
		}
		if inside >= 0 {
			ip.Interface = types100.Int(inside)
		}
		r.IPs = append(r.IPs, ip)
	}
	return r
}

func resultRoute(o *wire.Route) *types.Route {
	r := &types.Route{Dst: ipNet(o.Dst), GW: o.Via.AsSlice(), MTU: o.MTU, AdvMSS: o.AdvMSS, Priority: o.Metric}
	if o.Table != 0 {
		r.Table = types100.Int(o.Table)
	}
	if o.HasScope {
		r.Scope = types100.Int(o.Scope)
	}
	return r
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// merge appends a result to the one of the plugin before in the chain.
func merge(prev, own *types100.Result) *types100.Result {
	if prev == nil {
		return own
	}
	out := *prev
	out.CNIVersion = own.CNIVersion
	for _, ip := range own.IPs {
		ip = ip.Copy()
		if ip.Interface != nil {
			ip.Interface = types100.Int(*ip.Interface + len(prev.Interfaces))
		}
		out.IPs = append(out.IPs, ip)
	}
	out.Interfaces = append(out.Interfaces, own.Interfaces...)
	out.Routes = append(out.Routes, own.Routes...)
	if len(own.DNS.Nameservers)+len(own.DNS.Search)+len(own.DNS.Options) > 0 || own.DNS.Domain != "" {
		out.DNS = own.DNS
	}
	return &out
}

// sameResult compares the addresses of prevResult with those on record, but for what
// ADD left out as IPv6 was switched off. MACs and routes are left out: chained plugins
// change them.
func sameResult(r *Request, rec *records.Record) error {
	var inside []netip.Addr
	for _, ip := range r.Prev.IPs {
		i := ip.Interface
		if i != nil && *i >= 0 && *i < len(r.Prev.Interfaces) && r.Prev.Interfaces[*i].Name != r.IfName {
			continue
		}
		if a, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			inside = append(inside, a.Unmap())
		}
	}
	var errs []error
	for _, a := range rec.Addresses {
		if !slices.Contains(inside, a.Address.Addr()) && strings.Contains(string(rec.Result), `"`+a.Address.String()+`"`) {
			errs = append(errs, fmt.Errorf("prevResult: address %s of %s is missing", a.Address.Addr(), r.IfName))
		}
	}
	return errors.Join(errs...)
}

// fillRecord fills a record with what was made.
func fillRecord(rec *records.Record, plan wire.Plan, e network.Endpoint, result *types100.Result) error {
	raw, err := encodeResult(result, "")
	if err != nil {
		return err
	}
	rec.State, rec.Result = records.Up, raw
	rec.MTU, rec.Addresses, rec.Subnets, rec.Routes, rec.Adopted = e.MTU, e.Addresses, e.Subnets, e.Routes, e.Adopted
	rec.Info, rec.Overlay = e.Info, e.Overlay
	for _, o := range slices.Concat(plan.Network, plan.Own) {
		switch o := o.(type) {
		case *wire.Veth:
			rec.MAC = o.MAC
		case *wire.Child:
			rec.MAC = o.MAC
		case *firewall.Network:
			rec.Firewall, rec.Backend = o, cmp.Or(o.Backend, firewall.NFTables)
		case *firewall.Endpoint:
			rec.Endpoint = o
		case *firewall.Member:
			rec.Member = o
		case *firewall.BridgePort:
			if o.Owner == rec.Attachment { // not the network's tunnel
				rec.BridgePort = o
			}
		case *wire.SourceRoutes:
			rec.Foreign = o.Foreign
		case *names.Resolver:
			rec.Resolver = o
		}
	}
	return nil
}

// printed is a result of CNI 1.x as it is written, in the key order of the
// library's own (which marshals it, reads that into a map and marshals the map).
type printed struct {
	CNIVersion string                `json:"cniVersion,omitempty"`
	DNS        *types.DNS            `json:"dns,omitempty"`
	Interfaces []*types100.Interface `json:"interfaces,omitempty"`
	IPs        []printedIP           `json:"ips,omitempty"`
	Routes     []printedRoute        `json:"routes,omitempty"`
}

type printedIP struct {
	Interface *int   `json:"interface,omitempty"`
	Address   string `json:"address"`
	Gateway   net.IP `json:"gateway,omitempty"`
}

type printedRoute struct {
	Dst      string `json:"dst"`
	GW       net.IP `json:"gw,omitempty"`
	MTU      int    `json:"mtu,omitempty"`
	AdvMSS   int    `json:"advmss,omitempty"`
	Priority int    `json:"priority,omitempty"`
	Table    *int   `json:"table,omitempty"`
	Scope    *int   `json:"scope,omitempty"`
}

// encodeResult returns a result as JSON of CNI 1.x.
func encodeResult(r *types100.Result, indent string) ([]byte, error) {
	p := printed{CNIVersion: r.CNIVersion, Interfaces: r.Interfaces}
	if !r.DNS.IsEmpty() {
		p.DNS = &r.DNS
	}
	for _, ip := range r.IPs {
		p.IPs = append(p.IPs, printedIP{ip.Interface, ip.Address.String(), ip.Gateway})
	}
	for _, t := range r.Routes {
		p.Routes = append(p.Routes, printedRoute{t.Dst.String(), t.GW, t.MTU, t.AdvMSS, t.Priority, t.Table, t.Scope})
	}
	b, err := jsonenc.Marshal(p, indent)
	if err != nil {
		return nil, fmt.Errorf("result: %w", err)
	}
	return b, nil
}

// printResult prints a result in the version of the configuration. Results of
// CNI 0.x are other types, which the library has.
func printResult(w io.Writer, r *types100.Result, version string) error {
	if !strings.HasPrefix(version, "1.") {
		old, err := r.GetAsVersion(version)
		if err != nil {
			return err
		}
		return old.PrintTo(w)
	}
	out := *r
	out.CNIVersion = version
	b, err := encodeResult(&out, "    ")
	if err == nil {
		_, err = w.Write(b)
	}
	return err
}

// endpointOf returns the endpoint of a recorded attachment.
func endpointOf(rec *records.Record) network.Endpoint {
	e := network.Endpoint{
		Attachment: rec.Attachment, NetNS: rec.NetNS, Cookie: rec.Cookie, Target: rec.Target, Source: rec.Source,
		MAC: rec.MAC, MTU: rec.MTU, Adopted: rec.Adopted, Foreign: rec.Foreign,
		Addresses: rec.Addresses, Subnets: rec.Subnets, Routes: rec.Routes,
		Name: rec.Name, Names: rec.Names, Links: rec.Links, Exposed: rec.Exposed, Sysctls: rec.Sysctls, Bandwidth: rec.Bandwidth, Info: rec.Info, Resolver: rec.Resolver, Overlay: rec.Overlay,
	}
	if rec.Endpoint != nil {
		e.Ports, e.NotGateway = rec.Endpoint.Ports, rec.Endpoint.NotGateway
	}
	if rec.IPv6Off {
		return e.WithoutIPv6()
	}
	return e
}

// fit checks addresses against what a network says of the families.
func fit(f network.Families, list []ipam.Assigned) error {
	has6 := slices.ContainsFunc(list, func(a ipam.Assigned) bool { return a.Address.Addr().Is6() })
	has4 := slices.ContainsFunc(list, func(a ipam.Assigned) bool { return a.Address.Addr().Is4() })
	switch {
	case has4 && f.Refuse4:
		return wire.Errorf(wire.CodeConfig, "ipv4 false: must not be false where ipam gives an IPv4 address")
	case has6 && f.Refuse6:
		return wire.Errorf(wire.CodeConfig, "ipv6 false: must not be false where ipam gives an IPv6 address")
	case !has6 && f.Need6:
		return wire.Errorf(wire.CodeConfig, "ipv6 true: needs an ipam that gives an IPv6 address")
	}
	return nil
}

// publish returns the ports that a network publishes: mappings without a host
// address have the network's own.
func publish(p network.Ports, list []firewall.Port) []firewall.Port {
	if p.Ignore {
		return nil
	}
	out := slices.Clone(list)
	for i := range out {
		if !out[i].HostIP.IsValid() {
			out[i].HostIP = p.Default
		}
	}
	return out
}

// creator says who made the call.
func (r *Request) creator() records.Creator {
	switch by := records.Creator(r.Args["DNET_CREATOR"]); by {
	case records.ByDnet, records.ByConnect, records.ByIngress:
		return by
	}
	return records.ByCNI
}
