package main

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"testing"

	"dcni/pkg/cluster"
	"dcni/pkg/network"
	"dcni/pkg/overlay"
	"dcni/pkg/overlay/memory"
	"dcni/pkg/overlay/remote"
)

// A fakeCluster is a dclusterd without a process: a store in memory, and the files of its
// networks.
type fakeCluster struct {
	*fixture
	overlay.Cluster
	asked []string // verbs with their arguments
}

// newCluster has the fixture's host be node n1 of a cluster of two.
func newCluster(t *testing.T, f *fixture) *fakeCluster {
	c := &fakeCluster{fixture: f, Cluster: overlay.Cluster{Store: memory.New(), Keys: overlay.Keys{Prefix: "/dcni/1/test/"}, Node: "n1"}}
	c.put(c.Keys.Meta(), overlay.Meta{Schema: 1, Cluster: "c0ffee", Pools: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Mask: 24})
	for name, address := range map[string]string{"n1": "192.0.2.11", "n2": "192.0.2.12"} {
		c.put(c.Keys.Node(name), overlay.Node{ID: name, Address: netip.MustParseAddr(address), MTU: 1500})
	}
	f.mkdir("run")
	f.mkdir("lib")
	l, err := remote.Listen(f.store.Cluster().Socket())
	f.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	server := remote.Server{Store: c.Store, Admin: c.admin, Self: func() remote.Self { return remote.Self{Node: c.Node, Prefix: c.Keys.Prefix} }}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, l) }()
	t.Cleanup(func() { cancel(); <-ended })
	return c
}

func (c *fakeCluster) put(key string, value any) {
	c.t.Helper()
	data, err := json.Marshal(value)
	c.must(err)
	_, _, err = c.Store.Commit(c.t.Context(), overlay.Txn{Then: []overlay.Change{{Key: key, Value: data}}})
	c.must(err)
}

// admin notes what was asked, and writes files as dclusterd does.
func (c *fakeCluster) admin(ctx context.Context, verb string, args json.RawMessage) (json.RawMessage, error) {
	c.asked = append(c.asked, strings.TrimSpace(verb+" "+string(args)))
	switch verb {
	case cluster.Sync:
		return json.RawMessage("{}"), c.sync(ctx)
	case cluster.Token:
		return json.Marshal(cluster.TokenReply{Token: "dcni1.a.b.c", Door: "192.0.2.11:2378"})
	case cluster.Init, cluster.Join:
		return json.Marshal(cluster.Made{Node: "n1", Cluster: "c0ffee", Address: netip.MustParseAddr("192.0.2.11")})
	}
	return json.RawMessage("{}"), nil
}

func (c *fakeCluster) sync(ctx context.Context) error {
	list, err := c.Networks(ctx)
	if err != nil {
		return err
	}
	files, err := c.conf.List()
	if err != nil {
		return err
	}
	for _, f := range files {
		if _, _, written := overlay.WrittenFor(f.Data); written {
			c.must(c.conf.Remove(f.Path))
		}
	}
	for _, n := range list {
		data, err := n.Conflist()
		if err != nil {
			return err
		}
		c.must(c.conf.Write(n.Name, data))
	}
	return nil
}

