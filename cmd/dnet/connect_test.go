package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"dcni/pkg/network"
	"dcni/pkg/records"
)

// connectFixture is a fixture with the container c1 of another runtime, which is called shop,
// is on the network web, and runs.
func connectFixture(t *testing.T) *fixture {
	f := newFixture(t)
	f.stderr = os.Stderr
	f.plugin("first", `test "$CNI_COMMAND" = ADD && echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.5/24"}]}'; exit 0`)
	f.network("10-lab.conflist", `{"cniVersion": "1.0.0", "name": "lab", "plugins": [{"type": "first", "capabilities": {"ips": true, "aliases": true}}]}`)
	f.host.donors = []network.Donor{
		{Container: "c1", Names: []string{"default/shop", "shop"}, Attachments: []network.Donation{{Network: "web", IfName: "eth0"}}},
		{Container: "c2", Names: []string{"gone"}, State: network.Exited},
	}
	f.host.running, f.host.links = map[string]uint64{"c1": 7}, []string{"lo", "eth0"}
	return f
}

// TestConnectDisconnect runs ADD for a container of another runtime, as one of its interfaces, and records
// all that DEL needs; disconnect runs DEL and forgets it.
func TestConnectDisconnect(t *testing.T) {
	f := connectFixture(t)
	f.must(f.connect(&connectOptions{ip: "10.1.0.5", aliases: []string{"db"}}, "lab", "shop"))
	if got, want := f.calls(), "first ADD c1 eth1 /run/netns/7\n"; got != want {
		t.Errorf("plugins called: %s, want %s", got, want)
	}
	stdin, _ := os.ReadFile(f.dir + "/stdin.first")
	if !strings.Contains(string(stdin), `"runtimeConfig":{"aliases":{"lab":["db"]},"ips":["10.1.0.5"]}`) {
		t.Errorf("the configuration is %s", stdin)
	}
	list, err := f.store.Connections("c1")
	f.must(err)
	if len(list) != 1 || !list[0].Up || list[0].Cookie != 7 || list[0].IfName != "eth1" || list[0].CNIVersion != "1.0.0" {
		t.Fatalf("on record: %+v", list)
	}
	args, err := json.Marshal(list[0].Args)
	f.must(err)
	const want = `[["IgnoreUnknown","1"],["DNET_CREATOR","connect"],["K8S_POD_NAMESPACE","default"],["K8S_POD_NAME","shop"]]`
	if string(args) != want {
		t.Errorf("CNI_ARGS are %s, want %s", args, want)
	}

	f.host.donors[0].Attachments = append(f.host.donors[0].Attachments, network.Donation{Network: "lab", IfName: "eth1"})
	f.host.links = append(f.host.links, "eth1")
	f.must(f.disconnect(&disconnectOptions{}, "lab", "c1"))
	if got, want := f.calls(), "first DEL c1 eth1 /run/netns/7\n"; got != want {
		t.Errorf("plugins called: %s, want %s", got, want)
	}
	if f.store.HasConnections("c1") {
		t.Error("the connection is still on record")
	}
}

// TestConnectUndone undoes what a plugin left that failed.
func TestConnectUndone(t *testing.T) {
	f := connectFixture(t)
	f.plugin("first", `test "$CNI_COMMAND" = DEL || { echo '{"code": 11, "msg": "busy"}'; exit 1; }`)
	if err := f.connect(&connectOptions{}, "lab", "c1"); err == nil || err.Error() != "network lab: busy" {
		t.Errorf("%v", err)
	}
	if got, want := f.calls(), "first ADD c1 eth1 /run/netns/7\nfirst DEL c1 eth1 /run/netns/7\n"; got != want {
		t.Errorf("plugins called: %s, want %s", got, want)
	}
	if f.store.HasConnections("c1") {
		t.Error("the connection is still on record")
	}
	for _, c := range []struct{ network, container, want string }{
		{"lab", "gone", "cannot connect a container that does not run: container gone is exited; start it first"},
		{"lab", "nosuch", "No such container: nosuch"},
		{"web2", "c1", "network web2 not found"},
	} {
		if err := f.connect(&connectOptions{}, c.network, c.container); err == nil || err.Error() != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
	if got := f.calls(); got != "" {
		t.Errorf("plugins called: %s", got)
	}
}

// TestIsLeft: what libcni keeps of a network that the container has left does not count, also where
// another network's interface has the name by now.
func TestIsLeft(t *testing.T) {
	f := connectFixture(t)
	attached := []*records.Record{{Attachment: owner("lab", "c1", "eth0")}}
	for at, want := range map[[2]string]bool{
		{"lab", "eth0"}: false, {"web", "eth0"}: true, {"web", "lo"}: false, {"web", "eth1"}: true,
	} {
		if got := isLeft(f.host, "/run/netns/7", attached, network.Donation{Network: at[0], IfName: at[1]}); got != want {
			t.Errorf("%s by %s: %t, want %t", at[0], at[1], got, want)
		}
	}
}
