package migrate

import (
	"errors"
	"strings"
	"testing"

	"dcni/pkg/mode"
	"dcni/pkg/network/catalog"
)

// commands are those of what a file says, and then what is left out and external.
func commands(data string) string {
	s, err := Read([]byte(data), "proj", func([]byte) ([]byte, error) { return nil, errors.New("is YAML") })
	if err != nil {
		return err.Error()
	}
	var lines []string
	for _, n := range s.Networks {
		lines = append(lines, n.Command())
	}
	for _, l := range s.Left {
		lines = append(lines, "# "+l.Name+" "+l.Why)
	}
	for _, name := range s.External {
		lines = append(lines, "# "+name+" is external")
	}
	return strings.Join(lines, "\n")
}

func TestReadInspect(t *testing.T) {
	for data, want := range map[string]string{
		`[{"Name": "web", "Driver": "bridge", "EnableIPv4": true, "EnableIPv6": false, "IPAM": {"Driver": "default", "Options": null,
			"Config": [{"Subnet": "10.1.0.0/24", "IPRange": "10.1.0.128/25", "Gateway": "10.1.0.1", "AuxiliaryAddresses": {"nas": "10.1.0.9"}}]},
			"Internal": true, "Attachable": true, "Options": {"com.docker.network.enable_ipv4": "true", "com.docker.network.driver.mtu": "1400"},
			"Labels": {"a b": "it's"}, "Containers": {}}]`: `dnet create --internal --attachable --subnet 10.1.0.0/24 --ip-range 10.1.0.128/25 --gateway 10.1.0.1 ` +
			`--aux-address nas=10.1.0.9 --opt com.docker.network.driver.mtu=1400 --label 'a b=it'\''s' web`,
		// one alone; a gateway with a length; IPv6 is what the subnets say
		`{"Name": "six", "Driver": "bridge", "EnableIPv4": false, "EnableIPv6": true, "IPAM": {"Config": [{"Subnet": "fd00::/64", "Gateway": "fd00::1/64"}]}}`:            "dnet create --ipv4=false --subnet fd00::/64 --gateway fd00::1 six",
		`[{"Name": "six", "Driver": "bridge", "EnableIPv6": true, "IPAM": {"Config": [{"Subnet": "10.1.0.0/24"}]}}]`:                                                      "dnet create --ipv6=true --subnet 10.1.0.0/24 six",
		`[{"Name": "lan", "Driver": "macvlan", "Options": {"parent": "eth0"}, "IPAM": {"Driver": "host-local", "Options": {"x": "y"}}}]`:                                  "dnet create -d macvlan --ipam-driver host-local --ipam-opt x=y --opt parent=eth0 lan",
		`[{"Name": "mesh", "Driver": "overlay", "Scope": "swarm", "IPAM": {"Driver": "default"}, "Options": {"com.docker.network.driver.overlay.vxlanid_list": "4097"}}]`: "dnet create -d overlay --opt com.docker.network.driver.overlay.vxlanid_list=4097 mesh",
		`[{"Name": "web", "Driver": "macvlan", "ConfigFrom": {"Network": "plan"}, "Labels": {"a": "b"}, "IPAM": {"Config": [{"Subnet": "10.1.0.0/24"}]}},
		  {"Name": "plan", "Driver": "null", "ConfigOnly": true, "IPAM": {"Config": [{"Subnet": "10.1.0.0/24"}]}}]`: "dnet create --config-only --subnet 10.1.0.0/24 plan\ndnet create -d macvlan --config-from plan web",
		`[{"Name": "bridge", "Driver": "bridge"}, {"Name": "ingress", "Driver": "overlay", "Ingress": true}, {"Name": "docker_gwbridge", "Driver": "bridge"}]`: "# bridge is predefined, and there already\n# ingress is the swarm's own, and there is no swarm\n# docker_gwbridge is the swarm's own, and there is no swarm",
		`[]`: "",

		"":                                "is empty: must be what docker network inspect or docker compose config printed",
		`[{"Name": "web", "Dri`:           "is cut: the JSON ends after 21 bytes, inside a value",
		`[{"Name": "web"}`:                "is cut: the JSON ends after 16 bytes, inside a value",
		`[{"Name": "web"]`:                "is no JSON: at byte 16: invalid character ']' after object key:value pair",
		`[] []`:                           "has more behind the JSON, at byte 2",
		`[{"Driver": "bridge"}]`:          "is not what docker network inspect prints: entry 1 has no Name",
		`[{"Name": "a"}, {"Name": "a"}]`:  "has network a twice",
		`[1]`:                             "is not what docker network inspect prints: a network at byte 2: must be an object, is number",
		`[{"Name": 5}]`:                   "is not what docker network inspect prints: Name at byte 11: must be a string, is number",
		`[{"Name": "a", "Internal": {}}]`: "is not what docker network inspect prints: Internal at byte 28: must be true or false, is object",
		`{"a": 1}`:                        "has no networks: must be what docker network inspect or docker compose config printed",
		`web`:                             "is no YAML: is YAML",
		`[{"Name": "web", "IPAM": {"Config": [{"Subnet": "10.1.0.0/24", "Gateway": "x"}]}}]`: `network web: gateway "x": must be an address`,
		`[{"Name": "web", "Options": {"mtu": []}}]`:                                          "is not what docker network inspect prints: must be a string, a number, true or false",
	} {
		if got := commands(data); got != want {
			t.Errorf("%s\n got %s\nwant %s", data, got, want)
		}
	}
}

