package cni

import (
	"fmt"
	"net/netip"
	"slices"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"dcni/pkg/firewall"
	"dcni/pkg/ipam"
	"dcni/pkg/mode/names"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// A kind is what differs between plugins by what they do with a sandbox: see
// [network.Kind]. Everything else is the engine's, and the same for all.
type kind interface {
	// readRuntime reads what the runtime asks for besides the configuration.
	readRuntime(r *Request, d network.Description) error
	// validate tells why ADD must not go on, or nil. It fills in what the record
	// must have before anything happens.
	validate(e *Engine, r *Request, d network.Description, rec *records.Record) error
	// attached reports whether the sandbox has what ADD would make. The record is
	// nil where there is none.
	attached(e *Engine, r *Request, found wire.Sandbox, rec *records.Record) (bool, error)
	// source returns where a network's addresses come from.
	source(e *Engine, d network.Description) Addresses
	// results returns what ADD prints, and what of it is recorded.
	results(r *Request, own *types100.Result) (whole, recorded *types100.Result)
	// example returns an endpoint for a plan that is shown and for STATUS.
	example(r *Request, d network.Description) network.Endpoint
}

func kindOf(p *network.Plugin) kind {
	switch p.Kind {
	case network.NoInterface:
		return noInterface{p}
	case network.Meta:
		return meta{p}
	}
	return makesInterface{}
}

// parse reads a configuration. A plugin that makes an interface sees to names as
// well, where its network has them, and on a bridge to services.
func parse(p *network.Plugin, conf network.Conf) (network.Mode, error) {
	mode, err := p.Parse(conf)
	if err != nil || p.Kind != network.MakesInterface {
		return mode, err
	}
	d := mode.Describe()
	if d.Names != nil {
		mode = named{mode, d.Names}
	}
	if d.Bridge != nil {
		mode = served{mode}
	}
	return mode, nil
}

// named is a mode whose containers find names.
type named struct {
	network.Mode
	names *network.Names
}

// Describe says that names are seen to, and what resolv.conf is to say of it.
func (n named) Describe() network.Description {
	d := n.Mode.Describe()
	d.DNS, d.Info.Names = n.names.DNS, true
	return d
}

// Plan adds the resolver to what is the attachment's own.
func (n named) Plan(e network.Endpoint) (wire.Plan, error) {
	plan, err := n.Mode.Plan(e)
	if err != nil {
		return plan, err
	}
	objects, err := names.Objects(n.names, e)
	if bridge := n.Mode.Describe().Bridge; n.names.Gateway && bridge != nil {
		names.Listen(objects, bridge.Name, plan)
	}
	plan.Own = slices.Concat(plan.Own, objects)
	return plan, err
}

// served is a mode whose containers find services at their virtual addresses.
type served struct{ network.Mode }

// Plan adds the services to what is the attachment's own.
func (s served) Plan(e network.Endpoint) (wire.Plan, error) {
	plan, err := s.Mode.Plan(e)
	if err != nil {
		return plan, err
	}
	plan.Own = append(slices.Clip(plan.Own), clientOf(e))
	return plan, nil
}

// clientOf returns an attachment as a client of services.
func clientOf(e network.Endpoint) *service.Client {
	return &service.Client{NetNS: e.NetNS, Cookie: e.Cookie, Wanted: e.Services, OfCluster: e.Overlay != nil, Endpoint: service.Endpoint{
		Owner: e.Attachment, Name: e.Name, Names: e.Names, Addresses: e.IPs(),
	}}
}

// makesInterface is a plugin that makes an interface, with addresses of an IPAM
// plugin.
type makesInterface struct{}

func (makesInterface) readRuntime(r *Request, d network.Description) error {
	if err := r.readRuntime(); err != nil {
		return err
	}
	if why := d.Ports.Refuse; why != "" && len(r.Ports) > 0 && !d.Ports.Ignore {
		return wire.Errorf(wire.CodeUnsupported, "runtimeConfig.portMappings %s: can't be published: %s", r.Ports[0], why)
	}
	if d.NoMAC != "" && r.MAC != "" {
		return wire.Errorf(wire.CodeUnsupported, "mac %s: %s", r.MAC, d.NoMAC)
	}
	if err := r.Bandwidth.Validate(d.MTU); err != nil {
		return err
	}
	if r.Bandwidth != nil && r.Bandwidth.IngressRate != 0 && d.Parent != nil {
		return wire.Errorf(wire.CodeUnsupported, "runtimeConfig.bandwidth.ingressRate %d: what a container receives can't be held to a rate on a network without a bridge; egressRate can", r.Bandwidth.IngressRate)
	}
	if d.Names == nil {
		return nil
	}
	return r.readAnnotations()
}

// validate looks at the link of the host that the interface is to be made on.
// validate asks whether the kernel can encrypt, where it is to, before the cluster gives the
// node an address of its own: a node keeps that.
func (makesInterface) validate(e *Engine, r *Request, d network.Description, rec *records.Record) error {
	if o := d.Overlay; o != nil && o.Encrypted && len(o.NodeAddresses) > 0 {
		closed := &firewall.Encrypted{Port: uint16(o.Port), IPv6: o.Local.Is6()}
		if e.Host.Check(closed) != nil {
			if err := e.Host.Probe(closed); err != nil {
				return err
			}
		}
	}
	if d.Parent == nil {
		return nil
	}
	rec.Parent = d.Parent
	return e.validateParent(r, d)
}

func (makesInterface) attached(e *Engine, r *Request, _ wire.Sandbox, _ *records.Record) (bool, error) {
	return e.Sandboxes.HasLink(r.NetNS, r.IfName)
}

func (makesInterface) source(e *Engine, d network.Description) Addresses { return e.Source(d) }

func (makesInterface) results(r *Request, own *types100.Result) (whole, recorded *types100.Result) {
	return merge(r.Prev, own), own
}

// example is where a container would be that gets the first address of each
// subnet.
func (makesInterface) example(r *Request, d network.Description) network.Endpoint {
	d = d.Overlay.Settle(d)
	e := exampleOf(d)
	e.Overlay = d.Overlay
	cfg := d.IPAM.Own
	if len(cfg.Subnets) == 0 && (d.IPAM.Type == "dipam" || d.IPAM.Type == network.IPAMCluster) {
		cfg = cfg.With(exampleAddress.Masked())
	}
	if d.Families.ULA {
		cfg = cfg.With(netip.MustParsePrefix("fd00:dc41:dc41::/64"))
	}
	e.Subnets, e.Routes = cfg.Subnets, d.RoutesOf(cfg.Routes)
	for _, subnet := range cfg.Subnets {
		first := subnet.Gateway.Next()
		switch {
		case !subnet.Gateway.IsValid():
			first = subnet.Range.Addr().Next()
		case !subnet.Prefix.Contains(first):
			first = subnet.Prefix.Addr()
		}
		e.Addresses = append(e.Addresses, ipam.Assigned{
			Address: netip.PrefixFrom(first, subnet.Prefix.Bits()), Gateway: subnet.Gateway,
		})
	}
	e.Bandwidth = r.Bandwidth
	e.MAC, e.MTU, e.OnLAN, e.UpFirst, e.Routed = r.MAC, d.MTU, d.OnLAN(), d.ConflictDetection, d.Routed
	if e.MTU == 0 {
		const ethernet = 1500 // bytes, where nothing else is known
		e.MTU = ethernet
	}
	if d.OnLAN() && d.NoMAC == "" {
		e.ParentMAC = exampleMAC
	}
	e.Ports, e.NotGateway = publish(d.Ports, r.Ports), r.NotGateway
	if d.Names != nil {
		e.Names = exampleNames(r, e)
	}
	return e
}

// noInterface is a plugin whose sandboxes use interfaces that are there already.
type noInterface struct{ *network.Plugin }

func (noInterface) readRuntime(r *Request, _ network.Description) error {
	if err := r.readRuntime(); err != nil || r.Bandwidth == nil {
		return err
	}
	return wire.Errorf(wire.CodeUnsupported, "runtimeConfig.bandwidth: network %s makes no interface whose rate can be limited", r.Network)
}

// validate looks at the sandbox, and at the namespace that it is to share.
func (n noInterface) validate(e *Engine, r *Request, d network.Description, rec *records.Record) error {
	if d.Joins == "" {
		if err := r.refuseOwnInterface(); err != nil {
			return err
		}
	}
	target, err := e.target(r, d, rec)
	if err != nil {
		return err
	}
	found, err := e.Sandboxes.NetNSInfo(r.NetNS)
	there := d.Shared() && found.Cookie == target.Cookie
	if err == nil && d.Shared() && !there {
		found.Processes, err = e.Sandboxes.ProcessesIn(r.NetNS)
	}
	if err != nil {
		return err
	}
	join := network.Join{
		Attachment: r.Attachment, NetNS: r.NetNS, Args: r.Args, Chained: r.Prev != nil, Found: found, There: there, Host: target.Own,
		Asked: network.Asked{IPs: r.Static, MAC: r.MAC, Ranges: len(r.Ranges) > 0, Ports: len(r.Ports) > 0, Aliases: r.Aliases},
	}
	if err := n.Validate(join); err != nil {
		return err
	}
	rec.Cookie = found.Cookie
	if len(r.Ports) > 0 {
		fmt.Fprintf(e.Log, "%s: published ports are discarded: network %s has none\n", n.Type, r.Network)
	}
	return nil
}

// target returns the namespace that the sandbox is to share, if any, and fills in the
// record where that is.
func (e *Engine) target(r *Request, d network.Description, rec *records.Record) (target wire.Sandbox, err error) {
	switch {
	case d.Joins != "":
		if r.donor, r.source, target, err = e.donor(r, d.Joins); err != nil {
			return target, err
		}
		rec.Donor, rec.Source = r.donor.Container, r.source
	case d.Shares != "":
		if target, err = e.Namespaces.OpenNetNS(d.Shares); err != nil {
			return target, err
		}
		rec.Source = d.Shares
	}
	rec.Target = target.Cookie
	return target, nil
}

// refuseOwnInterface refuses what only an interface of the sandbox's own could
// have: to leave it out would break a promise.
func (r *Request) refuseOwnInterface() error {
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

// attached is what is on record: nothing in the sandbox could tell.
func (noInterface) attached(_ *Engine, _ *Request, found wire.Sandbox, rec *records.Record) (bool, error) {
	return rec != nil && at(rec, found), nil
}

func (noInterface) source(e *Engine, d network.Description) Addresses {
	present := presentAddresses{addresses: e.NetNSAddresses, network: d}
	if d.Joins != "" {
		return donorAddresses{present}
	}
	return present
}

// results adds the routes of the container whose network it is.
func (noInterface) results(r *Request, own *types100.Result) (whole, recorded *types100.Result) {
	own.Routes = append(own.Routes, r.donated...)
	return merge(r.Prev, own), own
}

func (noInterface) example(_ *Request, d network.Description) network.Endpoint {
	e := exampleOf(d)
	e.Addresses, e.Source = assigned(loopback), d.Shares
	if d.Joins != "" {
		e.Source = "/run/netns/" + d.Joins
	}
	return e
}

// meta is a plugin that adds to the interface that another one made, and passes
// that one's result on, with the dns part of its own.
type meta struct{ *network.Plugin }

func (meta) readRuntime(r *Request, _ network.Description) error { return r.readNames() }

// validate wants a plugin before, and takes over what that one says of the
// network.
func (m meta) validate(e *Engine, r *Request, _ network.Description, rec *records.Record) (err error) {
	if r.Prev == nil {
		return errNoPrev(m.Type + " comes behind a plugin that makes the interface")
	}
	rec.Info, err = e.Chains.InfoFromChain(r.Attachment, m.Type)
	if err == nil && rec.Info.Names {
		err = wire.Errorf(wire.CodeConfig, `names: a plugin before %s in network %s has the key "names" and sees to names already; give one of them`,
			m.Type, r.Network)
	}
	return err
}

func (meta) attached(_ *Engine, _ *Request, found wire.Sandbox, rec *records.Record) (bool, error) {
	return rec != nil && at(rec, found), nil
}

func (meta) source(_ *Engine, d network.Description) Addresses {
	return prevResultAddresses{network: d}
}

// results leaves the addresses as the result before has them.
func (meta) results(r *Request, own *types100.Result) (whole, recorded *types100.Result) {
	own.IPs = nil
	whole = merge(r.Prev, own)
	return whole, whole
}

func (meta) example(r *Request, d network.Description) network.Endpoint {
	e := exampleOf(d)
	e.Names = exampleNames(r, e)
	e.Addresses = []ipam.Assigned{{Address: exampleAddress, Gateway: exampleAddress.Addr().Prev()}}
	return e
}

// errNoPrev is the error for a verb without the result that it works on.
func errNoPrev(needs string) error {
	return wire.Errorf(wire.CodeConfig, "prevResult: missing; %s", needs)
}

// exampleAddress is a container's for example, on a network whose gateway is the
// first address.
var exampleAddress = netip.MustParsePrefix("172.17.0.2/16")

// exampleMAC is a parent's for example, of which MACs on a LAN are made.
const exampleMAC = "02:00:00:00:00:01"

// exampleOf returns an endpoint for example, without addresses.
func exampleOf(d network.Description) network.Endpoint {
	return network.Endpoint{
		Attachment: wire.Attachment{Network: d.Name, Container: "example", IfName: "eth0"},
		NetNS:      "/run/netns/example", Info: d.Info,
	}
}
