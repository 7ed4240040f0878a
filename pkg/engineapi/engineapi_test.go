package engineapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dcni/pkg/container"
	"dcni/pkg/firewall"
	"dcni/pkg/ipam"
	"dcni/pkg/mode"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
	"dcni/pkg/wire"
)

// made is when the networks and containers of the tests were made.
var made = time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)

// A memory is a backend in memory: the networks of conflists, and containers.
type memory struct {
	mu         sync.Mutex
	conflists  []string
	inUse      []string // names of networks
	containers []Container
	calls      []string    // what was asked for
	failure    error       // of what changes something
	events     []Event     // for the next look
	asked      chan string // names of networks that are to be created
}

func (m *memory) did(format string, args ...any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, fmt.Sprintf(format, args...))
	return m.failure
}

func (m *memory) Networks() (list []Network, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, text := range m.conflists {
		c, err := catalog.ParseConflist([]byte(text), mode.All)
		if err != nil {
			return nil, err
		}
		list = append(list, Network{
			Conflist: c, InUse: func() bool { return slices.Contains(m.inUse, c.Name) },
			Describe: func(detail bool) (*catalog.Inspection, error) {
				f, err := c.Facts(nil)
				if !detail || err != nil {
					return c.Inspect(made, f, nil, nil), err
				}
				var shown []catalog.ShownEndpoint
				for _, one := range m.containers {
					for _, e := range one.Endpoints {
						if e.Network == c.Name {
							shown = append(shown, e.ShownEndpoint)
						}
					}
				}
				return c.Inspect(made, f, shown, []netip.Addr{netip.MustParseAddr("10.1.0.2")}), nil
			},
		})
	}
	return list, nil
}

func (m *memory) Create(c Create) (string, error) {
	text, _ := json.Marshal(c)
	m.asked <- c.Name
	return network.ID(c.Name), m.did("create %s", text)
}

func (m *memory) Remove(word string) error { return m.did("remove %s", word) }

func (m *memory) Prune(passes func(*catalog.Conflist, time.Time) bool) (removed []string, err error) {
	list, err := m.Networks()
	for _, n := range list {
		if passes(n.Conflist, made) {
			removed = append(removed, n.Name)
		}
	}
	return removed, errors.Join(err, m.did("prune"))
}

func (m *memory) Connect(n container.Network, word string) error {
	text, _ := json.Marshal(n)
	return m.did("connect %s to %s", word, text)
}

func (m *memory) Disconnect(network, word string, force bool) error {
	return m.did("disconnect %s from %s, force %t", word, network, force)
}

func (m *memory) Containers() ([]Container, error) { return m.containers, nil }

func (m *memory) Host() (Host, error) {
	return Host{
		Name: "n1", Kernel: "6.12.0", System: "Debian GNU/Linux 13", Machine: "x86_64", Memory: 1 << 30, Drivers: []string{"bridge", "macvlan"},
		Forwards: true, Firewall: "nftables", StateDir: "/var/lib/dcni",
	}, nil
}

func (m *memory) Watch() func() ([]Event, error) {
	return func() ([]Event, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		list := m.events
		m.events = nil
		return list, nil
	}
}

const (
	webConf    = `{"cniVersion": "1.0.0", "name": "web", "args": {"podman_labels": {"tier": "front"}}, "plugins": [{"type": "dbridge", "ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}}]}`
	labConf    = `{"cniVersion": "1.0.0", "name": "lab", "plugins": [{"type": "dbridge", "internal": true, "ipam": {"type": "dipam", "subnet": "10.2.0.0/24"}}]}`
	bridgeConf = `{"cniVersion": "1.0.0", "name": "bridge", "plugins": [{"type": "dbridge", "defaultBridge": true, "ipam": {"type": "dipam", "subnet": "172.17.0.0/16"}}]}`
	vlanConf   = `{"cniVersion": "1.0.0", "name": "web2", "plugins": [{"type": "vlan"}]}`
)

// shop is on web, with a port.
func shop() Container {
	e := Endpoint{
		ShownEndpoint: catalog.ShownEndpoint{
			Attachment: wire.Attachment{Network: "web", Container: strings.Repeat("ab", 32), IfName: "eth0"}, Name: "shop", MAC: "02:42:0a:01:00:02",
			Addresses: []ipam.Assigned{{Address: netip.MustParsePrefix("10.1.0.2/24"), Gateway: netip.MustParseAddr("10.1.0.1")}},
			Ports:     []firewall.Port{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}},
		},
		IPv4: netip.MustParseAddr("10.1.0.2"), Aliases: []string{"db"}, Links: []string{"sql:backend"}, DNSNames: []string{"shop", "db"},
	}
	return Container{
		ID: e.Container, Names: []string{"shop", "default/shop"}, Hostname: "shop", Command: []string{"httpd", "-f"}, Labels: map[string]string{"tier": "front"}, State: "running",
		Created: made, Started: made, PID: 42, NetNS: "/proc/42/ns/net", Files: "/run/dcni/containers/x", Mode: "web", Endpoints: []Endpoint{e},
	}
}

