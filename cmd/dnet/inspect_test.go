package main

import (
	"encoding/json"
	"net/netip"
	"os"
	"testing"

	"dcni/pkg/firewall"
	"dcni/pkg/ipam"
	"dcni/pkg/records"
	"dcni/pkg/records/leases"
)

// inspected is what Docker prints of a network, and what dnet adds.
const inspected = `[
    {
        "Name": "web",
        "Id": "4b5e57f6eb2f42b9039b3d1e13929295f231749c510cbe341cd68036d9af97e2",
        "Created": "2026-01-02T03:04:05Z",
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv4": true,
        "EnableIPv6": false,
        "IPAM": {
            "Driver": "default",
            "Options": {},
            "Config": [
                {
                    "Subnet": "10.70.0.0/24",
                    "IPRange": "10.70.0.128/25",
                    "Gateway": "10.70.0.254",
                    "AuxiliaryAddresses": {
                        "nas": "10.70.0.130"
                    }
                }
            ]
        },
        "Internal": false,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": {
            "Network": ""
        },
        "ConfigOnly": false,
        "Containers": {},
        "Options": {
            "com.docker.network.driver.mtu": "1400"
        },
        "Labels": {
            "a": "<b>"
        },
        "Status": {
            "IPAM": {
                "Subnets": {
                    "10.70.0.0/24": {
                        "IPsInUse": 4,
                        "DynamicIPsAvailable": 125
                    }
                }
            }
        }
    }
]
`

func TestInspect(t *testing.T) {
	f := newFixture(t)
	f.network("dcni-web.conflist", `{"cniVersion": "1.0.0", "name": "web", "args": {"podman_labels": {"a": "<b>"}}, "plugins": [{"type": "dbridge",
	  "options": {"com.docker.network.driver.mtu": "1400"},
	  "ipam": {"type": "dipam", "subnet": "10.70.0.0/24", "ipRange": "10.70.0.128/25", "gateway": "10.70.0.254", "auxAddresses": {"nas": "10.70.0.130"}}}]}`)
	var one []json.RawMessage
	f.must(json.Unmarshal([]byte(inspected), &one))
	const id = "4b5e57f6eb2f42b9039b3d1e13929295f231749c510cbe341cd68036d9af97e2"
	f.check([]call{
		{"inspect web", 0, inspected, ""},
		{"inspect -v " + id, 0, inspected, ""},
		{"inspect -f json 4b5e57", 0, "[" + compact(t, one[0]) + "]\n", ""},
		{"inspect -f '{{.Id}} {{.Created}}' web", 0, id + " 2026-01-02T03:04:05Z\n", ""},
		{"inspect -f '{{.ID}} {{.Created}}' web", 0, id + " 2026-01-02 03:04:05 +0000 UTC\n", ""},
		{"inspect -f '{{.Name}} {{.Driver}} {{.EnableIPv4}} {{.EnableIPv6}} {{len .Containers}}' web bridge none host", 0,
			"web bridge true false 0\nbridge bridge true false 0\nnone null true false 0\nhost host true false 0\n", ""},
		// what is not found is said, what is found is shown
		{"inspect nosuch web neither -f {{.Name}}", 1, "web\n", "dnet: network nosuch not found\ndnet: network neither not found\n"},
		{"inspect nosuch", 1, "[]\n", "dnet: network nosuch not found\n"},
		{"inspect -f {{.Name}} nosuch", 1, "\n", "dnet: network nosuch not found\n"},
		{"inspect -f {{.Nosuch}} web", 1, "\n", "dnet: template parsing error: ..."},
		{"inspect -f {{. web", 64, "", "dnet: template parsing error: ..."},
	})
}

