package cni

import (
	"encoding/json"
	"errors"
	"net/netip"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"dcni/pkg/host"
	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// MainIPAM runs dipam as an IPAM plugin of its own, for anybody's main plugin,
// and does not return.
func MainIPAM(name string) {
	serve(name, func(store records.Store, machine *host.Host) verbs {
		return &ipamPlugin{store: store, facts: machine}
	})
}

// ipamPlugin carries out the verbs of dipam. All of the configuration but its
// ipam section is the main plugin's and is left alone.
type ipamPlugin struct {
	store records.Store
	facts Facts
}

// open reads the section, and what the runtime asks for.
func (p *ipamPlugin) open(r *Request) (dipamSource, error) {
	var conf struct {
		IPAM json.RawMessage `json:"ipam"`
	}
	if err := json.Unmarshal(r.Conf, &conf); err != nil {
		return dipamSource{}, wire.Errorf(wire.CodeConfig, "configuration: %v", err)
	}
	section, err := network.ParseIPAM(conf.IPAM)
	if err != nil {
		return dipamSource{}, err
	}
	if section.Type != "dipam" {
		return dipamSource{}, wire.Invalid("ipam.type", section.Type, "must be dipam")
	}
	if err := r.readRuntime(); err != nil {
		return dipamSource{}, err
	}
	return p.source(network.Description{Name: r.Network, IPAM: section}), nil
}

func (p *ipamPlugin) source(n network.Description) dipamSource {
	return dipamSource{store: p.store, facts: p.facts, network: n}
}

// Add gives the attachment its addresses. What it had is given back first.
func (p *ipamPlugin) Add(r *Request) (*types100.Result, error) {
	if err := network.CheckCacheName(r.Attachment); err != nil {
		return nil, err
	}
	o, err := p.open(r)
	if err != nil {
		return nil, err
	}
	lock, err := p.store.LockAttachment(r.Attachment)
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	l, err := o.Claim(r)
	if err != nil {
		return nil, err
	}
	result := &types100.Result{CNIVersion: types100.ImplementedSpecVersion}
	for _, a := range l.Addresses {
		result.IPs = append(result.IPs, &types100.IPConfig{Address: ipNet(a.Address), Gateway: a.Gateway.AsSlice()})
	}
	for _, route := range l.Routes {
		result.Routes = append(result.Routes, resultRoute(&wire.Route{
			Dst: route.Dst, Via: route.GW, MTU: route.MTU, AdvMSS: route.AdvMSS, Metric: route.Priority,
		}))
		last := result.Routes[len(result.Routes)-1]
		last.Table, last.Scope = route.Table, route.Scope
	}
	return result, nil
}

// Del gives the addresses back, whatever the configuration says by now. Where that names another
// plugin, dipam was started as that one, by a link for example: a main plugin of ours that starts
// it holds the attachment's lock, and waits.
func (p *ipamPlugin) Del(r *Request) error {
	var conf struct {
		IPAM struct {
			Type string `json:"type"`
		} `json:"ipam"`
	}
	if json.Unmarshal(r.Conf, &conf) != nil || conf.IPAM.Type == "" || conf.IPAM.Type == "dipam" { // an empty one is of no other
		lock, err := p.store.LockAttachment(r.Attachment)
		if err != nil {
			return err
		}
		defer lock.Unlock()
	}
	return p.source(network.Description{Name: r.Network, IPAM: looseIPAM(r.Conf)}).Release(r)
}

// Check compares the addresses of prevResult with the leases.
func (p *ipamPlugin) Check(r *Request) error {
	o, err := p.open(r)
	if err != nil {
		return err
	}
	if r.Prev == nil {
		return wire.Errorf(wire.CodeConfig, "prevResult: missing; CHECK needs the result of ADD")
	}
	have, err := o.leases().ByOwner(r.Attachment)
	if err != nil {
		return err
	}
	if len(have) == 0 {
		return wire.Errorf(wire.CodeUnknown, "%s has no addresses", r.Attachment)
	}
	list := make([]ipam.Assigned, len(have))
	for i, a := range have {
		list[i].Address = netip.PrefixFrom(a, a.BitLen())
	}
	return sameResult(r, &records.Record{Addresses: list})
}

// GC gives back the addresses of attachments that are not valid any more, but
// for those whose lock is held.
func (p *ipamPlugin) GC(r *Request) error {
	valid, ok, err := validAttachments(r)
	if err != nil || !ok {
		return err
	}
	o := p.source(network.Description{Name: r.Network, IPAM: looseIPAM(r.Conf)})
	return o.Collect(r, func(a wire.Attachment) bool {
		if valid(a) {
			return true
		}
		lock, free, err := p.store.TryLockAttachment(a)
		lock.Unlock()
		return err != nil || !free
	})
}

// Status tells whether the network can be served. That no address is free it leaves to ADD, see
// [Engine.Status].
func (p *ipamPlugin) Status(r *Request) error {
	o, err := p.open(r)
	if err != nil {
		return err
	}
	err = p.store.Probe(o.network.IPAM.Own.DataDir)
	if err == nil {
		err = o.Status(r)
	}
	if ipam.IsExhausted(err) {
		return nil
	}
	if err != nil {
		var coded *wire.Error
		if errors.As(err, &coded) {
			return err
		}
		return &wire.Error{Code: wire.CodeUnavailable, Msg: "network " + r.Network, Err: err}
	}
	return nil
}
