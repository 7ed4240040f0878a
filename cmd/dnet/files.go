package main

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"dcni/pkg/container"
)

// The files that a container has to itself, where they are seen in it.
const (
	resolvConf = "/etc/resolv.conf"
	hostsFile  = "/etc/hosts"
	hostname   = "/etc/hostname"
)

// files writes the container's own files and returns where each is to be seen.
// One is shown in its own place as well: by that mount, which no host lacks the
// place for, the container's processes are known (see [sandbox.Sweep]).
func (l *life) files() (map[string]string, error) {
	hosts, err := l.hosts()
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for target, text := range map[string]string{
		resolvConf: l.resolvConf(), hostsFile: hosts, hostname: l.c.Hostname + "\n",
	} {
		name := target[strings.LastIndexByte(target, '/')+1:]
		if files[target], err = l.store.WriteContainerFile(l.c.ID, name, text); err != nil {
			return nil, err
		}
	}
	mark := files[hostname]
	files[mark] = mark
	return files, nil
}

func (l *life) resolvConf() string {
	conf := container.ResolvConf{Flags: l.spec.DNS, Shared: l.spec.HostNetwork()}
	host, _ := os.ReadFile(resolvConf) // a host without has no name server
	conf.Host = string(host)
	if !conf.Shared && container.NeedsResolved(conf.Host) {
		if behind, err := os.ReadFile(container.ResolvedConf); err == nil {
			conf.Host = string(behind)
		}
	}
	conf.IPv6 = slices.ContainsFunc(l.addresses(), netip.Addr.Is6)
	for _, r := range l.results {
		conf.Result.Servers = append(conf.Result.Servers, r.DNS.Nameservers...)
		conf.Result.Search = append(conf.Result.Search, r.DNS.Search...)
		if len(r.DNS.Search) == 0 && r.DNS.Domain != "" {
			conf.Result.Search = append(conf.Result.Search, r.DNS.Domain)
		}
		conf.Result.Options = append(conf.Result.Options, r.DNS.Options...)
	}
	return conf.Text()
}

func (l *life) hosts() (string, error) {
	file := container.HostsFile{
		Hostname: l.c.Hostname, Name: l.c.Name, Addresses: l.addresses(),
		Extra: l.spec.Hosts, Gateways: l.gateways(),
	}
	if _, err := os.Stat("/proc/net/if_inet6"); err == nil {
		file.IPv6 = true
	}
	if l.spec.HostNetwork() && len(l.spec.Hosts) == 0 {
		text, _ := os.ReadFile(hostsFile) // a host without has none to show
		return string(text), nil
	}
	if l.spec.HostNetwork() {
		file.Name, file.Addresses = "", []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 1, 1})}
	}
	return file.Text()
}

// addresses are the container's, in the order of its networks.
func (l *life) addresses() []netip.Addr {
	var list []netip.Addr
	for _, r := range l.results {
		for _, ip := range r.IPs {
			if inside(r, ip) {
				list = appendIP(list, ip.Address.IP)
			}
		}
	}
	return list
}

// inside reports whether an address of a result is the container's.
func inside(r *types100.Result, ip *types100.IPConfig) bool {
	i := ip.Interface
	return i == nil || *i < 0 || *i >= len(r.Interfaces) || r.Interfaces[*i].Sandbox != ""
}

// gateways are the host's own addresses as the container sees them, one of each
// family: those of its first bridge.
func (l *life) gateways() []netip.Addr {
	if l.spec.HostNetwork() {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	var four, six []netip.Addr
	for i, r := range l.results {
		if l.nets[i].list.Driver != "bridge" {
			continue
		}
		for _, ip := range r.IPs {
			if ip.Gateway.To4() != nil {
				four = appendIP(four, ip.Gateway)
			} else {
				six = appendIP(six, ip.Gateway)
			}
		}
	}
	return slices.Concat(four[:min(len(four), 1)], six[:min(len(six), 1)])
}

func appendIP(list []netip.Addr, ip net.IP) []netip.Addr {
	if a, ok := netip.AddrFromSlice(ip); ok {
		list = append(list, a.Unmap())
	}
	return list
}

// environment is the caller's with what was asked for, and the container's name
// of the host.
func environment(hostname string, set []string) []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "HOSTNAME=") })
	env = append(env, "HOSTNAME="+hostname)
	for _, kv := range set {
		name, _, given := strings.Cut(kv, "=")
		if !given {
			continue // the caller's, which is there already
		}
		env = slices.DeleteFunc(env, func(old string) bool { return strings.HasPrefix(old, name+"=") })
		env = append(env, kv)
	}
	return env
}
