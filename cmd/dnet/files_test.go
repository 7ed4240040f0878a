package main

import (
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	types "github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"dcni/pkg/container"
	"dcni/pkg/network/catalog"
	"dcni/pkg/records"
)

// result is what the plugins of a network returned: an interface of the host's
// and one of the sandbox's, with these addresses and gateways.
func result(dns types.DNS, addresses ...[2]string) *types100.Result {
	host, own := 0, 1
	r := &types100.Result{DNS: dns, Interfaces: []*types100.Interface{{Name: "br0"}, {Name: "eth0", Sandbox: "/proc/1/ns/net"}}}
	r.IPs = []*types100.IPConfig{{Interface: &host, Address: net.IPNet{IP: net.IPv4(10, 99, 0, 1)}}}
	for _, a := range addresses {
		r.IPs = append(r.IPs, &types100.IPConfig{Interface: &own, Address: net.IPNet{IP: net.ParseIP(a[0])}, Gateway: net.ParseIP(a[1])})
	}
	return r
}

// containerOn returns a container that is attached to networks.
func (f *fixture) containerOn(options container.Options, results map[string]*types100.Result, drivers ...string) *containerRun {
	f.t.Helper()
	spec, err := options.Parse()
	f.must(err)
	r := &containerRun{app: f.app, spec: spec, c: &records.Container{ID: idWeb, Name: "shop", Hostname: "front"}}
	for _, driver := range drivers {
		r.requests = append(r.requests, networkRequest{list: Network{Conflist: &catalog.Conflist{Driver: driver}}})
		r.results = append(r.results, results[driver])
	}
	return r
}

func TestResolvConf(t *testing.T) {
	one := result(types.DNS{Nameservers: []string{"127.0.0.11"}, Search: []string{"a.example"}, Domain: "not.example", Options: []string{"ndots:0"}}, [2]string{"10.1.0.5", "10.1.0.1"})
	two := result(types.DNS{Domain: "b.example"}, [2]string{"10.2.0.5", ""})
	silent := result(types.DNS{}, [2]string{"10.3.0.5", "10.3.0.1"})
	six := result(types.DNS{}, [2]string{"fd00::5", "fd00::1"})
	results := map[string]*types100.Result{"bridge": one, "vlan": two, "silent": silent, "six": six}
	const resolved = "nameserver 192.0.2.53\n"
	for name, c := range map[string]struct {
		options container.Options
		drivers []string
		host    string // resolv.conf
		want    string
	}{
		"what plugins say": {
			drivers: []string{"bridge", "vlan"}, host: "nameserver 10.0.0.53\n",
			want: "nameserver 127.0.0.11\nsearch a.example b.example\noptions ndots:0\n",
		},
		"flags": {
			options: container.Options{DNS: []string{"10.0.0.54"}, DNSSearch: []string{"c.example"}}, drivers: []string{"silent"}, host: "nameserver 10.0.0.53\n",
			want: "nameserver 10.0.0.54\nsearch c.example\n",
		},
		"the host's":              {drivers: []string{"silent"}, host: "nameserver 10.0.0.53\n", want: "nameserver 10.0.0.53\n"},
		"what is behind loopback": {drivers: []string{"silent"}, host: "nameserver 127.0.0.53\n", want: resolved},
		"no host file":            {drivers: []string{"silent"}, want: "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"},
		"IPv6":                    {drivers: []string{"six"}, host: "nameserver fd00::53\n", want: "nameserver fd00::53\n"},
		"IPv4 only":               {drivers: []string{"silent"}, host: "nameserver fd00::53\nnameserver 10.0.0.53\n", want: "nameserver 10.0.0.53\n"},
		"the network host": {
			options: container.Options{Networks: []string{"host"}}, host: "nameserver 127.0.0.53\n", want: "nameserver 127.0.0.53\n",
		},
	} {
		f := newFixture(t)
		if c.host != "" {
			f.write("root/etc/resolv.conf", c.host, 0o644)
			f.write("root"+container.ResolvedConf, resolved, 0o644)
		}
		if got := f.containerOn(c.options, results, c.drivers...).resolvConf(); got != c.want {
			t.Errorf("%s:\n%s, want\n%s", name, got, c.want)
		}
	}
}

