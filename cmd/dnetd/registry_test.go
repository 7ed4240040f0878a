package main

import (
	"log/slog"
	"net/netip"
	"testing"

	"dcni/pkg/dns"
	"dcni/pkg/names"
	"dcni/pkg/wire"
)

// onSubnets returns the resolver of a container, by its sandbox's cookie, on a network
// with subnets.
func onSubnets(cookie uint64, network string, subnets ...string) registration {
	r := &names.Resolver{Owner: wire.Attachment{Network: network, Container: network, IfName: "eth0"}, Cookie: cookie}
	for _, s := range subnets {
		r.Subnets = append(r.Subnets, netip.MustParsePrefix(s))
	}
	return registration{resolver: r}
}

// Reverse lookups know the subnets of networks that the sandbox is not on, also of those
// that come, change and go later.
func TestSubnetsOfOtherNetworks(t *testing.T) {
	reg := newRegistry(dns.NewServer(dns.Config{}), noStore{}, slog.New(slog.DiscardHandler))
	add := func(r registration) {
		t.Helper()
		if err := reg.add(r); err != nil {
			t.Fatal(err)
		}
	}
	add(onSubnets(1, "web", "10.1.0.0/24"))
	want := func(step string, owned ...string) {
		t.Helper()
		view := reg.sandboxes[1].view.names
		for _, a := range []string{"10.1.0.9", "10.2.0.9", "fd02::9", "10.3.0.9"} {
			is, should := view.Owns(netip.PrefixFrom(netip.MustParseAddr(a), netip.MustParseAddr(a).BitLen())), false
			for _, o := range owned {
				should = should || o == a
			}
			if is != should {
				t.Errorf("%s: owns %s: %v, want %v", step, a, is, should)
			}
		}
	}
	want("alone", "10.1.0.9")
	lab := onSubnets(2, "lab", "10.2.0.0/24", "fd02::/64")
	add(lab)
	want("another network", "10.1.0.9", "10.2.0.9", "fd02::9")
	add(onSubnets(2, "lab", "10.3.0.0/24"))
	want("other subnets", "10.1.0.9", "10.3.0.9")
	reg.remove(lab.resolver.Owner)
	want("none of its containers is left", "10.1.0.9")
}

// Names of other nodes are those of the newest picture, beside the names of this node,
// whichever of the two comes first.
func TestRemoteNames(t *testing.T) {
	reg := newRegistry(dns.NewServer(dns.Config{}), noStore{}, slog.New(slog.DiscardHandler))
	entry := func(container, address string, list ...string) names.Entry {
		return names.Entry{Container: container, IfName: "n2/eth0", Names: list, Addresses: []netip.Addr{netip.MustParseAddr(address)}}
	}
	ask := func(name string) string {
		t.Helper()
		answer, _ := reg.sandboxes[1].view.names.Lookup([]byte(name), names.IPv4)
		var text string
		for _, a := range answer.Addresses {
			text += a.String() + " "
		}
		return text
	}
	reg.setRemote("web", []names.Entry{entry("c2", "10.1.0.2", "db"), entry("c3", "10.1.0.3", "cache")})
	if err := reg.add(onSubnets(1, "web", "10.1.0.0/24")); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		set       []names.Entry
		db, cache string
	}{
		{[]names.Entry{entry("c2", "10.1.0.2", "db"), entry("c3", "10.1.0.3", "cache")}, "10.1.0.2 ", "10.1.0.3 "},
		{[]names.Entry{entry("c2", "10.1.0.7", "db")}, "10.1.0.7 ", ""},
		{[]names.Entry{entry("c2", "10.1.0.7", "cache")}, "", "10.1.0.7 "},
		{nil, "", ""},
	} {
		reg.setRemote("web", step.set)
		if db, cache := ask("db"), ask("cache.web"); db != step.db || cache != step.cache {
			t.Errorf("%v: db %q cache %q, want %q %q", step.set, db, cache, step.db, step.cache)
		}
	}
	reg.setRemote("web", []names.Entry{entry("c2", "10.1.0.2", "db")})
	reg.remove(wire.Attachment{Network: "web", Container: "web", IfName: "eth0"})
	reg.setRemote("web", nil)
	if n := len(reg.remote); n != 0 {
		t.Errorf("%d networks are left", n)
	}
}
