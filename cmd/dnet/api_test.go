package main

import (
	"cmp"
	"encoding/json"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dcni/pkg/engineapi"
	"dcni/pkg/host/systemd"
	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/records"
)

// TestListenAPI wants a path for the socket at which no other program serves.
func TestListenAPI(t *testing.T) {
	f := newFixture(t)
	f.mkdir("run")
	path := func(name string) string { return filepath.Join(f.dir, "run", name) }
	f.write("run/file", "text", 0o600)
	other, err := net.Listen("unix", path("other"))
	f.must(err)
	defer other.Close()
	stale, err := net.Listen("unix", path("stale"))
	f.must(err)
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	f.must(stale.Close())
	l, lock, err := f.listenAPI(path("ours"))
	f.must(err)
	defer lock.Unlock()
	defer l.Close()
	if info, err := os.Stat(path("ours")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket is %v, %v: want mode 600", info, err)
	}
	for name, want := range map[string]string{
		"file": "there is a file that is no socket", "other": "another program serves there", "ours": "another dnet api serves there",
		"stale": "", "new": "", "nosuch/socket": "no such file or directory", strings.Repeat("x", 108): "must be at most 107 bytes",
	} {
		l, lock, err := f.listenAPI(path(name))
		switch {
		case err == nil && want == "":
			f.must(l.Close())
			lock.Unlock()
		case err == nil || want == "" || !strings.Contains(err.Error(), want):
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	if data, err := os.ReadFile(path("file")); err != nil || string(data) != "text" {
		t.Errorf("the file that is no socket: %q, %v", data, err)
	}
}

// TestHandedListener takes one unix socket from systemd, and nothing else.
func TestHandedListener(t *testing.T) {
	if _, err := handedListener(make([]systemd.Descriptor, 2)); err == nil || !strings.Contains(err.Error(), "2 sockets: must be one") {
		t.Errorf("two sockets: %v", err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	file, err := tcp.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	// The descriptor is closed as one that systemd hands over is.
	if _, err := handedListener([]systemd.Descriptor{{Name: "x", FD: int(file.Fd())}}); err == nil || !strings.Contains(err.Error(), "must be a unix socket") {
		t.Errorf("a TCP socket: %v", err)
	}
	_ = file.Close()
}

// TestAPI asks for what is there and has it changed, on a host in memory.
func TestAPI(t *testing.T) {
	f := newFixture(t)
	var err error
	f.stderr, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	f.must(err)
	defer f.stderr.Close()
	f.network("web.conflist", `{"cniVersion": "1.0.0", "name": "web", "plugins": [{"type": "dbridge", "ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}}]}`)
	f.network("vlan.conflist", `{"cniVersion": "1.0.0", "name": "vlan", "plugins": [{"type": "vlan"}]}`)
	f.network("broken.conflist", `{`)
	id := strings.Repeat("ab", 32)
	f.attached(records.Record{
		Attachment: owner("web", id, "eth0"), Name: "shop", Names: []string{"shop"}, MAC: "02:42:0a:01:00:02", NetNS: "/proc/self/ns/net", Cookie: ownCookie(t), Moment: records.Moment{Since: created},
		Addresses: []ipam.Assigned{{Address: subnet("10.1.0.0/24").Prefix, Gateway: subnet("10.1.0.0/24").Gateway}},
	})
	f.host.running, f.host.links = map[string]uint64{id: cmp.Or(ownCookie(t), 7)}, []string{"lo", "eth0", "eth1"}
	f.host.donors = []network.Donor{
		{Container: "gone", State: network.Exited},
		{Container: id, Names: []string{"shop"}, Attachments: []network.Donation{
			{Network: "web", IfName: "eth0"},
			{Network: "vlan", IfName: "eth1", Result: json.RawMessage(`{"cniVersion": "1.0.0", "interfaces": [{"name": "eth1", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/7"}],
				"ips": [{"address": "192.0.2.7/24", "gateway": "192.0.2.1", "interface": 0}]}`)},
		}},
	}
	s := engineapi.New(apiBackend{f.app}, "v1.2.3")
	for _, c := range []struct {
		method, path, body string
		status             int
		want               []string // in the answer
	}{
		{"GET", "/networks", "", 200, []string{`"Name":"web"`, `"Driver":"vlan"`, `"Name":"bridge"`, `"Name":"host"`, `"Created":"2026-01-02T03:04:05Z"`}},
		{"GET", "/networks/web", "", 200, []string{`"Containers":{"` + id + `":{"Name":"shop"`, `"MacAddress":"02:42:0a:01:00:02"`}},
		{"GET", "/networks?filters=%7B%22dangling%22:%5B%22true%22%5D%7D", "", 200, []string{`"Name":"vlan"`}},
		{"GET", "/containers/json", "", 200, []string{
			`"Id":"` + id + `","Names":["/shop"]`, `"State":"running"`, `"HostConfig":{"NetworkMode":"web"}`,
			`"web":{"IPAMConfig":null`, `"vlan":{"IPAMConfig":null`, `"MacAddress":"02:00:00:00:00:01"`, `"Gateway":"192.0.2.1","IPAddress":"192.0.2.7","IPPrefixLen":24`,
		}},
		{"GET", "/containers/gone/json", "", 200, []string{`"Status":"exited"`, `"Networks":{}`}},
		{"POST", "/networks/create", `{"Name": "lab", "IPAM": {"Config": [{"Subnet": "10.2.0.0/24", "Gateway": "10.2.0.9"}]}}`, 201, []string{network.ID("lab")}},
		{"GET", "/networks/lab", "", 200, []string{`"Config":[{"Subnet":"10.2.0.0/24","Gateway":"10.2.0.9"}]`}},
		{"POST", "/networks/create", `{"Name": "bare", "IPAM": {"Config": [{"Subnet": "10.3.0.0/24"}]}}`, 201, nil},
		{"GET", "/networks/bare", "", 200, []string{`"Config":[{"Subnet":"10.3.0.0/24"}]`}},
		{"GET", "/networks?filters=%7B%22name%22:%5B%22bare%22%5D%7D", "", 200, []string{`"Config":[{"Subnet":"10.3.0.0/24"}]`}},
		{"POST", "/networks/create", `{"Name": "lab"}`, 409, []string{"network with name lab already exists"}},
		{"POST", "/networks/create", `{"Name": ""}`, 400, []string{"invalid name: name is empty"}},
		{"POST", "/networks/create", `{"Name": "host"}`, 403, []string{"operation is not permitted on predefined host network"}},
		{"POST", "/networks/create", `{"Name": "other", "Driver": "host"}`, 403, []string{`only one instance of \"host\" network is allowed`}},
		{"POST", "/networks/create", `{"Name": "other", "Driver": "nosuch"}`, 404, []string{`plugin \"nosuch\" not found`}},
		{"POST", "/networks/create", `{"Name": "other", "Scope": "swarm"}`, 400, []string{"must be local: there is no swarm"}},
		{"POST", "/networks/create", `{"Name": "other", "Ingress": true}`, 400, []string{"there is no swarm"}},
		{"POST", "/networks/create", `{"Name": "other", "Options": {"nosuch": "1"}}`, 400, []string{"nosuch"}},
		{"POST", "/networks/create", `{"Name": "other", "IPAM": {"Config": [{"Subnet": "10.1.0.0/16"}]}}`, 403, []string{"Pool overlaps with other one on this address space"}},
		{"DELETE", "/networks/web", "", 403, []string{`error while removing network: network web has active endpoints (name:\"shop\"`}},
		{"DELETE", "/networks/bridge", "", 403, []string{"bridge is a pre-defined network and cannot be removed"}},
		{"DELETE", "/networks/nosuch", "", 404, []string{"network nosuch not found"}},
		{"POST", "/networks/web/connect", `{"Container": "nosuch"}`, 404, []string{"No such container: nosuch"}},
		{"POST", "/networks/web/connect", `{"Container": "gone"}`, 409, []string{"container gone is exited"}},
		{"POST", "/networks/web/connect", `{"Container": "shop"}`, 403, []string{"endpoint with name shop already exists in network web"}},
		{"POST", "/networks/host/connect", `{"Container": "shop"}`, 400, []string{"cannot connect container to host network"}},
		{"POST", "/networks/lab/disconnect", `{"Container": "shop"}`, 500, []string{"is not connected to network lab"}},
		{"POST", "/networks/prune", "", 200, []string{`{"NetworksDeleted":["bare","lab"]}`}},
		{"GET", "/networks/lab", "", 404, []string{"network lab not found"}},
		{"GET", "/info", "", 200, []string{`"Containers":2,"ContainersRunning":1`, `"Network":["bridge","ipvlan","macvlan"]`}},
	} {
		r := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		for _, want := range c.want {
			if w.Code != c.status || !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s %s %s: %d %s\nwant %d with %s", c.method, c.path, c.body, w.Code, w.Body, c.status, want)
			}
		}
	}
	if !f.exists("net.d/web.conflist") || f.exists("net.d/dcni-other.conflist") {
		t.Error("a network was removed or made that was refused")
	}
}
