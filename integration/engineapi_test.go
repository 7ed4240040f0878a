package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

// dnetAPI starts `dnet api`, which ends with the test, and returns a path of its socket that
// is good in any mount namespace: a library's requests are made on any thread.
func (r *fixture) dnetAPI() (socket string) {
	r.t.Helper()
	cmd, socket := r.startAPI()
	r.t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			r.t.Errorf("dnet api: %v: %s", err, cmd.Stderr)
		}
	})
	return socket
}

// startAPI starts `dnet api`, and returns when it listens.
func (r *fixture) startAPI() (cmd *exec.Cmd, socket string) {
	r.t.Helper()
	cmd = dnet("api")
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	socket = fmt.Sprintf("/proc/%d/root/run/dcni/api.sock", cmd.Process.Pid)
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			_ = conn.Close()
			return cmd, socket
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("dnet api: %v: %s", err, log.String())
		}
	}
}

// container starts a container of `dnet run`, which ends with the test.
func (r *fixture) container(name, on string) {
	r.t.Helper()
	r.run(binaries+"/dnet", "run", "-d", "--name", name, "--network", on, "sleep", "1000")
	r.t.Cleanup(func() { _ = dnet("stop", "-t", "0", "--rm", name).Run() })
}

// sdk returns Docker's Go library, which asks for the version, or with one that is told.
func (r *fixture) sdk(socket, version string) *client.Client {
	r.t.Helper()
	opts := []client.Opt{client.WithHost("unix://" + socket)}
	if version != "" {
		opts = append(opts, client.WithAPIVersion(version))
	}
	c, err := client.New(opts...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

// ipam is what Terraform's and other programs' configurations come to.
func ipam(subnet, gateway string) *network.IPAM {
	return &network.IPAM{Driver: "default", Config: []network.IPAMConfig{{Subnet: netip.MustParsePrefix(subnet), Gateway: netip.MustParseAddr(gateway)}}}
}

// TestEngineAPILibrary has Docker's Go library do all that it has about networks, in the
// newest version and in the oldest.
func TestEngineAPILibrary(t *testing.T) {
	r := newFixture(t)
	socket := r.dnetAPI()
	r.run(binaries+"/dnet", "create", "--subnet", "10.20.1.0/24", "web")
	r.run(binaries+"/dnet", "create", "--subnet", "10.20.8.128/25", "plain")
	r.container("shop", "web")
	r.container("peer", "plain") // has 10.20.8.130
	for i, version := range []string{"", "1.41"} {
		c := r.sdk(socket, version)
		ctx, cancel := context.WithTimeout(t.Context(), 6*patience)
		defer cancel()
		events := c.Events(ctx, client.EventsListOptions{Filters: make(client.Filters).Add("network", "lab")})
		subnet := fmt.Sprintf("10.20.%d.0/24", 2+i)
		address := netip.MustParseAddr(fmt.Sprintf("10.20.%d.77", 2+i))
		enabled := true
		made, err := c.NetworkCreate(ctx, "lab", client.NetworkCreateOptions{
			Driver: "bridge", Scope: "local", EnableIPv4: &enabled, Internal: true, Attachable: true, IPAM: ipam(subnet, strings.Replace(subnet, ".0/24", ".254", 1)),
			Options: map[string]string{"com.docker.network.bridge.enable_icc": "true"}, Labels: map[string]string{"tier": "back"},
		})
		if err != nil {
			t.Fatalf("version %q: %v", version, err)
		}
		if _, err := c.NetworkConnect(ctx, made.ID, client.NetworkConnectOptions{Container: "shop", EndpointConfig: &network.EndpointSettings{
			IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: address}, Aliases: []string{"db"}, GwPriority: -1,
			DriverOpts: map[string]string{"com.docker.network.endpoint.ifname": "back0"}, MacAddress: network.HardwareAddr{2, 0, 0, 0, 0, 0x4d},
		}}); err != nil {
			t.Fatalf("version %q: %v", version, err)
		}
		mac := map[string]string{"": "02:00:00:00:00:4d", "1.41": fmt.Sprintf("02:42:0a:14:%02x:4d", 2+i)}[version] // older clients' does not count
		if out := r.run(binaries+"/dnet", "exec", "shop", "ip", "-br", "link", "show", "back0"); !strings.Contains(out, mac) {
			t.Errorf("version %q: %s, want %s", version, out, mac)
		}
		r.described(ctx, c, made.ID, address)
		if _, err := c.NetworkRemove(ctx, "lab", client.NetworkRemoveOptions{}); !errdefs.IsPermissionDenied(err) {
			t.Errorf("version %q: remove a network in use: %v", version, err)
		}
		if _, err := c.NetworkDisconnect(ctx, "lab", client.NetworkDisconnectOptions{Container: "shop", Force: true}); err != nil {
			t.Errorf("version %q: %v", version, err)
		}
		if _, err := c.NetworkRemove(ctx, "lab", client.NetworkRemoveOptions{}); err != nil {
			t.Errorf("version %q: %v", version, err)
		}
		for _, want := range []string{"create", "connect", "disconnect", "destroy"} {
			select {
			case e := <-events.Messages:
				if string(e.Action) != want || e.Type != "network" || e.Actor.ID != made.ID || e.Actor.Attributes["type"] != "bridge" {
					t.Errorf("version %q: event %+v, want %s", version, e, want)
				}
			case err := <-events.Err:
				t.Fatalf("version %q: before %s: %v", version, want, err)
			}
		}
		r.apiRefusals(ctx, c)
		if got := c.ClientVersion(); got != version && (version != "" || got != "1.57") {
			t.Errorf("version %q became %q", version, got)
		}
	}
}

// described looks at the network lab and its container as the library reads them.
func (r *fixture) described(ctx context.Context, c *client.Client, id string, address netip.Addr) {
	r.t.Helper()
	list, err := c.NetworkList(ctx, client.NetworkListOptions{Filters: make(client.Filters).Add("name", "^lab$").Add("label", "tier=back")})
	if err != nil || len(list.Items) != 1 || list.Items[0].ID != id {
		r.t.Errorf("list: %+v, %v", list, err)
	}
	for _, word := range []string{id, "lab", id[:12]} {
		n, err := c.NetworkInspect(ctx, word, client.NetworkInspectOptions{Verbose: true, Scope: "local"})
		got := n.Network
		if err != nil || got.ID != id || !got.Internal || !got.Attachable || got.Labels["tier"] != "back" || got.Options["com.docker.network.bridge.enable_icc"] != "true" ||
			len(got.IPAM.Config) != 1 || got.IPAM.Config[0].Gateway.String() != strings.Replace(address.String(), ".77", ".254", 1) || got.Created.IsZero() {
			r.t.Errorf("inspect %s: %+v, %v", word, got, err)
		}
		for _, e := range got.Containers {
			if e.Name != "shop" || e.IPv4Address != netip.PrefixFrom(address, 24) || e.EndpointID == "" || len(e.MacAddress) != 6 {
				r.t.Errorf("inspect %s: %+v", word, e)
			}
		}
		if len(got.Containers) != 1 {
			r.t.Errorf("inspect %s: containers %+v", word, got.Containers)
		}
	}
	one, err := c.ContainerInspect(ctx, "shop", client.ContainerInspectOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	e := one.Container.NetworkSettings.Networks["lab"]
	if e == nil || e.IPAddress != address || e.NetworkID != id || len(e.Aliases) != 1 || e.Aliases[0] != "db" || e.IPAMConfig == nil || e.IPAMConfig.IPv4Address != address ||
		e.DriverOpts["com.docker.network.endpoint.ifname"] != "back0" || one.Container.NetworkSettings.Networks["web"] == nil || one.Container.State.Status != "running" {
		r.t.Errorf("container: %+v", e)
	}
	all, err := c.ContainerList(ctx, client.ContainerListOptions{Filters: make(client.Filters).Add("network", "lab")})
	if err != nil || len(all.Items) != 1 || all.Items[0].Names[0] != "/shop" {
		r.t.Errorf("containers: %+v, %v", all, err)
	}
	if info, err := c.Info(ctx, client.InfoOptions{}); err != nil || info.Info.ContainersRunning != 2 || info.Info.OSType != "linux" {
		r.t.Errorf("info: %+v, %v", info, err)
	}
	if v, err := c.ServerVersion(ctx, client.ServerVersionOptions{}); err != nil || v.APIVersion != "1.57" || v.MinAPIVersion != "1.41" || v.Platform.Name != "dcni" {
		r.t.Errorf("version: %+v, %v", v, err)
	}
}

// connectAt asks for the container shop to have an address.
func connectAt(address string) client.NetworkConnectOptions {
	return client.NetworkConnectOptions{Container: "shop", EndpointConfig: &network.EndpointSettings{
		IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: netip.MustParseAddr(address)},
	}}
}

// apiRefusals looks at errors as the library tells them apart.
func (r *fixture) apiRefusals(ctx context.Context, c *client.Client) {
	r.t.Helper()
	_, nameTaken := c.NetworkCreate(ctx, "web", client.NetworkCreateOptions{})
	_, predefined := c.NetworkCreate(ctx, "host", client.NetworkCreateOptions{})
	_, overlap := c.NetworkCreate(ctx, "other", client.NetworkCreateOptions{IPAM: ipam("10.20.1.0/25", "10.20.1.1")})
	_, outside := c.NetworkCreate(ctx, "other", client.NetworkCreateOptions{IPAM: ipam("10.20.9.0/24", "10.20.8.1")})
	_, noNetwork := c.NetworkInspect(ctx, "nosuch", client.NetworkInspectOptions{})
	_, noContainer := c.NetworkConnect(ctx, "web", client.NetworkConnectOptions{Container: "nosuch"})
	_, twice := c.NetworkConnect(ctx, "web", client.NetworkConnectOptions{Container: "shop"})
	_, outsideAddress := c.NetworkConnect(ctx, "plain", connectAt("10.20.8.1"))
	_, addressTaken := c.NetworkConnect(ctx, "plain", connectAt("10.20.8.130"))
	_, run := c.ContainerCreate(ctx, client.ContainerCreateOptions{Image: "busybox"})
	for _, e := range []struct {
		err  error
		is   func(error) bool
		text string
	}{
		{nameTaken, errdefs.IsConflict, "network with name web already exists"},
		{predefined, errdefs.IsPermissionDenied, "operation is not permitted on predefined host network"},
		{overlap, errdefs.IsPermissionDenied, "Pool overlaps with other one on this address space"},
		{outside, errdefs.IsInvalidArgument, "invalid gateway 10.20.8.1: parent subnet 10.20.9.0/24 doesn't contain this address"},
		{noNetwork, errdefs.IsNotFound, "network nosuch not found"},
		{noContainer, errdefs.IsNotFound, "No such container: nosuch"},
		{twice, errdefs.IsPermissionDenied, "endpoint with name shop already exists in network web"},
		{outsideAddress, errdefs.IsInvalidArgument, "10.20.8.1"},
		{addressTaken, errdefs.IsPermissionDenied, "10.20.8.130"},
		{run, errdefs.IsNotImplemented, "dcni: only networks: POST /containers/create is not supported"},
	} {
		if !e.is(e.err) || !strings.Contains(e.err.Error(), e.text) {
			r.t.Errorf("%v: want %q", e.err, e.text)
		}
	}
}

// TestEngineAPICalls makes the very requests that Ansible's docker_network
// (community.docker, plugins/modules/docker_network.py) and Terraform's (kreuzwerker/docker,
// resource_docker_network_funcs.go, with Docker's library 24) make.
func TestEngineAPICalls(t *testing.T) {
	r := newFixture(t)
	socket := r.dnetAPI()
	r.run(binaries+"/dnet", "create", "--subnet", "10.20.1.0/24", "web")
	r.container("shop", "web")
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	t.Cleanup(c.CloseIdleConnections)
	call := func(method, path, body string, status int, into any) {
		t.Helper()
		q, err := http.NewRequestWithContext(t.Context(), method, "http://docker"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if body != "" {
			q.Header.Set("Content-Type", "application/json")
		}
		a, err := c.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		data, err := io.ReadAll(a.Body)
		if err == nil && into != nil {
			err = json.Unmarshal(data, into)
		}
		if a.StatusCode != status || err != nil {
			t.Errorf("%s %s: %d %s, %v; want %d", method, path, a.StatusCode, data, err, status)
		}
	}
	var id struct{ ID, Warning string }
	var one struct {
		Name, ID, Driver, Scope string
		Options, Labels         map[string]string
		EnableIPv6, Internal    bool
		IPAM                    struct {
			Driver string
			Config []map[string]any
		}
		Containers map[string]struct{ Name string }
	}
	var version struct {
		APIVersion string `json:"ApiVersion"`
	}
	var list []struct {
		Name  string
		ID    string `json:"Id"`
		Names []string
	}

	// Ansible: is it there? Create it, connect a container, look again, and remove it.
	call("GET", "/version", "", 200, &version)
	v := "/v" + version.APIVersion
	call("GET", v+"/networks", "", 200, &list)
	for _, n := range list {
		if n.Name == "lab" {
			t.Fatal("lab is there")
		}
	}
	call("POST", v+"/networks/create", `{"Name": "lab", "Driver": "bridge", "Options": {"com.docker.network.bridge.enable_icc": "false"}, "CheckDuplicate": null,
		"EnableIPv6": true, "Internal": true, "Scope": "local", "Attachable": true, "Labels": {"tier": "back"},
		"IPAM": {"Driver": "default", "Options": {}, "Config": [
			{"Subnet": "10.20.2.0/24", "IPRange": "10.20.2.128/25", "Gateway": "10.20.2.9", "AuxiliaryAddresses": {"nas": "10.20.2.10"}},
			{"Subnet": "fd00:20:2::/64", "IPRange": null, "Gateway": null, "AuxiliaryAddresses": null}]}}`, 201, &id)
	call("GET", v+"/networks/"+id.ID, "", 200, &one)
	if one.Driver != "bridge" || one.Scope != "local" || !one.EnableIPv6 || !one.Internal || one.Labels["tier"] != "back" || len(one.IPAM.Config) != 2 ||
		one.IPAM.Config[0]["IPRange"] != "10.20.2.128/25" || one.Options["com.docker.network.bridge.enable_icc"] != "false" || one.Containers == nil {
		t.Errorf("as Ansible compares it: %+v", one)
	}
	call("GET", v+"/containers/json?limit=-1&all=1&size=0&trunc_cmd=0", "", 200, &list)
	call("GET", v+"/containers/"+list[0].ID+"/json", "", 200, nil)
	if list[0].Names[0] != "/shop" {
		t.Errorf("containers: %+v", list)
	}
	call("POST", v+"/networks/lab/connect", `{"Container": "shop", "EndpointConfig": null}`, 200, nil)
	call("GET", v+"/networks/"+id.ID, "", 200, &one)
	if e := one.Containers[list[0].ID]; e.Name != "shop" {
		t.Errorf("connected: %+v", one.Containers)
	}
	call("POST", v+"/networks/lab/disconnect", `{"Container": "shop", "Force": true}`, 200, nil)
	call("DELETE", v+"/networks/lab", "", 204, nil)

	// Terraform: create, read until all is there, and remove until it is gone, by the ID.
	call("HEAD", "/_ping", "", 200, nil)
	call("POST", "/v1.43/networks/create", `{"CheckDuplicate":true,"Driver":"bridge","Scope":"","EnableIPv6":false,
		"IPAM":{"Driver":"default","Options":null,"Config":[{"Subnet":"10.20.3.0/24","Gateway":"10.20.3.1","AuxiliaryAddresses":{}}]},
		"Internal":false,"Attachable":false,"Ingress":false,"ConfigOnly":false,"ConfigFrom":null,"Options":null,"Labels":{"a":"b"},"Name":"tf"}`, 201, &id)
	call("GET", "/v1.43/networks/"+id.ID, "", 200, &one)
	if one.Name != "tf" || one.IPAM.Driver != "default" || one.IPAM.Config[0]["Subnet"] != "10.20.3.0/24" || one.IPAM.Config[0]["Gateway"] != "10.20.3.1" || one.EnableIPv6 {
		t.Errorf("as Terraform reads it: %+v", one)
	}
	call("DELETE", "/v1.43/networks/"+id.ID, "", 204, nil)
	call("GET", "/v1.43/networks/"+id.ID, "", 404, nil)
}

// descriptors counts what the process has open that serves at a socket of dnetAPI's, and its
// threads.
func descriptors(t *testing.T, socket string) (files, threads int) {
	t.Helper()
	process := strings.TrimSuffix(socket, "/root/run/dcni/api.sock")
	for dir, n := range map[string]*int{"fd": &files, "task": &threads} {
		list, err := os.ReadDir(process + "/" + dir)
		if err != nil {
			t.Fatal(err)
		}
		*n = len(list)
	}
	return files, threads
}

// TestEngineAPILong has a server do hundreds of things: it has no more open afterwards, no
// more threads than some, and looks into the namespaces of containers each time.
func TestEngineAPILong(t *testing.T) {
	r := newFixture(t)
	socket := r.dnetAPI()
	r.run(binaries+"/dnet", "create", "--subnet", "10.20.1.0/24", "web")
	r.run(binaries+"/dnet", "create", "--subnet", "10.20.2.0/24", "lab")
	r.container("shop", "web")
	c := r.sdk(socket, "")
	do := func(n int) {
		t.Helper()
		for range n {
			if list, err := c.ContainerList(t.Context(), client.ContainerListOptions{}); err != nil || len(list.Items) != 1 {
				t.Fatalf("%+v, %v", list.Items, err)
			}
			if _, err := c.NetworkInspect(t.Context(), "web", client.NetworkInspectOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		for range n / 20 {
			if _, err := c.NetworkConnect(t.Context(), "lab", client.NetworkConnectOptions{Container: "shop"}); err != nil {
				t.Fatal(err)
			}
			if _, err := c.NetworkDisconnect(t.Context(), "lab", client.NetworkDisconnectOptions{Container: "shop"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	do(20)
	files, _ := descriptors(t, socket)
	do(100)
	const some = 60
	now, threads := descriptors(t, socket)
	for deadline := time.Now().Add(patience); now > files && time.Now().Before(deadline); now, threads = descriptors(t, socket) {
		time.Sleep(20 * time.Millisecond)
	}
	if now > files || threads > some {
		t.Errorf("%d descriptors, and %d before; %d threads", now, files, threads)
	}
}

// TestEngineAPIKilled kills the server while it does what a client asks for, at many moments.
// The next commands leave the host as it was.
func TestEngineAPIKilled(t *testing.T) {
	r := newFixture(t)
	r.run(binaries+"/dnet", "create", "--subnet", "10.20.1.0/24", "web")
	r.container("shop", "web")
	cycle := func(c *client.Client) error {
		_, err := c.NetworkCreate(t.Context(), "lab", client.NetworkCreateOptions{})
		if err == nil {
			_, err = c.NetworkConnect(t.Context(), "lab", client.NetworkConnectOptions{Container: "shop"})
		}
		if err == nil {
			_, err = c.NetworkDisconnect(t.Context(), "lab", client.NetworkDisconnectOptions{Container: "shop"})
		}
		if err == nil {
			_, err = c.NetworkRemove(t.Context(), "lab", client.NetworkRemoveOptions{})
		}
		return err
	}
	var before picture
	for i := range 12 {
		cmd, socket := r.startAPI()
		c := r.sdk(socket, "")
		if err := cycle(c); err != nil {
			t.Fatal(err)
		}
		if before == nil {
			before = takePicture()
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for cycle(c) == nil { // until it is killed
			}
		}()
		time.Sleep(time.Duration(i) * 11 * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		<-ended
		for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
			_ = dnet("disconnect", "lab", "shop").Run() // if it is connected
			out, err := dnet("rm", "-f", "lab").CombinedOutput()
			if err == nil {
				break
			}
			if time.Now().After(deadline) { // a plugin that runs on has ended by then
				t.Fatalf("killed at moment %d: dnet rm: %v: %s", i, err, out)
			}
		}
		r.same(fmt.Sprintf("killed at moment %d", i), before)
	}
}

// TestEngineAPICrowd has many clients create, look at and remove networks at once.
func TestEngineAPICrowd(t *testing.T) {
	r := newFixture(t)
	c := r.sdk(r.dnetAPI(), "")
	r.run(binaries+"/dnet", "create", "first") // which leaves folders
	r.run(binaries+"/dnet", "rm", "first")
	before := takePicture()
	var wg sync.WaitGroup
	const n = 24
	ids := make([]string, n)
	for i := range n {
		wg.Go(func() {
			made, err := c.NetworkCreate(t.Context(), fmt.Sprint("net", i), client.NetworkCreateOptions{})
			if err != nil {
				t.Errorf("create: %v", err)
				return
			}
			ids[i] = made.ID
			_, err = c.NetworkCreate(t.Context(), "same", client.NetworkCreateOptions{})
			if err != nil && !errdefs.IsConflict(err) {
				t.Errorf("create the same: %v", err)
			}
			if _, err := c.NetworkInspect(t.Context(), made.ID, client.NetworkInspectOptions{}); err != nil {
				t.Errorf("inspect: %v", err)
			}
		})
	}
	wg.Wait()
	list, err := c.NetworkList(t.Context(), client.NetworkListOptions{Filters: make(client.Filters).Add("type", "custom")})
	if err != nil || len(list.Items) != n+1 {
		t.Errorf("%d networks, want %d: %v", len(list.Items), n+1, err)
	}
	subnets := map[netip.Prefix]bool{}
	for _, one := range list.Items {
		subnets[one.IPAM.Config[0].Subnet] = true
	}
	if len(subnets) != n+1 {
		t.Errorf("%d networks have %d subnets", n+1, len(subnets))
	}
	for _, id := range ids {
		wg.Go(func() {
			if _, err := c.NetworkRemove(t.Context(), id, client.NetworkRemoveOptions{}); err != nil {
				t.Errorf("remove: %v", err)
			}
		})
	}
	wg.Wait()
	pruned, err := c.NetworkPrune(t.Context(), client.NetworkPruneOptions{})
	if err != nil || len(pruned.Report.NetworksDeleted) != 1 || pruned.Report.NetworksDeleted[0] != "same" {
		t.Errorf("prune: %+v, %v", pruned, err)
	}
	r.same("after the crowd", before)
}
