package main

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"dcni/pkg/container"
	"dcni/pkg/host/sandbox"
	"dcni/pkg/records/disk"
)

// The files that a container has of its own, by their paths in the container.
const (
	resolvConf = "/etc/resolv.conf"
	hostsFile  = "/etc/hosts"
	hostname   = "/etc/hostname"
)

// files writes the container's own files and returns which one is mounted on
// which path. One file is mounted on its own path as well: [sandbox.Sweep] knows
// the container's processes by that mount, and every host has that path.
func (r *containerRun) files() (files map[string]string, err error) {
	if r.donor != nil && r.donor.own != nil {
		files, err = r.linkFiles(r.donor.own, r.c.ID)
	} else {
		files, err = r.writeFiles()
	}
	if err != nil {
		return nil, err
	}
	mark := files[hostname]
	files[mark] = mark
	return files, nil
}

// writeFiles writes the files by what the networks gave.
func (r *containerRun) writeFiles() (map[string]string, error) {
	hosts, err := r.hosts()
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for target, text := range map[string]string{
		resolvConf: r.resolvConf(), hostsFile: hosts, hostname: r.c.Hostname + "\n",
	} {
		if files[target], err = r.store.WriteContainerFile(r.c.ID, filepath.Base(target), text); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// hostFile reads a file of the host. It never waits.
func (a *app) hostFile(path string) ([]byte, error) {
	return disk.ReadRegular(filepath.Join(a.root, path))
}

// resolvConf returns the text of the container's resolv.conf.
func (r *containerRun) resolvConf() string {
	conf := container.ResolvConf{Flags: r.spec.DNS, Shared: r.spec.HostNetwork()}
	own, _ := r.hostFile(resolvConf) // a host without the file has no name server
	conf.Host = string(own)
	if !conf.Shared && container.NeedsResolved(conf.Host) {
		if resolved, err := r.hostFile(container.ResolvedConf); err == nil {
			conf.Host = string(resolved)
		}
	}
	conf.IPv6 = slices.ContainsFunc(r.addresses(), netip.Addr.Is6)
	for _, result := range r.results {
		dns := result.DNS
		conf.Result.Servers = append(conf.Result.Servers, dns.Nameservers...)
		conf.Result.Search = append(conf.Result.Search, dns.Search...)
		if len(dns.Search) == 0 && dns.Domain != "" {
			conf.Result.Search = append(conf.Result.Search, dns.Domain)
		}
		conf.Result.Options = append(conf.Result.Options, dns.Options...)
	}
	return conf.Text()
}

// hosts returns the text of the container's hosts file. On the host's network
// without --add-host it is the host's own file.
func (r *containerRun) hosts() (string, error) {
	file := container.HostsFile{
		Hostname: r.c.Hostname, Name: r.c.Name, Addresses: r.addresses(),
		Extra: r.spec.Hosts, Gateways: r.gateways(),
	}
	if _, err := os.Stat(filepath.Join(r.root, "/proc/net/if_inet6")); err == nil {
		file.IPv6 = true
	}
	if r.spec.HostNetwork() && len(r.spec.Hosts) == 0 {
		text, _ := r.hostFile(hostsFile) // a host without the file: an empty one
		return string(text), nil
	}
	if r.spec.HostNetwork() {
		file.Name, file.Addresses = "", []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 1, 1})}
	}
	text, err := file.Text()
	for _, l := range r.links {
		text = container.AddHost(text, l.HostsLines())
	}
	return text, err
}

// addresses returns the container's addresses, in the order of its networks.
func (r *containerRun) addresses() []netip.Addr {
	var list []netip.Addr
	for _, result := range r.results {
		list = append(list, resultAddresses(result)...)
	}
	return list
}

// resultAddresses returns the container's addresses in a result.
func resultAddresses(result *types100.Result) []netip.Addr {
	var list []netip.Addr
	for _, ip := range result.IPs {
		if inSandbox(result, ip) {
			list = appendIP(list, ip.Address.IP)
		}
	}
	return list
}

// inSandbox reports whether an address of a result is the container's.
func inSandbox(result *types100.Result, ip *types100.IPConfig) bool {
	i := ip.Interface
	return i == nil || *i < 0 || *i >= len(result.Interfaces) || result.Interfaces[*i].Sandbox != ""
}

// gateways returns the addresses by which the container reaches the host, one of
// each family: those of its first bridge.
func (r *containerRun) gateways() []netip.Addr {
	if r.spec.HostNetwork() {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	var four, six []netip.Addr
	for i, result := range r.results {
		if r.donor != nil || r.requests[i].list.Driver != "bridge" {
			continue
		}
		for _, ip := range result.IPs {
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

// environment returns the caller's environment with HOSTNAME, HOME of the user of -u, and the
// variables of -e set. A NAME without a value is the caller's, and is there already.
func environment(caller []string, hostname string, user *container.User, set []string) []string {
	env := setVariable(slices.Clone(caller), "HOSTNAME="+hostname)
	if user != nil && user.Home != "" {
		env = setVariable(env, "HOME="+user.Home)
	}
	for _, kv := range set {
		if strings.Contains(kv, "=") {
			env = setVariable(env, kv)
		}
	}
	return env
}

// setVariables returns an environment with variables replaced. The last one of a name counts.
func setVariables(env, list []string) []string {
	last := map[string]int{}
	for i, kv := range list {
		name, _, _ := strings.Cut(kv, "=")
		last[name] = i
	}
	var out []string
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		if _, replaced := last[name]; !replaced {
			out = append(out, kv)
		}
	}
	for i, kv := range list {
		name, _, _ := strings.Cut(kv, "=")
		if last[name] == i {
			out = append(out, kv)
		}
	}
	return out
}

// setVariable replaces a variable of an environment.
func setVariable(env []string, kv string) []string {
	name, _, _ := strings.Cut(kv, "=")
	env = slices.DeleteFunc(env, func(old string) bool { return strings.HasPrefix(old, name+"=") })
	return append(env, kv)
}

// findUser finds whom a command is to run as, by the host's files; nil for root.
func (a *app) findUser(word string) (*container.User, error) {
	if word == "" {
		return nil, nil //nolint:nilnil // root is no user that was found
	}
	passwd, _ := a.hostFile("/etc/passwd") // without it there are only numbers
	group, _ := a.hostFile("/etc/group")
	u, err := container.ParseUser(word, string(passwd), string(group))
	return &u, err
}

// credential returns a user as the sandbox takes it.
func credential(u *container.User) *sandbox.Credential {
	if u == nil {
		return nil
	}
	return &sandbox.Credential{UID: u.UID, GID: u.GID, Groups: u.Groups}
}
