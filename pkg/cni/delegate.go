package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"dcni/pkg/host"
	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// delegate is an IPAM plugin of another suite, executed as the specification
// says ("Delegated plugin execution"): same environment, same configuration.
//
// The library's own helper for this (pkg/invoke) pulls in OpenTelemetry, whose
// start-up every ADD would pay for; the whole of it is these few lines.
type delegate struct {
	plugin string
	dns    *network.DNS // the network's own, before the plugin's
	// gateways says that a subnet without one has its first address as gateway, as with
	// the reference bridge plugin.
	gateways bool
}

// delegated is an address source that is executed. It may be missing for a while, or
// fail: until it has released the addresses, the attachment's record stays, by which
// DEL and GC try again.
type delegated interface {
	Addresses
	// trusted returns an error unless the program may be executed for what a record says.
	trusted(path string) error
}

func (d delegate) Claim(r *Request) (*Lease, error) {
	out, err := d.exec("ADD", r)
	if err != nil {
		return nil, err
	}
	l, err := d.lease(out, r.Version)
	if err != nil {
		return nil, errors.Join(err, d.Release(r))
	}
	return l, nil
}

// lease reads the delegate's result.
func (d delegate) lease(out []byte, version string) (*Lease, error) {
	result, err := readResult(out, version)
	if err != nil {
		return nil, fmt.Errorf("result of %s: %w", d.plugin, err)
	}
	l := &Lease{From: records.IPAM{Type: d.plugin}, Reused: true}
	for _, ip := range result.IPs {
		a, ok := netip.AddrFromSlice(ip.Address.IP)
		ones, _ := ip.Address.Mask.Size()
		if !ok {
			return nil, fmt.Errorf("result of %s: address %v is none", d.plugin, ip.Address)
		}
		assigned := ipam.Assigned{Address: netip.PrefixFrom(a.Unmap(), ones)}
		subnet := ipam.Subnet{Prefix: assigned.Address.Masked()}
		gw, ok := netip.AddrFromSlice(ip.Gateway)
		if gw = gw.Unmap(); ok && !gw.IsUnspecified() {
			subnet.Gateway = gw
		} else if d.gateways {
			subnet.Gateway = subnet.Prefix.Addr().Next()
		}
		assigned.Gateway = subnet.Gateway
		l.Addresses, l.Subnets = append(l.Addresses, assigned), append(l.Subnets, subnet)
	}
	if len(l.Addresses) == 0 {
		return nil, wire.Errorf(wire.CodeConfig, "ipam.type %q: gave no address", d.plugin)
	}
	for _, rt := range result.Routes {
		if route, ok := routeOf(rt); ok {
			l.Routes = append(l.Routes, route)
		}
	}
	if l.DNS = d.dns; !l.DNS.Given() {
		l.DNS = &network.DNS{
			Nameservers: result.DNS.Nameservers, Domain: result.DNS.Domain,
			Search: result.DNS.Search, Options: result.DNS.Options,
		}
	}
	return l, nil
}

// throughLink is a delegate that asks for addresses through the attachment's interface,
// as the reference plugin dhcp does: it is executed once that is there.
type throughLink struct{ delegate }

// Claim gets nothing yet.
func (t throughLink) Claim(*Request) (*Lease, error) {
	return &Lease{From: records.IPAM{Type: t.plugin}, Reused: true}, nil
}

// Confirm gets the addresses. Where that fails, the plugin is told that there is no
// interface to ask through any more; it need not answer.
func (t throughLink) Confirm(r *Request, l *Lease) error {
	got, err := t.delegate.Claim(r)
	if err != nil {
		_ = t.Release(r)
		return err
	}
	*l = *got
	return nil
}

// Abandon has nothing to give back where there was nothing.
func (t throughLink) Abandon(r *Request, l *Lease) error {
	if len(l.Addresses) == 0 {
		return nil
	}
	return t.delegate.Abandon(r, l)
}

func routeOf(rt *types.Route) (ipam.Route, bool) {
	ip, ok := netip.AddrFromSlice(rt.Dst.IP)
	ones, bits := rt.Dst.Mask.Size()
	if !ok || bits == 0 {
		return ipam.Route{}, false
	}
	gw, _ := netip.AddrFromSlice(rt.GW)
	return ipam.Route{
		Dst: netip.PrefixFrom(ip.Unmap(), ones), GW: gw.Unmap(),
		MTU: rt.MTU, AdvMSS: rt.AdvMSS, Priority: rt.Priority, Table: rt.Table, Scope: rt.Scope,
	}, true
}

func (d delegate) Release(r *Request) error {
	_, err := d.exec("DEL", r)
	return err
}

func (d delegate) Abandon(r *Request, _ *Lease) error { return d.Release(r) }

func (d delegate) Check(r *Request, _ []ipam.Assigned) error {
	_, err := d.exec("CHECK", r)
	return err
}

func (d delegate) Collect(r *Request, _ func(wire.Attachment) bool) error {
	_, err := d.exec("GC", r)
	return err
}

func (d delegate) Status(r *Request) error {
	_, err := d.exec("STATUS", r)
	return err
}

// exec runs the plugin for a verb and returns its standard output. An error is
// the plugin's own, code included.
func (d delegate) exec(verb string, r *Request) ([]byte, error) {
	path, err := d.find(r.Path)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(context.Background(), path)
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+verb,
		"CNI_CONTAINERID="+r.Container, "CNI_NETNS="+r.NetNS, "CNI_IFNAME="+r.IfName, "CNI_PATH="+r.Path)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(r.Conf), &stderr
	out, err := cmd.Output()
	if err == nil {
		return out, nil
	}
	failed := &types.Error{}
	if json.Unmarshal(out, failed) == nil && failed.Msg != "" {
		return nil, &wire.Error{Code: wire.Code(failed.Code), Msg: fmt.Sprintf("ipam %s", d.plugin), Err: failed}
	}
	return nil, fmt.Errorf("ipam %s: %w: %s", d.plugin, err, strings.TrimSpace(stderr.String()))
}

// trusted returns an error unless only root, or the owner of this program, can have
// put the plugin there. The runtime chose the directory at ADD. Another file may have
// come there since.
func (d delegate) trusted(path string) error {
	file, err := d.find(path)
	if err != nil {
		return err
	}
	return host.Trusted(file)
}

// errNoPlugin is the error for a delegate that is not installed.
type errNoPlugin struct{ error }

func (e errNoPlugin) Unwrap() error { return e.error }

// find looks for the plugin in CNI_PATH. A path is no plugin's name: only ADD
// reads the configuration strictly, and DEL must not run what it refused.
func (d delegate) find(path string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		if filepath.Base(d.plugin) != d.plugin {
			break
		}
		file := filepath.Join(dir, d.plugin)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			return file, nil
		}
	}
	return "", errNoPlugin{wire.Invalid("ipam.type", d.plugin, "no such plugin in CNI_PATH "+path)}
}