// TestOverlay makes networks of the cluster, shows them, and removes them.
func TestOverlay(t *testing.T) {
	f := newFixture(t)
	c := newCluster(t, f)
	f.check([]call{
		{"create -d overlay --subnet 10.50.0.0/24 --ip-range 10.50.0.128/25 --gateway 10.50.0.9 --aux-address nas=10.50.0.130 --subnet fd00:50::/64 " +
			"--label tier=front --internal --attachable --scope global -o encrypted -o com.docker.network.driver.mtu=1300 -o com.docker.network.bridge.enable_icc=false web", 0, network.ID("web") + "\n", ""},
		{"create -d overlay --ipv6 -o flood=true -o com.docker.network.driver.overlay.vxlanid_list=5000 other", 0, network.ID("other") + "\n", ""},
		{"create -d bridge --subnet 10.60.0.0/24 local", 0, network.ID("local") + "\n", ""},
		{"ls -f type=custom --format '{{.Name}} {{.Driver}} {{.Scope}}'", 0, "local bridge local\nother overlay global\nweb overlay global\n", ""},
		{"ls -q -f scope=global -f name=web", 0, network.ID("web")[:12] + "\n", ""},
		{"inspect -f '{{.Scope}} {{.Internal}} {{range .IPAM.Config}}{{.Subnet}} {{end}}' web", 0, "global true 10.50.0.0/24 fd00:50::/64 \n", ""},
	})
	web, err := c.Network(t.Context(), "web")
	f.must(err)
	s := web.Subnets[0]
	if !web.Encrypted || web.Flood || !web.Internal || !web.Attachable || web.MTU != 1300 || web.Labels["tier"] != "front" || web.Made == "" || len(web.Subnets) != 2 ||
		s.Range.String() != "10.50.0.128/25" || s.Gateway.String() != "10.50.0.9" || s.Aux["nas"].String() != "10.50.0.130" ||
		web.Options["com.docker.network.bridge.enable_icc"] != "false" {
		t.Errorf("web is %+v", web)
	}
	other, err := c.Network(t.Context(), "other")
	f.must(err)
	if other.Encrypted || !other.Flood || other.VNI != 5000 || len(other.Subnets) != 2 || other.MTU != 1450 {
		t.Errorf("other is %+v", other)
	}
	c.put(c.Keys.Endpoint("web", "n2", "a1"), overlay.Endpoint{Container: "c1", IfName: "eth0", Name: "shop"})
	c.put(c.Keys.Endpoint("web", "n2", "a2"), overlay.Endpoint{Container: "c2", IfName: "eth0", Name: "bar"})
	f.check([]call{
		{"inspect -f '{{json .Peers}}' web", 0, `[{"Name":"n2","IP":"192.0.2.12"}]` + "\n", ""},
		{"rm web", 1, "", "dnet: error while removing network: network web has active endpoints (name:\"shop\" id:..."},
		{"rm other local", 0, "other\nlocal\n", ""},
	})
	if _, stdout, stderr := f.dnet("rm web"); stdout != "" || !strings.Contains(stderr, "on node n2") {
		t.Errorf("%s, %s", stdout, stderr)
	}
	if f.exists("net.d/dcni-other.conflist") || !f.exists("net.d/dcni-web.conflist") {
		t.Error("the files are not as the cluster's networks")
	}
}

// TestOverlayRefuses makes no network.
func TestOverlayRefuses(t *testing.T) {
	f := newFixture(t)
	f.check([]call{{"create -d overlay web", 1, "", "dnet: this host is in no cluster: `dnet cluster init` makes one, and `dnet cluster join` joins one\n"}})
	c := newCluster(t, f)
	f.check([]call{
		{"create --subnet 10.60.0.0/24 local", 0, network.ID("local") + "\n", ""},
		{"create -d overlay --subnet 10.50.0.0/24 there", 0, network.ID("there") + "\n", ""},
	})
	f.must(os.Remove(f.dir + "/net.d/dcni-there.conflist"))
	for line, want := range map[string]string{
		"local":                     "network with name local already exists\n",
		"there":                     "network with name there already exists\n",
		"--subnet 10.60.0.128/25 n": `invalid pool request: Pool overlaps with other one on this address space: subnet 10.60.0.128/25 of network "n" and 10.60.0.0/24 of network "local"` + "\n",
		"--subnet 10.50.0.128/25 n": `subnet "10.50.0.128/25": Pool overlaps with other one on this address space: network "there" has 10.50.0.0/24` + "\n",
		"--subnet abc n":            "invalid subnet: invalid CIDR address: abc\n",
		"--scope local n":           "--scope local: must be global: there is no swarm\n",
		"--scope swarm n":           "--scope swarm: must be global: there is no swarm\n",
		"--ipam-opt sticky=true n":  "--ipam-driver, --ipam-opt: the addresses of an overlay network are the cluster's\n",
		"-o encrypted=maybe n":      "failed to parse encrypted value: maybe (strconv.ParseBool: parsing \"maybe\": invalid syntax)\n",
		"-o nosuch=1 n":             "unknown option \"nosuch\": known are antiSpoof, encrypted, firewall, flood, nodeAddresses, com.docker.network.driver.overlay.vxlanid_list, and com.docker.network... of a bridge network\n",
		"-o nodeAddresses --subnet fd00:7::/127 n": "nodeAddresses: subnet fd00:7::/127 has no room for a gateway, a node's address and a container: must be a /126 or larger\n",
		"-o encrypt n": "unknown option \"encrypt\": is \"encrypted\" meant?\n",
		"-o com.docker.network.driver.overlay.vxlanid=5000 n":           "unknown option \"com.docker.network.driver.overlay.vxlanid\": is \"com.docker.network.driver.overlay.vxlanid_list\" meant?\n",
		"-o com.docker.network.driver.overlay.vxlanid_list=4097,4098 n": "com.docker.network.driver.overlay.vxlanid_list \"4097,4098\": must be one number, 4096 to 16777215: a network has one VNI\n",
		"-o com.docker.network.driver.mtu=10 n":                         "mtu 10: must be 0 (the most that fits, 1450) or 68 to 1450\n",
		"-o com.docker.network.bridge.name=br9 n":                       "bridge: must not be given...",
		"-o com.docker.network.driver.mtu=1451 n":                       "mtu 1451: must be at most 1450...",
		"-o com.docker.network.driver.mtu=x n":                          "failed to parse com.docker.network.driver.mtu value: x (strconv.Atoi: parsing \"x\": invalid syntax)\n",
		"--ipv4=false n":                                                "IPv4 or IPv6 must be enabled\n",
		"-o com.docker.network.driver.overlay.vxlanid_list=7 n":         "vni 7: must be 4096 to 16777215...",
		"bridge": "operation is not permitted on predefined bridge network\n",
		"a/b":    `name "a/b": must be letters, digits...`,
	} {
		f.check([]call{{"create -d overlay " + line, 1, "", "dnet: " + want}})
	}
	if list, err := c.Networks(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("networks are %v, %v", list, err)
	}
}

