package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"dcni/pkg/ipam"
	"dcni/pkg/mode"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
	"dcni/pkg/records"
	"dcni/pkg/records/leases"
	"dcni/pkg/records/registry"
	"dcni/pkg/wire"
)

// TestCreate wants the ID printed, the file written, the subnets registered, and
// the host left as it is.
func TestCreate(t *testing.T) {
	f := newFixture(t)
	f.check([]call{{"create --subnet 10.20.0.0/16 --ip-range 10.20.5.0/24 --gateway 10.20.0.9 --aux-address nas=10.20.5.1 --subnet fd00:20::/64 " +
		"-o com.docker.network.driver.mtu=1400 --opt com.docker.network.bridge.enable_icc=false --label tier=front --label owner --label tier=back " +
		"--internal --attachable --ipam-opt sticky=true --ipam-opt allocation=lowest --ipam-driver default --scope local web", 0,
		"4b5e57f6eb2f42b9039b3d1e13929295f231749c510cbe341cd68036d9af97e2\n", ""}})
	data, err := os.ReadFile(f.dir + "/net.d/dcni-web.conflist")
	f.must(err)
	c, err := catalog.ParseConflist(data, mode.All)
	f.must(err)
	if c.Name != "web" || c.Labels["tier"] != "back" || len(c.Labels) != 2 || !c.Attachable {
		t.Errorf("the file is\n%s", data)
	}
	const plugin = `{"type":"dbridge","capabilities":{"aliases":true,"bandwidth":true,"dns":true,"io.kubernetes.cri.pod-annotations":true,"ips":true,"mac":true,"portMappings":true},"internal":true,` +
		`"options":{"com.docker.network.bridge.enable_icc":"false","com.docker.network.driver.mtu":"1400"},"names":{},` +
		`"ipam":{"type":"dipam","subnets":[{"subnet":"10.20.0.0/16","ipRange":"10.20.5.0/24","gateway":"10.20.0.9","auxAddresses":{"nas":"10.20.5.1"}},` +
		`{"subnet":"fd00:20::/64"}],"allocation":"lowest","sticky":true}}`
	if got := compact(t, c.Plugins[0]); got != plugin {
		t.Errorf("the plugin's configuration is\n%s, want\n%s", got, plugin)
	}
	known, err := registry.Of(f.store, "").Get("web")
	if err != nil || known.Bridge != "br-4b5e57f6eb2f" || len(known.Subnets) != 2 || len(known.FromPool) != 0 || known.Conf != f.dir+"/net.d/dcni-web.conflist" {
		t.Errorf("registered as %+v, %v", known, err)
	}
	if keys := f.host.Keys(); len(keys) != 0 {
		t.Errorf("the host has %v", keys)
	}
}

// TestCreateChoosesSubnets avoids what the host and other networks have.
func TestCreateChoosesSubnets(t *testing.T) {
	f := newFixture(t)
	f.host.routes = []ipam.HostRoute{{Dst: netip.MustParsePrefix("172.17.0.0/16"), OnLink: true}}
	f.host.nameservers = []netip.Addr{netip.MustParseAddr("172.18.0.53")}
	f.network("10-foreign.conflist", `{"cniVersion": "1.0.0", "name": "foreign", "plugins": [{"type": "vlan", "ipam": {"type": "host-local", "subnet": "172.19.0.0/16"}}]}`)
	for i, c := range []struct{ flags, subnets string }{
		{"", "172.20.0.0/16"},
		{"--ipv6", "172.21.0.0/16 ULA"},
		{"--ipv4=false --ipv6", "ULA"},
		{"--subnet fd00:5::/64", "172.22.0.0/16 fd00:5::/64"},
		{"--ipv4=false --subnet fd00:6::/64", "fd00:6::/64"},
		// what is asked for is had, also if the host reaches it otherwise
		{"--subnet 172.17.5.0/24", "172.17.5.0/24"},
	} {
		name := fmt.Sprint("n", i)
		if status, _, stderr := f.dnet("create " + c.flags + " " + name); status != 0 {
			t.Errorf("create %s: %s", c.flags, stderr)
			continue
		}
		_, stdout, _ := f.dnet("inspect -f '{{range .IPAM.Config}}{{.Subnet}} {{end}}' " + name)
		var got []string
		for _, word := range strings.Fields(stdout) {
			if p := netip.MustParsePrefix(word); p.Addr().Is6() && p.Bits() == 64 && !strings.HasPrefix(word, "fd00:") {
				word = "ULA"
			}
			got = append(got, word)
		}
		if strings.Join(got, " ") != c.subnets {
			t.Errorf("create %s: subnets %v, want %s", c.flags, got, c.subnets)
		}
	}
	f.host.routes = []ipam.HostRoute{
		{Dst: netip.MustParsePrefix("172.16.0.0/12"), OnLink: true}, {Dst: netip.MustParsePrefix("192.168.0.0/16"), OnLink: true},
	}
	f.check([]call{{"create n", 1, "", "dnet: all predefined address pools have been fully subnetted\n"}})
}