func newMemory() *memory {
	gone := Container{ID: strings.Repeat("cd", 32), Names: []string{"gone"}, State: "exited", ExitCode: 3, Created: made.Add(-time.Hour), Started: made, Finished: made, Mode: "lab"}
	return &memory{asked: make(chan string, 100), conflists: []string{webConf, vlanConf, labConf, bridgeConf}, inUse: []string{"web"}, containers: []Container{shop(), gone}}
}

// An answer is what a request is answered with.
type answer struct {
	status int
	header http.Header
	text   string
}

// ask sends a request and returns the answer.
func ask(h http.Handler, method, path, body string) answer {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return answer{w.Code, w.Header(), w.Body.String()}
}

// filter is a parameter filters.
func filter(text string) string {
	return "?filters=" + strings.NewReplacer(`"`, "%22", "{", "%7B", "}", "%7D", " ", "", "[", "%5B", "]", "%5D").Replace(text)
}

func TestGolden(t *testing.T) {
	m := newMemory()
	s := New(m, "v1.2.3")
	for _, c := range []struct{ file, path string }{
		{"networks", "/networks"},
		{"network", "/networks/web"},
		{"network-v1.51", "/v1.51/networks/web"},
		{"containers", "/containers/json?all=1"},
		{"container", "/containers/shop/json"},
		{"container", "/containers/default/shop/json"},
		{"container-v1.41", "/v1.41/containers/shop/json"},
		{"version", "/version"},
		{"info", "/v1.48/info"},
	} {
		r := ask(s, "GET", c.path, "")
		var v any
		if err := json.Unmarshal([]byte(r.text), &v); err != nil || r.status != http.StatusOK || r.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: status %d, %s, %v", c.path, r.status, r.header.Get("Content-Type"), err)
			continue
		}
		blank(v, "GoVersion", "SystemTime", "NGoroutines", "NCPU", "Status.Up", "Arch", "Os")
		got, _ := json.MarshalIndent(v, "", "  ")
		path := filepath.Join("testdata", c.file+".json")
		if os.Getenv("GOLDEN") != "" {
			if err := os.WriteFile(path, append(got, '\n'), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || string(want) != string(got)+"\n" {
			t.Errorf("%s: %v: got\n%s\nwant\n%s", c.path, err, got, want)
		}
	}
}

// Links on the default bridge are the container's, as with Docker, and others their endpoint's.
func TestHostConfigLinks(t *testing.T) {
	c := shop()
	if got := c.links(); got != nil {
		t.Errorf("on web: got %q, want none", got)
	}
	c.Endpoints[0].Network = "bridge"
	if got, want := c.links(), []string{"/sql:/shop/backend"}; !slices.Equal(got, want) {
		t.Errorf("on bridge: got %q, want %q", got, want)
	}
}

// blank replaces values that differ from run to run.
func blank(v any, names ...string) {
	switch v := v.(type) {
	case []any:
		for _, one := range v {
			blank(one, names...)
		}
	case map[string]any:
		for key, one := range v {
			if text, is := one.(string); slices.Contains(names, key) || is && key == "Status" && (strings.HasPrefix(text, "Up ") || strings.HasPrefix(text, "Exited ")) {
				v[key] = "..."
				continue
			}
			blank(one, names...)
		}
	}
}

// TestTwice has a container on one network twice, and with one port on several networks.
func TestTwice(t *testing.T) {
	c := shop()
	second, third := c.Endpoints[0], c.Endpoints[0]
	second.IfName, second.Addresses = "eth1", []ipam.Assigned{{Address: netip.MustParsePrefix("10.1.0.3/24")}}
	third.Network, third.IfName = "lab", "eth2"
	c.Endpoints = append(c.Endpoints, second, third)
	m := newMemory()
	m.containers = []Container{c}
	var list []struct {
		Ports           []portSummary
		NetworkSettings struct{ Networks map[string]endpointSettings }
	}
	if err := json.Unmarshal([]byte(ask(New(m, "v1.2.3"), "GET", "/containers/json", "").text), &list); err != nil {
		t.Fatal(err)
	}
	if got := list[0].NetworkSettings.Networks; len(got) != 2 || got["web"].IPAddress != "10.1.0.2" || got["lab"].IPAddress != "10.1.0.2" {
		t.Errorf("networks: %+v", got)
	}
	if got := list[0].Ports; len(got) != 1 || got[0].PublicPort != 8080 {
		t.Errorf("ports: %+v", got)
	}
}

// namesIn returns the values of Name or Names in a list.
func namesIn(r answer) string {
	var list []struct {
		Name  string
		Names []string
	}
	if err := json.Unmarshal([]byte(r.text), &list); err != nil {
		return strings.TrimSpace(r.text)
	}
	var names []string
	for _, one := range list {
		names = append(names, one.Name+strings.TrimPrefix(slices.Concat(one.Names, []string{""})[0], "/"))
	}
	return strings.Join(names, " ")
}

func message(text string) string { return fmt.Sprintf(`{"message":%q}`, text) }

func TestLists(t *testing.T) {
	s := New(newMemory(), "v1.2.3")
	web := network.ID("web")
	for _, c := range []struct{ path, want string }{
		{"/networks", "bridge lab web web2"},
		{"/networks/", "bridge lab web web2"},
		{"/networks" + filter(`{"name": {"web": true}}`), "web web2"},
		{"/networks" + filter(`{"name": ["web", "lab"]}`), "lab web web2"},
		{"/networks" + filter(`{"name": {"^web$": true}}`), "web"},
		{"/networks" + filter(`{"id": {"`+web[:12]+`": true}}`), "web"},
		{"/networks" + filter(`{"driver": {"bridge": true}}`), "bridge lab web"},
		{"/networks" + filter(`{"driver": {"vlan": true}}`), "web2"},
		{"/networks" + filter(`{"label": {"tier": true}}`), "web"},
		{"/networks" + filter(`{"label": {"tier=back": true}}`), ""},
		{"/networks" + filter(`{"scope": {"global": true}}`), ""},
		{"/networks" + filter(`{"type": {"builtin": true}}`), "bridge"},
		{"/networks" + filter(`{"dangling": {"true": true}}`), "lab web2"},
		{"/networks" + filter(`{"dangling": {"false": true}}`), "bridge web"},
		{"/networks" + filter(`{}`), "bridge lab web web2"},
		{"/networks?filters=x", message("invalid filter")},
		{"/networks" + filter(`{"nosuch": {"x": true}}`), message("invalid filter 'nosuch'")},
		{"/networks" + filter(`{"type": {"x": true}}`), message("invalid filter: 'type'='x'")},
		{"/networks" + filter(`{"dangling": {"x": true}}`), message(`invalid value for filter 'dangling', must be "true" (or "1"), or "false" (or "0")`)},
		{"/networks" + filter(`{"dangling": ["0", "1"]}`), message(`got more than one value for filter key "dangling"`)},

		{"/containers/json", "shop"},
		{"/containers/json?all=true", "shop gone"},
		{"/containers/json?all=false", "shop"},
		{"/containers/json?limit=1", "shop"},
		{"/containers/json?limit=5", "shop gone"},
		{"/containers/json?all=1&limit=-1", "shop gone"},
		{"/containers/json" + filter(`{"status": {"exited": true}}`), "gone"},
		{"/containers/json" + filter(`{"exited": {"3": true}}`), "gone"},
		{"/containers/json" + filter(`{"exited": {"0": true}}`), ""},
		{"/containers/json" + filter(`{"name": {"^/sh": true}}`), "shop"},
		{"/containers/json" + filter(`{"name": {"o$": true}}`), ""},
		{"/containers/json" + filter(`{"id": {"abab": true}}`), "shop"},
		{"/containers/json" + filter(`{"network": {"web": true}}`), "shop"},
		{"/containers/json" + filter(`{"network": {"`+web[:12]+`": true}}`), "shop"},
		{"/containers/json" + filter(`{"network": {"lab": true}}`), ""},
		{"/containers/json" + filter(`{"publish": {"80": true}}`), "shop"},
		{"/containers/json" + filter(`{"publish": {"80/udp": true}}`), ""},
		{"/containers/json" + filter(`{"label": {"tier=front": true}}`), "shop"},
		{"/containers/json" + filter(`{"label": {"tier=back": true}}`), ""},
		{"/containers/json" + filter(`{"ancestor": {"busybox": true}}`), ""},
		{"/v1.56/containers/json" + filter(`{"annotation": {"tier": true}}`), ""},
		{"/v1.55/containers/json" + filter(`{"annotation": {"tier": true}}`), message("invalid filter 'annotation'")},
		{"/containers/json" + filter(`{"health": {"none": true}}`), "shop"},
		{"/containers/json?all=1&" + filter(`{"before": {"shop": true}}`)[1:], "gone"},
		{"/containers/json?all=1&" + filter(`{"since": {"gone": true}}`)[1:], "shop"},
		{"/containers/json" + filter(`{"since": {"nosuch": true}}`), message("No such container: nosuch")},
		{"/containers/json" + filter(`{"nosuch": {"x": true}}`), message("invalid filter 'nosuch'")},
		{"/containers/json" + filter(`{"exited": {"x": true}}`), message(`invalid filter 'exited=x': strconv.Atoi: parsing "x": invalid syntax`)},
		{
			"/containers/json" + filter(`{"status": {"x": true}}`),
			message("invalid filter 'status=x': invalid value for state (x): must be one of created, running, paused, restarting, removing, exited, dead"),
		},
		{"/containers/json?limit=x", message(`limit "x": must be a number, the most containers to list`)},
	} {
		if got := namesIn(ask(s, "GET", c.path, "")); got != strings.ReplaceAll(c.want, `\"`, `\"`) {
			t.Errorf("%s: %s\nwant %s", c.path, got, c.want)
		}
	}
}

// TestCalls has what clients ask for reach the backend.
func TestCalls(t *testing.T) {
	m := newMemory()
	s := New(m, "v1.2.3")
	for _, c := range []struct {
		method, path, body string
		status             int
		answer, call       string
	}{
		{
			"POST", "/networks/create", `{"Name": "web"}`, 201, `{"Id":"` + network.ID("web") + `","Warning":""}`,
			`create {"Name":"web","Driver":"bridge","DriverOptions":null,"Labels":null,"Internal":false,"Attachable":false,"IPv4":null,"IPv6":null,` +
				`"Subnets":null,"Ranges":null,"Gateways":null,"Aux":null,"Pools":null,"IPAMDriver":"default","IPAMOptions":null,...`,
		},
		{
			"POST", "/networks/create",
			`{"Name": "web", "CheckDuplicate": true, "Driver": "macvlan", "Scope": "local", "EnableIPv4": false, "EnableIPv6": true, "Internal": true, "Attachable": true,
			"Ingress": true, "ConfigOnly": true, "ConfigFrom": {"Network": "base"}, "Options": {"parent": "eth0"}, "Labels": {"a": "b"},
			"IPAM": {"Driver": "dipam", "Options": {"sticky": "true"}, "Config": [{"Subnet": "10.1.0.0/24", "IPRange": "10.1.0.0/25", "Gateway": "10.1.0.1", "AuxiliaryAddresses": {"x": "10.1.0.9"}}, {"Subnet": "fd00::/64"}]}}`,
			201, `{"Id":"` + network.ID("web") + `","Warning":""}`,
			`create {"Name":"web","Driver":"macvlan","DriverOptions":{"parent":"eth0"},"Labels":{"a":"b"},"Internal":true,"Attachable":true,"IPv4":false,"IPv6":true,` +
				`"Subnets":null,"Ranges":null,"Gateways":null,"Aux":null,"Pools":[{"Subnet":"10.1.0.0/24","Range":"10.1.0.0/25","Gateway":"10.1.0.1","Aux":{"x":"10.1.0.9"}},` +
				`{"Subnet":"fd00::/64","Range":"","Gateway":"","Aux":null}],"IPAMDriver":"dipam","IPAMOptions":{"sticky":"true"},...`,
		},
		{ // what Ansible sends
			"POST", "/v1.41/networks/create", `{"Name": "web", "Driver": "bridge", "Options": null, "IPAM": null, "CheckDuplicate": null, "EnableIPv4": false}`, 201,
			`{"Id":"` + network.ID("web") + `","Warning":""}`,
			`create {"Name":"web","Driver":"bridge","DriverOptions":null,"Labels":null,"Internal":false,"Attachable":false,"IPv4":null,"IPv6":null,...`,
		},
		{"DELETE", "/networks/web", "", 204, "", "remove web"},
		{"DELETE", "/v1.41/networks/a/b", "", 204, "", "remove a/b"},
		{"POST", "/networks/prune", "", 200, `{"NetworksDeleted":["web","web2","lab","bridge"]}`, "prune"},
		{"POST", "/networks/prune" + filter(`{"label!": {"tier": true}}`), "", 200, `{"NetworksDeleted":["web2","lab","bridge"]}`, "prune"},
		{"POST", "/networks/prune" + filter(`{"label": {"tier=front": true}}`), "", 200, `{"NetworksDeleted":["web"]}`, "prune"},
		{"POST", "/networks/prune" + filter(`{"label!": {"tier=back": true}, "label": {"tier": true}}`), "", 200, `{"NetworksDeleted":["web"]}`, "prune"},
		{"POST", "/networks/prune" + filter(`{"until": {"2026-01-02T03:04:06Z": true}, "label": {"tier": true}}`), "", 200, `{"NetworksDeleted":["web"]}`, "prune"},
		{"POST", "/networks/prune" + filter(`{"until": {"2026-01-02T03:04:05Z": true}}`), "", 200, `{"NetworksDeleted":null}`, "prune"},
		{"POST", "/networks/prune" + filter(`{"until": {"2026-01-01": true}}`), "", 200, `{"NetworksDeleted":null}`, "prune"},
		{"POST", "/networks/prune" + filter(`{"until": {"1767323046": true}, "label": {"tier": true}}`), "", 200, `{"NetworksDeleted":["web"]}`, "prune"},
		{"POST", "/networks/prune" + filter(`{"until": {"1767323045.000000000": true}}`), "", 200, `{"NetworksDeleted":null}`, "prune"},
		{"POST", "/networks/prune" + filter(`{"until": {"876000h": true}}`), "", 200, `{"NetworksDeleted":null}`, "prune"},
		{
			"POST", "/networks/web/connect", `{"Container": "shop", "EndpointConfig": null}`, 200, "",
			`connect shop to {"Name":"web","IPv4":"","IPv6":"","MAC":"","Aliases":null,"GwPriority":null,"IfName":"",...`,
		},
		{
			"POST", "/networks/web/connect",
			`{"Container": "shop", "EndpointConfig": {"IPAMConfig": {"IPv4Address": "10.1.0.9", "IPv6Address": "fd00::9"}, "Aliases": ["db"], "Links": ["sql:backend", "cache"], "GwPriority": 7, "MacAddress": "02-42-00-00-00-01",
			"DriverOpts": {"com.docker.network.endpoint.ifname": "front"}, "NetworkID": "x", "IPAddress": "10.0.0.1"}}`, 200, "",
			`connect shop to {"Name":"web","IPv4":"10.1.0.9","IPv6":"fd00::9","MAC":"02:42:00:00:00:01","Aliases":["db"],"GwPriority":7,"IfName":"front","Links":[{"target":"sql","alias":"backend"},{"target":"cache","alias":"cache"}]}`,
		},
		{
			"POST", "/v1.53/networks/web/connect", `{"Container": "shop", "EndpointConfig": {"IPAMConfig": {}, "MacAddress": "02:42:00:00:00:01"}}`, 200, "",
			`connect shop to {"Name":"web","IPv4":"","IPv6":"","MAC":"","Aliases":null,"GwPriority":null,"IfName":"",...`,
		},
		{"POST", "/networks/web/disconnect", `{"Container": "shop", "Force": true}`, 200, "", "disconnect shop from web, force true"},
		{"POST", "/networks/web/disconnect", `{"Container": "shop"}`, 200, "", "disconnect shop from web, force false"},
	} {
		m.calls = nil
		r := ask(s, c.method, c.path, c.body)
		answer := strings.TrimSpace(r.text)
		call := strings.Join(m.calls, "\n")
		want, begins := strings.CutSuffix(c.call, "...")
		if r.status != c.status || answer != c.answer || call != want && !(begins && strings.HasPrefix(call, strings.TrimSuffix(want, ","))) {
			t.Errorf("%s %s: %d %s, %s\nwant %d %s, %s", c.method, c.path, r.status, answer, call, c.status, c.answer, c.call)
		}
	}
}

func TestErrors(t *testing.T) {
	m := newMemory()
	s := New(m, "v1.2.3")
	const endpoint = "invalid endpoint settings:\n"
	for _, c := range []struct {
		method, path, body string
		status             int
		message            string
	}{
		{"GET", "/v1.40/networks", "", 400, "client version 1.40 is too old. Minimum supported API version is 1.41, please upgrade your client to a newer version"},
		{"GET", "/v0.9/_ping", "", 400, "client version 0.9 is too old. Minimum supported API version is 1.41, please upgrade your client to a newer version"},
		{"GET", "/v1.58/networks", "", 400, "client version 1.58 is too new. Maximum supported API version is 1.57"},
		{"GET", "/v2.0/networks", "", 400, "client version 2.0 is too new. Maximum supported API version is 1.57"},
		{"GET", "/v1.41", "", 404, "page not found"},
		{"GET", "/v/networks", "", 404, "page not found"},
		{"GET", "/v1.x/networks", "", 404, "page not found"},
		{"GET", "/volumes", "", 501, "dcni: only networks: GET /volumes is not supported"},
		{"GET", "/nosuch", "", 404, "page not found"},
		{"POST", "/networks", "", 404, "page not found"},
		{"PUT", "/networks/web", "", 404, "page not found"},
		{"GET", "/networks/nosuch", "", 404, "network nosuch not found"},
		{"GET", "/networks/web?scope=swarm", "", 404, "network web not found"},
		{"GET", "/networks/web?verbose=x", "", 400, `invalid value for verbose: x: strconv.ParseBool: parsing "x": invalid syntax`},
		{"GET", "/networks/web?%zz", "", 400, `invalid URL escape "%zz"`},
		{"GET", "/containers/nosuch/json", "", 404, "No such container: nosuch"},
		{"POST", "/networks/prune" + filter(`{"name": {"x": true}}`), "", 400, "invalid filter 'name'"},
		{"POST", "/networks/prune" + filter(`{"until": ["1h", "2h"]}`), "", 400, "more than one until filter specified"},
		{
			"POST", "/networks/prune" + filter(`{"until": {"x": true}}`), "", 400,
			"invalid filter 'until=x': must be a duration, as 24h, a time, as 2006-01-02T15:04:05, or seconds since 1970",
		},
		{"POST", "/networks/create", `{"Name": `, 400, "invalid JSON: unexpected EOF"},
		{"POST", "/networks/create", ` `, 400, "invalid JSON: got EOF while reading request body"},
		{"POST", "/networks/create", `{"Name": 7}`, 400, "invalid JSON: json: cannot unmarshal number into Go struct field createRequest.Name of type string"},
		{"POST", "/networks/create", `{} {}`, 400, "unexpected content after JSON"},
		{"POST", "/networks/create", `{"Name": "` + strings.Repeat("x", maxBody) + `"}`, 413, "body of more than 1048576 bytes: http: request body too large"},
		{"POST", "/networks/web/connect", `{"Container": "shop", "EndpointConfig": {"IPAMConfig": {"IPv4Address": "x"}}}`, 400, endpoint + "invalid IPv4 address: x"},
		{"POST", "/networks/web/connect", `{"Container": "shop", "EndpointConfig": {"IPAMConfig": {"IPv6Address": "10.0.0.1"}}}`, 400, endpoint + "invalid IPv6 address: 10.0.0.1"},
		{
			"POST", "/networks/web/connect", `{"Container": "shop", "EndpointConfig": {"IPAMConfig": {"LinkLocalIPs": ["169.254.1.1"]}}}`, 400,
			endpoint + "link-local IP address 169.254.1.1: is not supported: interfaces have the kernel's",
		},
		{"POST", "/networks/web/connect", `{"Container": "shop", "EndpointConfig": {"MacAddress": "x"}}`, 400, endpoint + "x is not a valid mac address"},
		{"POST", "/networks/web/connect", `{"Container": "shop", "EndpointConfig": {"Links": ["a:b:c"]}}`, 400, endpoint + "bad format for links: a:b:c"},
		{
			"POST", "/networks/web/connect", `{"Container": "shop", "EndpointConfig": {"DriverOpts": {"x": "y"}}}`, 400,
			endpoint + "driver-opt x: is not supported; known are com.docker.network.endpoint.ifname and com.docker.network.endpoint.sysctls",
		},
		{"GET", "/events?since=x", "", 400, `invalid value for 'since': invalid timestamp "x": must be seconds, or seconds.nanoseconds`},
		{"GET", "/events?until=1.x", "", 400, `invalid value for 'until': invalid timestamp "1.x": must be seconds, or seconds.nanoseconds`},
		{"GET", "/events?since=20&until=10", "", 400, "`since` time (20) cannot be after `until` time (10)"},
		{"GET", "/events?filters=x", "", 400, "invalid filter"},
		{"POST", "/containers/create", `{"Image": "x"}`, 501, "dcni: only networks: POST /containers/create is not supported"},
		{"POST", "/v1.41/containers/shop/stop", "", 501, "dcni: only networks: POST /containers/shop/stop is not supported"},
		{"GET", "/containers/shop/logs", "", 501, "dcni: only networks: GET /containers/shop/logs is not supported"},
		{"GET", "/images/json", "", 501, "dcni: only networks: GET /images/json is not supported"},
		{"POST", "/session", "", 501, "dcni: only networks: POST /session is not supported"},
		{"GET", "/swarm", "", 501, "dcni: only networks: GET /swarm is not supported"},
	} {
		r := ask(s, c.method, c.path, c.body)
		var answer struct{ Message string }
		if err := json.Unmarshal([]byte(r.text), &answer); err != nil || r.status != c.status || answer.Message != c.message {
			t.Errorf("%s %s: %d %q, %v\nwant %d %q", c.method, c.path, r.status, answer.Message, err, c.status, c.message)
		}
	}
	if len(m.calls) > 0 {
		t.Errorf("the backend was asked: %q", m.calls)
	}
	r := httptest.NewRequest("POST", "/networks/create", strings.NewReader("Name=web"))
	r.Header.Set("Content-Type", "text/plain")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if got := w.Body.String(); w.Code != 400 || got != message("unsupported Content-Type header (text/plain): must be 'application/json'")+"\n" {
		t.Errorf("a body that is no JSON: %d %s", w.Code, got)
	}
}

// TestStatus has the class of what the backend says decide the status.
func TestStatus(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{errors.New("netlink: no buffer space available"), 500},
		{&catalog.NotFoundError{Word: "x"}, 404},
		{&network.NoContainerError{Word: "x"}, 404},
		{fmt.Errorf("cannot connect: %w", &network.NotRunningError{Donor: &network.Donor{}}), 409},
		{network.Refuse(network.Forbidden, "x"), 403},
		{network.Refuse(network.Conflict, "x"), 409},
		{network.Refuse(network.InvalidParameter, "x"), 400},
	} {
		m := newMemory()
		m.failure = c.err
		var logged []string
		s := New(m, "v1.2.3")
		s.Log = func(format string, args ...any) { logged = append(logged, fmt.Sprintf(format, args...)) }
		for _, path := range []string{"/networks/create", "/networks/web/connect", "/networks/web/disconnect", "/networks/prune"} {
			if r := ask(s, "POST", path, ""); r.status != c.want || strings.TrimSpace(r.text) != message(c.err.Error()) {
				t.Errorf("%s, %v: %d, want %d", path, c.err, r.status, c.want)
			}
		}
		if r := ask(s, "DELETE", "/networks/web", ""); r.status != c.want {
			t.Errorf("DELETE, %v: %d, want %d", c.err, r.status, c.want)
		}
		if (len(logged) == 5) != (c.want == 500) {
			t.Errorf("%v: logged %q", c.err, logged)
		}
	}
}