func TestReadCompose(t *testing.T) {
	for data, want := range map[string]string{
		`{"name": "shop", "services": {"a": {"networks": {"front": null}}, "b": {}},
		  "networks": {"default": {"name": "shop_default", "ipam": {}}, "front": {"name": "front", "driver": "bridge", "internal": true, "attachable": "true",
		  "enable_ipv6": true, "driver_opts": {"com.docker.network.driver.mtu": 1400}, "labels": ["a=b", "c"],
		  "ipam": {"driver": "default", "config": [{"subnet": "10.1.0.0/24", "ip_range": "10.1.0.128/25", "gateway": "10.1.0.1", "aux_addresses": {"nas": "10.1.0.9"}}]}},
		  "out": {"name": "outside", "external": true}, "old": {"external": {"name": "older"}}}}`: "dnet create --label com.docker.compose.network=default --label com.docker.compose.project=proj shop_default\n" +
			"dnet create --ipv6=true --internal --attachable --subnet 10.1.0.0/24 --ip-range 10.1.0.128/25 --gateway 10.1.0.1 --aux-address nas=10.1.0.9 " +
			"--opt com.docker.network.driver.mtu=1400 --label a=b --label c= --label com.docker.compose.network=front --label com.docker.compose.project=proj front\n" +
			"# older is external\n# outside is external",
		// a network that need not be written, for a service that names none
		`{"services": {"a": {"networks": ["x"]}, "b": {"network_mode": "host"}}, "networks": {"x": null}}`: "dnet create --label com.docker.compose.network=x --label com.docker.compose.project=proj proj_x",
		`{"services": {"a": {}}}`:                                                         "dnet create --label com.docker.compose.network=default --label com.docker.compose.project=proj proj_default",
		`{"networks": {"x": {"labels": 5}}}`:                                              "is not what docker compose config prints: labels must be a mapping, or a list of KEY=VALUE",
		`{"networks": {"x": [1]}}`:                                                        "is not what docker compose config prints: a network must be an object, is array",
		`{"networks": 2}`:                                                                 "is not what docker compose config prints: networks must be an object, is number",
		`{"networks": {"x": {"ipam": 3}}}`:                                                "is not what docker compose config prints: ipam must be an object, is number",
		`{"networks": {"x": {"ipam": {"config": {}}}}}`:                                   "is not what docker compose config prints: ipam.config must be a list, is object",
		`{"networks": {"x": {"driver": []}}}`:                                             "is not what docker compose config prints: driver must be a string, is array",
		`{"networks": {"x": {}}, "services": [1]}`:                                        "is not what docker compose config prints: services must be an object, is array",
		`{"networks": {"x": {"external": {"name": 1}}}}`:                                  "is not what docker compose config prints: external.name must be a string, is number",
		`{"networks": {"x": {"ipam": {"config": [{"subnet": 5, "aux_addresses": []}]}}}}`: "is not what docker compose config prints: ipam.config.aux_addresses must be an object, is array",
		`{"networks": {"x": {"driver_opts": [1]}}}`:                                       "is not what docker compose config prints: driver_opts must be an object, is array",
		`{"networks": {"x": {"internl": true}}}`:                                          `is not what docker compose config prints: network key "internl": known are x-... and attachable, driver, driver_opts, enable_ipv4, enable_ipv6, external, internal, ipam, labels, name`,
		`{"networks": {"x": {"name": "x", "labels": {"price": "$$5", "a$$b": "$$$$"}, "driver_opts": {"mtu": 1400}}}, "services": {"a": {"command": "$X", "networks": ["x"]}}}`: `dnet create --opt mtu=1400 --label 'a$$b=$$' --label com.docker.compose.network=x --label com.docker.compose.project=proj --label 'price=$5' x`,
		`{"networks": {"x": {"labels": ["a=${B}"]}}}`:                                                                      `has a variable in networks.x.labels[0]: "a=${B}": give what docker compose config prints, which has its value; a dollar sign is $$`,
		`{"networks": {"x": {"ipam": {"config": [{"subnet": "10.$$$N.0.0/24"}]}}}}`:                                        `has a variable in networks.x.ipam.config[0].subnet: "10.$$$N.0.0/24": give what docker compose config prints, which has its value; a dollar sign is $$`,
		`{"networks": {"x": {"x-note": {}}}}`:                                                                              "dnet create --label com.docker.compose.network=x --label com.docker.compose.project=proj proj_x",
		`{"networks": {"x": {"internal": "maybe"}}}`:                                                                       `is not what docker compose config prints: "maybe" must be true or false`,
		`{"networks": {"x": {"labels": {"a": "b"}, "enable_ipv4": false, "ipam": {"config": [{"subnet": "fd00::/64"}]}}}}`: "dnet create --ipv4=false --subnet fd00::/64 --label a=b --label com.docker.compose.network=x --label com.docker.compose.project=proj proj_x",
	} {
		if got := commands(data); got != want {
			t.Errorf("%s\n got %s\nwant %s", data, got, want)
		}
	}
	source, err := Read([]byte(`{"name": "shop", "networks": {"x": {}}}`), "", nil)
	if err != nil || source.Networks[0].Name != "shop_x" {
		t.Errorf("%v, %+v", err, source)
	}
	_, err = Read([]byte(`{"networks": {"x": {}}}`), "", nil)
	if want := "network x has no name of its own, and the file does not name its project: give it with --project-name"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestOf: a network's file as the command that makes it.
func TestOf(t *testing.T) {
	for plugins, want := range map[string]string{
		`{"type": "dbridge", "names": {}, "ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}}`:                                               "dnet create --subnet 10.1.0.0/24 --gateway 10.1.0.1 web",
		`{"type": "dbridge", "icc": false, "internal": true, "names": {}, "ipam": {"type": "dipam", "subnet": "fd00::/64", "sticky": true}}`: "dnet create --ipv4=false --internal --subnet fd00::/64 --gateway fd00::1 --ipam-opt sticky=true --opt com.docker.network.bridge.enable_icc=false web",
		`{"type": "dbridge", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]]}}`:                                       `dnet create --ipam-driver host-local --ipam-opt 'ranges=[[{"subnet":"10.1.0.0/24"}]]' web`,
		`{"type": "ptp", "ipMasq": true, "mtu": 1400, "word": "x y", "five": "5", "capabilities": {"ips": true}, "ipam": {"type": "dipam", "subnet": "10.1.0.0/24",
		  "ipRange": "10.1.0.128/25", "routes": [{"dst": "0.0.0.0/0"}]}}, {"type": "ddns", "capabilities": {"aliases": true}}`: `dnet create -d ptp --subnet 10.1.0.0/24 --ip-range 10.1.0.128/25 --opt 'five="5"' --opt ipMasq=true --opt mtu=1400 --opt 'word=x y' web`,
		`{"type": "bridge", "internal": true, "capabilities": {"mac": true}}`: `dnet create -d cni:bridge --ipam-driver null --opt 'capabilities={"mac":true}' --opt internal=true web`,
		`{"type": "dbridge"}, {"type": "tuning"}`:                             "has more plugins than dnet create writes",
		`{"type": "dbridge"}, {"type": "ddns"}`:                               "has more plugins than dnet create writes",
		`{"type": "ptp"}, {"type": "ddns", "ttl": 5}`:                         "has more plugins than dnet create writes",
	} {
		c, err := catalog.ParseConflist([]byte(`{"name": "web", "plugins": [`+plugins+`]}`), mode.All)
		if err != nil {
			t.Fatal(err)
		}
		f, err := c.Facts(nil)
		if err != nil {
			t.Fatal(err)
		}
		n, err := Of(c, f)
		got := n.Command()
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s\n got %s\nwant %s", plugins, got, want)
		}
	}
}

func TestQuote(t *testing.T) {
	for text, want := range map[string]string{"a-b_c=1:/.,@+": "a-b_c=1:/.,@+", "": "''", "a b": "'a b'", "a'b": `'a'\''b'`, "$x": "'$x'", "ä": "'ä'", "a\nb": "'a\nb'"} {
		if got := quote(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