// TestCreateRefuses has Docker's words for what can't be, and leaves nothing
// behind.
func TestCreateRefuses(t *testing.T) {
	f := newFixture(t)
	f.network("dcni-rsx1.conflist", `{"cniVersion": "1.0.0", "name": "rsx1", "plugins": [{"type": "dbridge", "ipam": {"type": "dipam", "subnet": "10.80.0.0/24"}}]}`)
	f.network("rsx2.conflist", `{"cniVersion": "1.0.0", "name": "rsx2", "plugins": [{"type": "dbridge", "bridge": "brx", "ipam": {"type": "dipam"}}]}`)
	f.network("dcni-broken.conflist", `{"cniVersion":`)
	f.network("routed.conflist", `{"cniVersion": "1.0.0", "name": "routed", "plugins": [{"type": "dipvlan", "parent": "eth0", "mode": "l3", "ipam": {"type": "dipam"}}]}`)
	f.must(registry.Of(f.store, "").Create(registry.Registration{Name: "hidden", Bridge: "br-hidden"}, f.dir+"/other.d/hidden.conflist",
		func() error { return nil }, func(registry.Network) error {
			f.write("other.d/hidden.conflist", `{"name": "hidden"}`, 0o644)
			return nil
		}))
	f.host.Step = func(op string, o wire.Object) error {
		if b, ok := o.(*wire.Bridge); ok && op == "probe" && b.Name == "eth7" {
			return errors.New(`bridge "eth7": existing interface eth7 is not a bridge`)
		}
		return nil
	}
	for line, want := range map[string]string{
		"bridge":                    "operation is not permitted on predefined bridge network\n",
		"rsx1":                      "network with name rsx1 already exists\n",
		"broken":                    "network with name broken already exists: DIR/net.d/dcni-broken.conflist\n",
		"'  '":                      "invalid name: name is empty\n",
		"a/b":                       `name "a/b": must be letters, digits...`,
		"--subnet 10.80.0.128/25 n": `invalid pool request: Pool overlaps with other one on this address space: subnet 10.80.0.128/25 of network "n" and 10.80.0.0/24 of network "rsx1"` + "\n",
		"--subnet abc n":            "invalid subnet: invalid CIDR address: abc\n",
		"--subnet 10.81.0.5/24 n":   "invalid network config:\ninvalid subnet 10.81.0.5/24: it should be 10.81.0.0/24\n",
		"--subnet 10.81.0.0/24 --gateway 10.82.0.1 n":     "no matching subnet for gateway 10.82.0.1\n",
		"--subnet 10.81.0.0/24 --ip-range 10.82.0.0/25 n": "no matching subnet for range 10.82.0.0/25\n",
		"--subnet 10.81.0.0/24 --aux-address a n":         "invalid auxiliary address a: must be NAME=ADDRESS, as host=10.1.0.5\n",
		"--ip-range 10.81.0.0/25 n":                       "every ip-range or gateway must have a corresponding subnet\n",
		"--ipv4=false n":                                  "IPv4 or IPv6 must be enabled\n",
		"--ipv6=false --subnet fd00:81::/64 n":            "ipv6 false: must not be false with an IPv6 subnet in ipam\n",
		"-d ipvlan -o parent=eth0 n":                      "mode \"l2 bridge\": ipvlan network routed is already using parent interface eth0 in mode l3 bridge\n",
		"-d macvlan -o parent=eth0 n":                     "parent \"eth0\": ipvlan network routed is already using parent interface eth0: macvlan and ipvlan can't share one\n",
		"-d ipvlan -o parent=eth0 -o ipvlan_mode=l4 n":    "requested ipvlan mode 'l4' is not valid, 'l2' mode is the ipvlan driver default\n",
		"-d nosuch n":     "plugin \"nosuch\" not found\n",
		"-d cni:bridge n": "plugin \"bridge\" not found\n",
		"-d maclan n":     "plugin \"maclan\" not found: is \"macvlan\" meant?\n",
		"-d dbridge --internal --ipam-driver null n": "invalid ipam driver: \"null\": a network of dcni's has addresses\n",
		"-d host n":                                "only one instance of \"host\" network is allowed\n",
		"-o com.docker.network.driver.mtu=abc n":   "failed to parse com.docker.network.driver.mtu value: abc (strconv.Atoi: parsing \"abc\": invalid syntax)\n",
		"-o com.docker.network.bridge.icc=false n": `unknown key "options.com.docker.network.bridge.icc": did you mean "options.com.docker.network.bridge.name"?` + "\n",
		"-o com.docker.network.bridge.name=eth7 n": `bridge "eth7": existing interface eth7 is not a bridge` + "\n",
		"-o com.docker.network.bridge.name=brx n": "cannot create network " + network.ID("n") + " (brx): conflicts with network " + network.ID("rsx2") +
			" (brx): networks have same bridge name\n",
		"-o com.docker.network.bridge.name=br-hidden n": "cannot create network " + network.ID("n") + " (br-hidden): conflicts with network " + network.ID("hidden") +
			" (br-hidden): networks have same bridge name\n",
		"-o com.docker.network.bridge.default_bridge=true n": "cannot create network " + network.ID("n") + " (dcni0): conflicts with network " + network.ID("bridge") +
			" (dcni0): networks have same bridge name\n",
		"--ipam-driver nosuch n":        "invalid ipam driver: \"nosuch\": must be default, null, or the type of a CNI IPAM plugin in DIR/bin\n",
		"--ipam-opt alocation=lowest n": "unknown key \"ipam.alocation\": did you mean \"ipam.allocation\"?\n",
		"--ipam-opt sticky=maybe n":     "ipam.sticky \"maybe\": must be true or false\n",
		"--label =x n":                  "invalid label '=x': empty name\n",
		"--label ' =x' n":               "invalid label ' =x': empty name\n",
		"--label 'a b=x' n":             "label 'a b' contains whitespaces\n",
		"--scope swarm n":               "--scope swarm: must be local: there is no swarm\n",
		"--ingress n":                   "--ingress: ...",
		"--config-only --internal n":    "configuration network can only contain network specific fields. ...",
		"--config-only --scope local n": "--scope: must not be given with --config-only\n",
		"--config-from x n":             "configuration network \"x\" not found: create it with --config-only\n",
	} {
		f.check([]call{{"create " + line, 1, "", "dnet: " + want}})
		if f.exists("net.d/dcni-n.conflist") {
			t.Errorf("create %s left a file behind", line)
			f.must(os.Remove(f.dir + "/net.d/dcni-n.conflist"))
		}
	}
	if list, err := registry.Of(f.store, "").List(); err != nil || len(list) != 1 {
		t.Errorf("registered are %v, %v", list, err)
	}
}