// TestClusterCommands asks dclusterd for what flags say.
func TestClusterCommands(t *testing.T) {
	f := newFixture(t)
	c := newCluster(t, f)
	f.write("ca.pem", "", 0o600)
	for line, want := range map[string]string{
		"cluster init --node a --advertise eth0 --data-dir /srv":                                     `init {"name":"a","advertise":"eth0","dataDir":"/srv"}`,
		"cluster init --etcd http://h:1,http://h:2 --etcd-prefix /x/ --etcd-ca " + f.dir + "/ca.pem": `init {"external":{"endpoints":["http://h:1","http://h:2"],"ca":"` + f.dir + `/ca.pem","prefix":"/x/"}}`,
		"cluster join --token t --node b 10.0.0.1:5":                                                 `join {"name":"b","address":"10.0.0.1:5","token":"t"}`,
		"cluster join --etcd http://h:1":                                                             `join {"external":{"endpoints":["http://h:1"],"prefix":""}}`,
		"cluster token --member --ttl 2h":                                                            `token {"kind":"member","ttl":7200000000000}`,
		"cluster leave -f":                                                                           `leave {"force":true}`,
		"cluster members 3":                                                                          `members {"count":3}`,
		"cluster members auto":                                                                       `members {"count":0}`,
		"cluster node rm n9":                                                                         `node rm {"name":"n9"}`,
		"cluster rotate":                                                                             `rotate`,
		"cluster init --recover -f":                                                                  `init {"recover":true,"force":true}`,
		"cluster reset":                                                                              `reset {}`,
		"cluster restore -f /x/y":                                                                    `restore {"path":"/x/y","force":true}`,
		"cluster renew":                                                                              `renew`,
		"cluster snapshot /x/y":                                                                      `snapshot {"path":"/x/y"}`,
	} {
		c.asked = nil
		if status, _, stderr := f.dnet(line); status != 0 || len(c.asked) == 0 || c.asked[0] != want {
			t.Errorf("%s: %v, %s; want %s", line, c.asked, stderr, want)
		}
	}
	f.check([]call{
		{"cluster join 10.0.0.1", 1, "", "dnet: --token: must be given: `dnet cluster token` on a node of the cluster makes one\n"},
		{"cluster join --etcd http://h:1 10.0.0.1", 1, "", "dnet: 'dnet cluster join' accepts no arguments\n..."},
		{"cluster init --etcd-prefix /x/", 1, "", "dnet: --etcd-ca, --etcd-cert, --etcd-key and --etcd-prefix go with --etcd\n"},
		{"cluster init --etcd http://h:1 --etcd-ca /nosuch", 1, "", "dnet: --etcd-ca: stat /nosuch: no such file or directory\n"},
		{"cluster members two", 1, "", "dnet: members \"two\": must be 1, 3, 5 or auto\n"},
		{"cluster init -f", 1, "", "dnet: --force goes with --recover\n"},
		{"cluster init --recover --node n2", 1, "", "dnet: --recover: of the other flags only --force goes with it: the host stays the node that it is\n"},
		{"cluster join --etcd http://h:1 --token t", 1, "", "dnet: --token: must not be given with --etcd: that etcd says who may be a node\n"},
		{"cluster nosuch", 1, "", "dnet: unknown command: cluster nosuch\n..."},
		{"cluster token", 0, "dcni1.a.b.c\n", ""},
	})
}