// TestInspectKeys shows a file written by hand under Docker's names, and what can
// be understood of another suite's.
func TestInspectKeys(t *testing.T) {
	f := newFixture(t)
	someNetworks(f)
	f.network("30-hand.conflist", `{"cniVersion": "1.0.0", "name": "hand", "plugins": [{"type": "dbridge", "bridge": "br-hand", "icc": false, "ipMasq": false, "mtu": 1300,
	  "gwPriority": 5, "internal": true, "ipam": {"type": "dipam", "allocation": "lowest", "sticky": true}}]}`)
	f.network("31-other.conflist", `{"cniVersion": "1.0.0", "name": "other", "plugins": [{"type": "dbridge", "ipam": {"type": "host-local", "subnet": "10.79.0.0/16"}}]}`)
	const format = "inspect -f '{{json .Options}} {{json .IPAM}} {{.Internal}} {{json .Status}}' "
	f.check([]call{
		{format + "hand", 0, `{"com.docker.network.bridge.enable_icc":"false","com.docker.network.bridge.enable_ip_masquerade":"false",` +
			`"com.docker.network.bridge.name":"br-hand","com.docker.network.driver.mtu":"1300","gwPriority":"5"} ` +
			`{"Driver":"default","Options":{"allocation":"lowest","sticky":"true"},"Config":[]} true null` + "\n", ""},
		{format + "foreign", 0, `{} {"Driver":"host-local","Options":{},"Config":[{"Subnet":"10.77.0.0/16","Gateway":"10.77.0.9"}]} false null` + "\n", ""},
		{format + "vlan9", 0, `{} {"Driver":"host-local","Options":{},"Config":[{"Subnet":"10.78.0.0/16"},{"Subnet":"fd00:78::/64"}]} false null` + "\n", ""},
		{format + "other", 0, `{} {"Driver":"host-local","Options":{},"Config":[]} false null` + "\n", ""},
	})
}

func TestInspectContainers(t *testing.T) {
	f := newFixture(t)
	f.network("dcni-web.conflist", `{"cniVersion": "1.0.0", "name": "web", "plugins": [{"type": "dbridge", "ipam": {"type": "dipam", "subnet": "10.70.0.0/24"}}, {"type": "ddns"}]}`)
	address := func(s string) []ipam.Assigned {
		return []ipam.Assigned{{Address: netip.MustParsePrefix(s + "/24")}, {Address: netip.MustParsePrefix("fd00:70::2/64")}}
	}
	f.attached(records.Record{
		Attachment: owner("web", "c1", "eth0"), Name: "default/shop", Names: []string{"shop", "alias"}, MAC: "02:42:0a:46:00:02", Addresses: address("10.70.0.2"),
		Endpoint: &firewall.Endpoint{Ports: []firewall.Port{
			{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"},
			{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 53, ContainerPort: 53, Protocol: "udp"},
		}},
	})
	f.attached(records.Record{Attachment: owner("web", "c1", "eth0"), Plugin: "ddns"}) // makes no endpoint
	second := f.attached(records.Record{Attachment: owner("web", "c1", "eth1"), Names: []string{"shop"}, Addresses: address("10.70.0.3")[:1]})
	f.attached(records.Record{Attachment: owner("web", "c2", "eth0"), Addresses: address("10.70.0.4")[1:]})
	f.attached(records.Record{Attachment: owner("web", "c3", "eth0"), State: records.Adding})
	f.attached(records.Record{Attachment: owner("other", "c4", "eth0")})
	_, err := leases.Of(f.store, "", "web").Claim(ipam.Request{Owner: owner("web", "c1", "eth0")}, ipam.Config{Subnets: []ipam.Subnet{subnet("10.70.0.0/24")}})
	f.must(err)
	first := owner("web", "c1", "eth0").EndpointID()
	f.check([]call{
		{"inspect -f '{{json .Containers}}' web", 0, `{"c1":{"Name":"default/shop","EndpointID":"` + first + `","MacAddress":"02:42:0a:46:00:02","IPv4Address":"10.70.0.2/24","IPv6Address":"fd00:70::2/64",` +
			`"Ports":{"53/udp":[{"HostIp":"127.0.0.1","HostPort":"53"}],"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},{"HostIp":"::","HostPort":"8080"}]}},` +
			`"c2":{"Name":"c2","EndpointID":"` + owner("web", "c2", "eth0").EndpointID() + `","MacAddress":"","IPv4Address":"","IPv6Address":"fd00:70::2/64"},` +
			`"ep-` + second.EndpointID() + `":{"Name":"shop","EndpointID":"` + second.EndpointID() + `","MacAddress":"","IPv4Address":"10.70.0.3/24","IPv6Address":""}}` + "\n", ""},
		{"inspect -f '{{json .Status}}' web", 0, `{"IPAM":{"Subnets":{"10.70.0.0/24":{"IPsInUse":4,"DynamicIPsAvailable":252}}}}` + "\n", ""},
	})
	// A record that can't be read hides no other.
	f.must(os.WriteFile(f.dir+"/run/attachments/web/c2/eth0/dbridge.json", []byte("{"), 0o600))
	status, stdout, stderr := f.dnet("inspect -f '{{range $id, $c := .Containers}}{{$id}} {{end}}' web")
	if status != 0 || stdout != "c1 ep-"+second.EndpointID()+" \n" || !printed(stderr, "dnet: warning: DIR/run/attachments/web/c2/eth0/dbridge.json can't be read: ...") {
		t.Errorf("status %d, %q, %q", status, stdout, stderr)
	}
}