func TestPing(t *testing.T) {
	s := New(newMemory(), "v1.2.3")
	for _, c := range []struct{ method, path, body string }{{"GET", "/_ping", "OK"}, {"HEAD", "/_ping", ""}, {"GET", "/v1.41/_ping", "OK"}} {
		r := ask(s, c.method, c.path, "")
		h := r.header
		if r.text != c.body || r.status != 200 || h.Get("Api-Version") != MaxVersion || h.Get("Ostype") != "linux" ||
			h.Get("Server") != "dcni/1.2.3 (linux)" || h.Get("Swarm") != "inactive" || h.Get("Docker-Experimental") != "false" {
			t.Errorf("%s %s: %d %v", c.method, c.path, r.status, h)
		}
	}
}

// event is a network's.
func event(action, name string, second int64) (e Event) {
	e.Type, e.Action, e.Scope, e.Time, e.TimeNano = "network", action, "local", second, second*int64(time.Second)
	e.Actor.ID, e.Actor.Attributes = network.ID(name), map[string]string{"name": name, "type": "bridge"}
	return e
}

// TestEventFilters looks at what has happened.
func TestEventFilters(t *testing.T) {
	m := newMemory()
	s := New(m, "v1.2.3")
	m.events = []Event{event("create", "web", 100), event("connect", "web", 101), event("create", "lab", 102), event("destroy", "lab", 103)}
	m.events[1].Actor.Attributes["container"] = "shop"
	s.happened()
	for _, c := range []struct{ query, want string }{
		{"?since=0&until=200", "create web, connect web, create lab, destroy lab"},
		{"?until=101.5", "create web, connect web"},
		{"?since=101.000000001&until=200", "create lab, destroy lab"},
		{"?until=200&" + filter(`{"event": {"create": true}}`)[1:], "create web, create lab"},
		{"?until=200&" + filter(`{"event": {"create": true, "destroy": true}, "network": {"lab": true}}`)[1:], "create lab, destroy lab"},
		{"?until=200&" + filter(`{"network": ["` + network.ID("web")[:12] + `"]}`)[1:], "create web, connect web"},
		{"?until=200&" + filter(`{"type": {"container": true}}`)[1:], ""},
		{"?until=200&" + filter(`{"type": {"network": true}, "scope": {"local": true}}`)[1:], "create web, connect web, create lab, destroy lab"},
		{"?until=200&" + filter(`{"scope": {"global": true}}`)[1:], ""},
		{"?until=200&" + filter(`{"container": {"shop": true}}`)[1:], ""},
		{"?until=200&" + filter(`{"label": {"container=shop": true}}`)[1:], "connect web"},
	} {
		r := ask(s, "GET", "/events"+c.query, "")
		var got []string
		for d := json.NewDecoder(strings.NewReader(r.text)); d.More(); {
			var e Event
			if err := d.Decode(&e); err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Action+" "+e.Actor.Attributes["name"])
		}
		if strings.Join(got, ", ") != c.want || r.header.Get("Content-Type") != "application/jsonl" {
			t.Errorf("%s: %q, want %q", c.query, got, c.want)
		}
	}
	m.events = []Event{event("create", "new", 104)} // not looked for yet
	if text := ask(s, "GET", "/events?since=104&until=200", "").text; strings.Count(text, "\n") != 1 {
		t.Errorf("what happened just before: %q", text)
	}
	if r := ask(s, "GET", "/v1.51/events?until=1", ""); r.header.Get("Content-Type") != "application/json" {
		t.Errorf("content type of an older version: %s", r.header.Get("Content-Type"))
	}
	for i := range 2 * remembered {
		m.events = append(m.events, event("create", fmt.Sprint("n", i), 300))
	}
	s.happened()
	if n := strings.Count(ask(s, "GET", "/events?until=400", "").text, "\n"); n != remembered {
		t.Errorf("%d events are remembered, want %d", n, remembered)
	}
}

