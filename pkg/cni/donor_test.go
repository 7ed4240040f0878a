package cni

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"

	"dcni/pkg/network"
)

// fixedAddresses are those by which every namespace speaks to others.
type fixedAddresses struct {
	NetNSAddresses
	list []netip.Prefix
}

func (f fixedAddresses) Addresses(string) ([]netip.Prefix, error) { return f.list, nil }

// Of a donor on several networks counts the one by whose address it speaks to others.
func TestDonorAddresses(t *testing.T) {
	donations := []network.Donation{
		{Network: "broken", Result: json.RawMessage(`{"cniVersion": "1.1.0", "ips": [null]}`)},
		{Network: "none"},
		{Network: "strongroom", Result: json.RawMessage(`{"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}],
			"ips": [{"interface": 0, "address": "10.1.0.2/24"}, {"interface": 0, "address": "fd00:1::2/64"}]}`)},
		{Network: "web", Result: json.RawMessage(`{"cniVersion": "1.0.0", "interfaces": [{"name": "br0"}, {"name": "eth1", "sandbox": "/x"}],
			"ips": [{"interface": 1, "address": "10.2.0.2/24", "gateway": "10.2.0.1"}, {"interface": 0, "address": "10.2.0.1/24"}],
			"routes": [{"dst": "0.0.0.0/0", "gw": "10.2.0.1"}], "dns": {"nameservers": ["127.0.0.11"]}}`)},
		{Network: "odd", Result: json.RawMessage(`{"cniVersion": "1.0.0", "interfaces": [{"name": "br0"}],
			"ips": [{"interface": -1, "address": "10.4.0.2/24"}, {"interface": 1, "address": "10.5.0.2/24"}, {"address": "10.6.0.2/24"}]}`)},
		{Network: "old", Result: json.RawMessage(`{"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.3.0.2/24"}]}`)},
	}
	for _, c := range []struct {
		speaks []string
		dns    *network.DNS
		want   string // addresses, how many routes, name servers
	}{
		{[]string{"10.2.0.2/24", "fd00:1::2/64"}, nil, "[10.2.0.2/24>10.2.0.1] 1 [127.0.0.11]"},
		{[]string{"10.1.0.2/24"}, nil, "[10.1.0.2/24>invalid IP fd00:1::2/64>invalid IP] 0 []"},
		{[]string{"fd00:9::2/64", "fd00:1::2/64"}, nil, "[10.1.0.2/24>invalid IP fd00:1::2/64>invalid IP] 0 []"},
		{[]string{"10.3.0.2/24"}, nil, "[10.3.0.2/24>invalid IP] 0 []"},
		{[]string{"10.2.0.1/24"}, nil, "[10.2.0.1/24>invalid IP] 0 []"},                                               // the bridge's is no container's
		{[]string{"10.4.0.2/24"}, nil, "[10.4.0.2/24>invalid IP 10.5.0.2/24>invalid IP 10.6.0.2/24>invalid IP] 0 []"}, // no such interface
		{[]string{"192.0.2.1/24"}, nil, "[192.0.2.1/24>invalid IP] 0 []"},
		{[]string{"10.2.0.2/24"}, &network.DNS{Nameservers: []string{"192.0.2.53"}}, "[10.2.0.2/24>10.2.0.1] 1 [192.0.2.53]"},
	} {
		f := fixedAddresses{}
		for _, p := range c.speaks {
			f.list = append(f.list, netip.MustParsePrefix(p))
		}
		r := &Request{donor: &network.Donor{Attachments: donations}}
		l, err := donorAddresses{presentAddresses{addresses: f, network: network.Description{DNS: c.dns}}}.Claim(r)
		if err != nil {
			t.Fatal(err)
		}
		var addresses, servers []string
		for _, a := range l.Addresses {
			addresses = append(addresses, fmt.Sprint(a.Address, ">", a.Gateway))
		}
		if l.DNS != nil {
			servers = l.DNS.Nameservers
		}
		if got := fmt.Sprint(addresses, len(r.donated), servers); got != c.want {
			t.Errorf("it speaks by %v: %s, want %s", c.speaks, got, c.want)
		}
	}
}

// A container in the network of another one has no names there: the addresses are the
// other's. What its runtime calls it is on record all the same.
func TestFollowerHasNoNames(t *testing.T) {
	r := &Request{Name: "web", Aliases: []string{"db"}}
	e := &Engine{}
	if got := e.names(r, network.Description{Joins: "c1"}); got != nil {
		t.Errorf("names of one that joined: %v", got)
	}
	if got := e.names(r, network.Description{}); fmt.Sprint(got) != "[web db]" {
		t.Errorf("names of another: %v", got)
	}
}
