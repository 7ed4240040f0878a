package main

import (
	"encoding/json"
	"io"
	"log/slog"
	"testing"

	"dcni/pkg/dns"
	"dcni/pkg/host/agent"
	"dcni/pkg/names"
	"dcni/pkg/wire"
)

// FuzzResolver takes any text for a request. A resolver that is not refused is
// registered beside another, and unregistered again.
func FuzzResolver(f *testing.F) {
	for _, text := range []string{
		`{"op":"serve","resolver":{"owner":{"network":"web","container":"c1","ifName":"eth0"},"netns":"/run/netns/c1","cookie":7,"names":["one","One"],"addresses":["10.0.0.2","::1"],"ttl":600}}`,
		`{"resolver":{"owner":{"network":"a.b","container":"c","ifName":"e"},"netns":"/","cookie":7,"names":["a.a.b"],"hosts":[{"name":"x","addresses":["::ffff:1.2.3.4"]}],"servers":["[fe80::1%e]:53"],"internal":true}}`,
		`{"resolver":{"owner":{"network":"web","container":"x","ifName":"y"},"netns":"/x","cookie":18446744073709551615,"gateways":[""]}}`,
		`{"resolver":null}`,
	} {
		f.Add([]byte(text))
	}
	other := &names.Resolver{Owner: wire.Attachment{Network: "web", Container: "other", IfName: "eth0"}, Cookie: 1, Names: []string{"other"}}
	f.Fuzz(func(t *testing.T, text []byte) {
		d := &dnetd{cookie: 2, registry: newRegistry(dns.NewServer(dns.Config{}), noStore{}, slog.New(slog.DiscardHandler)), log: slog.New(slog.NewTextHandler(io.Discard, nil))}
		var req agent.Request
		if json.Unmarshal(text, &req) != nil || d.check(req.Resolver) != nil {
			return
		}
		if err := d.registry.add(registration{resolver: other}, registration{resolver: req.Resolver}); err != nil {
			t.Fatal(err)
		}
		if _, err := d.knows(req.Resolver); err != nil {
			t.Errorf("what was registered is not known: %v", err)
		}
		d.registry.remove(req.Resolver.Owner, other.Owner)
		if reg := d.registry; len(reg.sandboxes)+len(reg.owners)+len(reg.networks)+len(reg.views)+len(reg.changed)+len(reg.stale) > 0 {
			t.Errorf("something stays: %+v", reg)
		}
	})
}