func TestHosts(t *testing.T) {
	bridge := result(types.DNS{}, [2]string{"10.1.0.5", "10.1.0.1"}, [2]string{"10.1.0.6", "10.1.0.9"}, [2]string{"fd00:1::5", "fd00:1::1"})
	vlan := result(types.DNS{}, [2]string{"10.2.0.5", "10.2.0.1"})
	vlan.IPs[1].Interface = nil // not told: the sandbox's
	results := map[string]*types100.Result{"bridge": bridge, "vlan": vlan}
	const four = "127.0.0.1\tlocalhost\n"
	for name, c := range map[string]struct {
		options container.Options
		drivers []string
		want    string
	}{
		"addresses of all networks": {
			drivers: []string{"vlan", "bridge"},
			want:    four + "10.2.0.5\tfront shop\n10.1.0.5\tfront shop\n10.1.0.6\tfront shop\nfd00:1::5\tfront shop\n",
		},
		"host-gateway is the bridge's": {
			options: container.Options{AddHosts: []string{"up:host-gateway", "db:10.9.0.1"}}, drivers: []string{"vlan", "bridge"},
			want: four + "10.1.0.1\tup\nfd00:1::1\tup\n10.9.0.1\tdb\n10.2.0.5\tfront shop\n10.1.0.5\tfront shop\n10.1.0.6\tfront shop\nfd00:1::5\tfront shop\n",
		},
		"the network host": {options: container.Options{Networks: []string{"host"}}, want: "the host's own\n"},
		"names on the network host": {
			options: container.Options{Networks: []string{"host"}, AddHosts: []string{"up:host-gateway"}},
			want:    four + "127.0.0.1\tup\n127.0.1.1\tfront\n",
		},
	} {
		f := newFixture(t)
		f.write("root/etc/hosts", "the host's own\n", 0o644)
		if got, err := f.containerOn(c.options, results, c.drivers...).hosts(); err != nil || got != c.want {
			t.Errorf("%s: %v\n%s, want\n%s", name, err, got, c.want)
		}
		f.write("root/proc/net/if_inet6", "", 0o644)
		got, err := f.containerOn(c.options, results, c.drivers...).hosts()
		if six := strings.Contains(got, "\n::1\tlocalhost ip6-localhost ip6-loopback\n"); err != nil || six != (name != "the network host") {
			t.Errorf("%s, with IPv6: %v\n%s", name, err, got)
		}
	}
	f := newFixture(t)
	if _, err := f.containerOn(container.Options{AddHosts: []string{"up:host-gateway"}}, results, "vlan").hosts(); err == nil {
		t.Error("host-gateway without a bridge is no error")
	}
}

// TestFiles writes the files, and says where each is mounted.
func TestFiles(t *testing.T) {
	f := newFixture(t)
	r := f.containerOn(container.Options{}, map[string]*types100.Result{"bridge": result(types.DNS{}, [2]string{"10.1.0.5", "10.1.0.1"})}, "bridge")
	f.must(f.store.AddContainer(r.c, func([]*records.Container) error { return nil }))
	files, err := r.files()
	f.must(err)
	folder := f.store.ContainerDir(idWeb)
	for target, file := range map[string]string{
		"/etc/resolv.conf": folder + "/resolv.conf", "/etc/hosts": folder + "/hosts", "/etc/hostname": folder + "/hostname",
		folder + "/hostname": folder + "/hostname", // by which Sweep knows the container
	} {
		if files[target] != file || len(files) != 4 {
			t.Errorf("on %s is mounted %s, want %s, of %d", target, files[target], file, len(files))
		}
	}
	if text, err := os.ReadFile(folder + "/hostname"); err != nil || string(text) != "front\n" {
		t.Errorf("the hostname is %q, %v", text, err)
	}
}

func TestEnvironment(t *testing.T) {
	caller := []string{"HOSTNAME=host", "A=1", "AB=2"}
	for _, c := range []struct{ set, want []string }{
		{nil, []string{"A=1", "AB=2", "HOSTNAME=c"}},
		{[]string{"A=3", "B=", "A=4=5"}, []string{"AB=2", "HOSTNAME=c", "B=", "A=4=5"}},
		{[]string{"AB", "NOSUCH"}, []string{"A=1", "AB=2", "HOSTNAME=c"}},
		{[]string{"HOSTNAME=mine"}, []string{"A=1", "AB=2", "HOSTNAME=mine"}},
	} {
		if got := environment(caller, "c", nil, c.set); !slices.Equal(got, c.want) {
			t.Errorf("-e %q: %q, want %q", c.set, got, c.want)
		}
	}
	if !slices.Equal(caller, []string{"HOSTNAME=host", "A=1", "AB=2"}) {
		t.Errorf("the caller's environment became %q", caller)
	}
}