// serve has a server listen in the test's folder. The function returned ends it, and returns
// what it returned.
func serve(t *testing.T, m *memory, idle time.Duration) (s *Server, client *http.Client, end func() error) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	s = New(m, "v1.2.3")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l, idle) }()
	client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", l.Addr().String())
	}}}
	t.Cleanup(client.CloseIdleConnections)
	return s, client, func() error {
		cancel()
		return <-done
	}
}

// TestEventStream has several clients read what happens, also what the API itself does, until
// the server ends.
func TestEventStream(t *testing.T) {
	m := newMemory()
	_, client, end := serve(t, m, 0)
	var streams []*bufio.Scanner
	for range 3 {
		r, err := client.Get("http://d/v1.41/events")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		streams = append(streams, bufio.NewScanner(r.Body))
	}
	m.mu.Lock()
	m.events = append(m.events, event("create", "late", 100))
	m.mu.Unlock()
	r, err := client.Post("http://d/networks/prune", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	for _, stream := range streams {
		for _, want := range []string{`"Action":"create"`, `"Action":"prune"`} {
			if !stream.Scan() || !strings.Contains(stream.Text(), want) {
				t.Errorf("event %q, want %s", stream.Text(), want)
			}
		}
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	for _, stream := range streams {
		if stream.Scan() {
			t.Errorf("after the end: %s", stream.Text())
		}
	}
}

// TestEndWaits has a server end while it creates a network: the client is answered first.
func TestEndWaits(t *testing.T) {
	m := newMemory()
	_, client, end := serve(t, m, 0)
	m.mu.Lock() // which holds up the backend
	answered := make(chan int, 1)
	go func() {
		r, err := client.Post("http://d/networks/create", "application/json", strings.NewReader(`{"Name": "new"}`))
		if err != nil {
			t.Error(err)
			answered <- 0
			return
		}
		r.Body.Close()
		answered <- r.StatusCode
	}()
	for s := range m.asked {
		if s == "new" {
			break
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- end() }()
	select {
	case <-answered:
		t.Error("answered before it was done")
	case err := <-ended:
		t.Errorf("ended before it was done: %v", err)
	default:
	}
	m.mu.Unlock()
	if status := <-answered; status != http.StatusCreated {
		t.Errorf("status %d, want 201", status)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestSlowListener has a client that does not read end, and others not wait for it.
func TestSlowListener(t *testing.T) {
	m := newMemory()
	s := New(m, "v1.2.3")
	_, slow := s.events.join()
	for i := range behind + 1 {
		s.events.add(event("create", fmt.Sprint("n", i), 1))
	}
	n := 0
	for range slow {
		n++
	}
	if n != behind || s.events.listeners() != 0 {
		t.Errorf("%d events before the end, want %d; %d clients", n, behind, s.events.listeners())
	}
	s.events.end(slow) // as the handler does
}

// TestManyClients has many clients ask at once.
func TestManyClients(t *testing.T) {
	m := newMemory()
	_, client, end := serve(t, m, 0)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			path := []string{"/networks", "/networks/web", "/containers/json", "/version", "/info"}[i%5]
			r, err := client.Get("http://d" + path)
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Body.Close()
			if _, err := io.Copy(io.Discard, r.Body); err != nil || r.StatusCode != 200 {
				t.Errorf("%s: %d, %v", path, r.StatusCode, err)
			}
		})
	}
	wg.Wait()
	if err := end(); err != nil {
		t.Error(err)
	}
}

// TestIdle has a server end when nothing was asked, and not while a client reads events.
func TestIdle(t *testing.T) {
	m := newMemory()
	s, client, end := serve(t, m, 50*time.Millisecond)
	r, err := client.Get("http://d/events")
	if err != nil {
		t.Fatal(err)
	}
	if s.idleFor(time.Minute, time.Now().Add(time.Hour)) {
		t.Error("a client reads events, and the server takes itself for idle")
	}
	r.Body.Close()
	client.CloseIdleConnections()
	for {
		if _, err := client.Get("http://d/_ping"); err != nil { //nolint:bodyclose // its end is what is waited for
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}