// TestCreateAfterKilledRemove goes on with what a killed `dnet rm` left: its file
// is gone, its bridge, leases and registration are not.
func TestCreateAfterKilledRemove(t *testing.T) {
	f := newFixture(t)
	const line = "create --subnet 10.82.0.0/24 -o com.docker.network.bridge.name="
	f.check([]call{{line + "br-old web", 0, network.ID("web") + "\n", ""}})
	old := leftovers("web", "br-old")[1]
	if _, err := f.host.Ensure(old); err != nil {
		t.Fatal(err)
	}
	leases := leases.Of(f.store, "", "web")
	_, err := leases.Claim(ipam.Request{Owner: owner("web", "c1", "eth0")}, ipam.Config{Subnets: []ipam.Subnet{subnet("10.82.0.0/24")}})
	f.must(err)
	file := f.dir + "/net.d/dcni-web.conflist"

	// While a container is attached, or another directory has the file, the name is taken.
	f.must(os.Rename(file, f.dir+"/elsewhere.conflist"))
	record := f.attached(records.Record{Attachment: owner("web", "c1", "eth0"), Names: []string{"shop"}})
	f.check([]call{{"create web", 1, "", "dnet: network with name web already exists: no file in DIR/net.d configures it, but it has active endpoints (name:\"shop\" id:\"" +
		record.EndpointID()[:12] + "\")\n"}})
	f.must(f.store.Delete(record.Attachment, record.Plugin))
	f.must(os.Rename(f.dir+"/elsewhere.conflist", file))
	f.mkdir("other.d")
	f.check([]call{{"--conf-dir " + f.dir + "/other.d create web", 1, "", "dnet: network with name web already exists: DIR/net.d/dcni-web.conflist\n"}})
	if !f.host.Has(old.Key()) {
		t.Error("the bridge of a network that is there is gone")
	}

	f.must(os.Remove(file))
	f.check([]call{{line + "br-new web", 0, network.ID("web") + "\n", ""}})
	taken, err := leases.Taken()
	f.must(err)
	if known, err := registry.Of(f.store, "").Get("web"); err != nil || known.Bridge != "br-new" || f.host.Has(old.Key()) || len(taken) != 0 || f.host.rulesRemoved != 1 {
		t.Errorf("registered as %+v, %v; host %v, leases %v, rules removed %d times", known, err, f.host.Keys(), taken, f.host.rulesRemoved)
	}
}
