package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"dcni/pkg/network"
	"dcni/pkg/records"
)

// TestRunRefuses has the errors of `dnet run` that come before there is a
// container. Nothing is recorded.
func TestRunRefuses(t *testing.T) {
	f := newFixture(t)
	someNetworks(f)
	f.plugin("dbridge", "")
	f.plugin("dipam", "")
	f.host.donors = []network.Donor{{Container: "aa", Names: []string{"c1"}, State: network.Exited}}
	f.network("30-nameless.conflist", `{"cniVersion": "1.0.0", "name": "odd", "plugins": [{"type": "dbridge", "gwPriority": "high"}]}`)
	f.plugin("dcontainer", "")
	f.network("31-joined.conflist", `{"cniVersion": "1.0.0", "name": "joined", "plugins": [{"type": "dcontainer", "container": "web1"}]}`)
	for line, want := range map[string]string{
		"--network joined -p 80:80 true":                      "network joined is that of another container: use dnet run --network container:web1\n",
		"--network nosuch true":                               "network nosuch not found\n",
		"--network '' true":                                   "network name/id is not specified\n",
		"--network container:c1 true":                         "cannot join network namespace of a non running container: container c1 is exited\n",
		"--network container:nosuch true":                     "joining network namespace of container: No such container: nosuch\n",
		"--network container: true":                           "invalid network mode: invalid container format container:<name|id>\n",
		"--network container:me --name me true":               "cannot join own network namespace\n",
		"--network container:c1 -p 8080:80 true":              "conflicting options: port publishing and the container type network mode\n",
		"--network container:c1 --network net2 true":          "conflicting options: cannot attach both user-defined and non-user-defined network-modes\n",
		"--network net2 --network net2 true":                  "network \"net2\" is specified multiple times\n",
		"--network net2 --network 2daa9a9645f3 true":          "network \"net2\" is specified multiple times\n",
		"--network net2 --network 17f29b073143 true":          "conflicting options: cannot attach both user-defined and non-user-defined network-modes\n",
		"--network name=vlan9,gw-priority=1 true":             "network vlan9: gw-priority needs a network of dcni, not of vlan\nnetwork vlan9: failed to find plugin \"vlan\" in path [DIR/bin]\n",
		"--network odd true":                                  "network odd: json: cannot unmarshal string into Go struct field .gwPriority of type int\n",
		"--network vlan9 true":                                "network vlan9: failed to find plugin \"vlan\" in path [DIR/bin]\n",
		"--network web true":                                  "network web: failed to find plugin \"ddns\" in path [DIR/bin]\n",
		"--network foreign true":                              "network foreign: failed to find plugin \"bridge\" in path [DIR/bin]\n",
		"--ip 10.1.0.5 true":                                  "user specified IP address is supported on user defined networks only\n",
		"--net-alias a true":                                  "network-scoped aliases are only supported for user-defined networks\n",
		"--mac-address 02 true":                               "02 is not a valid mac address\n",
		"--network net2 --mac-address 01:00:5e:00:00:01 true": "mac-address 01:00:5e:00:00:01: must be a unicast Ethernet address, as 02:42:ac:11:00:02\n",
		"--network net2 --net-alias a!b true":                 "alias \"a!b\": must be a domain name: labels of 1 to 63 letters, digits, - and _, joined by dots, 253 bytes at most\n",
		"--name a true":                                       "Invalid container name (a), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed\n",
		"-h a! true":                                          "invalid hostname: \"a!\": ...",
		"-w here true":                                        "the working directory 'here' is invalid, it needs to be an absolute path\n",
		"-e =x true":                                          "invalid environment variable: =x\n",
		"-p x:80 true":                                        "invalid hostPort: x\n",
		"--add-host x true":                                   "invalid argument \"x\" for \"--add-host\" flag: bad format for add-host: \"x\"\n",
		"--dns x true":                                        "invalid argument \"x\" for \"--dns\" flag: IP address is not correctly formatted: x\n",
		"--dns-search 'a b' true":                             "invalid argument \"a b\" for \"--dns-search\" flag: a b is not a valid domain\n",
	} {
		f.check([]call{{"run " + line, 125, "", "dnet: " + want}})
	}
	f.check([]call{
		{"run -it true", 1, "", "dnet: the input device is not a TTY\n"},
		{"run --nosuch true", 125, "", "dnet: unknown flag: --nosuch\n..."},
		{"run --help", 0, "Run a command in a network sandbox of its own, on the host's file system\n...", ""},
	})
	if list, err := f.store.Containers(); err != nil || len(list) != 0 {
		t.Errorf("containers are %v, %v", list, err)
	}
}

// request parses the flags of a `dnet run` and returns the attachments that it
// would make, and what it prints.
func (f *fixture) request(flags string) (list []records.Attachment, stderr string) {
	f.t.Helper()
	a := *f.app
	file, err := os.Create(f.dir + "/stderr")
	f.must(err)
	defer file.Close()
	a.stderr = file
	o := &runOptions{}
	cmd := &cobra.Command{Run: func(*cobra.Command, []string) {}}
	o.declare(cmd)
	cmd.SetArgs(append(words(flags), "true"))
	f.must(cmd.Execute())
	spec, err := o.Parse()
	f.must(err)
	requests, err := a.networkRequests(spec)
	f.must(err)
	for i, r := range requests {
		at, err := r.attachment(argsOf(&records.Container{ID: idWeb, Name: "shop", Hostname: "front"}, records.ByDnet), "eth"+string(rune('0'+i)), a.pluginPath())
		f.must(err)
		list = append(list, at)
	}
	data, err := os.ReadFile(file.Name())
	f.must(err)
	return list, string(data)
}

// TestRequests has what plugins are told: as capabilities those that they have,
// else in CNI_ARGS.
func TestRequests(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{"dbridge", "dipam", "dnone", "vlan", "portmap"} {
		f.plugin(name, "")
	}
	f.network("10-lab.conflist", `{"cniVersion": "1.0.0", "name": "lab", "plugins": [
	  {"type": "dbridge", "capabilities": {"ips": true, "mac": true, "aliases": true, "portMappings": true}}]}`)
	f.network("11-inner.conflist", `{"cniVersion": "1.0.0", "name": "inner", "plugins": [{"type": "dbridge", "internal": true, "capabilities": {"portMappings": true}}]}`)
	f.network("12-first.conflist", `{"cniVersion": "1.0.0", "name": "first", "plugins": [{"type": "dbridge", "gwPriority": 5}, {"type": "portmap", "capabilities": {"portMappings": true}}]}`)
	f.network("13-foreign.conflist", `{"cniVersion": "1.0.0", "name": "foreign", "plugins": [{"type": "vlan"}]}`)
	const none, warning = "[]", "WARNING: Published ports are discarded"
	const port = `[{"containerPort":80,"hostPort":8080,"protocol":"tcp"}]`
	for _, c := range []struct {
		flags  string
		values []string // of each network
		args   string   // those of the first one that no other has
		stderr string
	}{
		{flags: "", values: []string{"bridge portMappings=" + none}},
		{flags: "--network lab --net inner", values: []string{"lab portMappings=" + none, "inner portMappings=" + none}},
		{flags: "-p 8080:80", values: []string{"bridge portMappings=" + port}},
		{flags: "--network none -p 8080:80", values: []string{"none portMappings=" + port}, stderr: warning + ": network none has none\n"},
		{flags: "--network host -p 8080:80", stderr: "WARNING: Published ports are discarded when using host network mode\n"},
		{flags: "--network 4740ae6347b0"}, // host, by the beginning of its ID
		{
			flags:  "--network lab --ip 10.1.0.5 --ip6 fd00::5 --mac-address 02-00-00-00-00-0A --network-alias a --net-alias b",
			values: []string{`lab aliases={"lab":["a","b"]} ips=["10.1.0.5","fd00::5"] mac="02:00:00:00:00:0a" portMappings=[]`},
		},
		{
			flags:  "--network name=foreign,ip=10.1.0.5,ip6=fd00::5,mac-address=02:00:00:00:00:0a",
			values: []string{`foreign mac="02:00:00:00:00:0a" portMappings=[]`}, args: "IP=10.1.0.5 IP=fd00::5 MAC=02:00:00:00:00:0a",
		},
		{
			flags:  "--network lab --dns 10.1.0.53 --dns-search example.com --dns-option ndots:2 --dns-opt use-vc",
			values: []string{`lab dns={"servers":["10.1.0.53"],"searches":["example.com"],"options":["ndots:2","use-vc"]} portMappings=[]`},
		},
		// the gateway network publishes
		{flags: "-p 8080:80 --network inner --network lab", values: []string{"inner portMappings=" + none, "lab portMappings=" + port}},
		{flags: "-p 8080:80 --network lab --network first", values: []string{"lab portMappings=" + none, "first portMappings=" + port}},
		// and that of the default route, if an internal one comes first
		{flags: "-p 8080:80 --network lab --network name=inner,gw-priority=9", values: []string{"lab portMappings=" + port, "inner portMappings=" + port}},
		{
			flags:  "-p 127.0.0.1:8080:80/udp --network foreign",
			values: []string{`foreign portMappings=[{"containerPort":80,"hostIP":"127.0.0.1","hostPort":8080,"protocol":"udp"}]`},
			stderr: warning + ": no plugin of network foreign has the capability portMappings\n",
		},
	} {
		list, stderr := f.request(c.flags)
		var values []string
		for _, at := range list {
			values = append(values, at.Network+showValues(t, at))
		}
		if got, want := strings.Join(values, "\n"), strings.Join(c.values, "\n"); got != want || stderr != c.stderr {
			t.Errorf("run %s:\n%s\n%s, want\n%s\n%s", c.flags, got, stderr, want, c.stderr)
		}
		if len(list) == 0 {
			continue
		}
		var args []string
		for _, kv := range list[0].Args {
			args = append(args, kv[0]+"="+kv[1])
		}
		if got, want := strings.Join(args, " "), strings.TrimSpace("IgnoreUnknown=1 DNET_CREATOR=dnet DNET_NAME=shop DNET_HOSTNAME=front "+c.args); got != want {
			t.Errorf("run %s: CNI_ARGS are %s, want %s", c.flags, got, want)
		}
	}
	// The priority is the container's own: it is in its copy of the configuration.
	list, _ := f.request("--network name=lab,gw-priority=7 --network inner")
	if lab, inner := string(list[0].Conf), string(list[1].Conf); !strings.Contains(lab, `"gwPriority":7`) || strings.Contains(inner, "gwPriority") {
		t.Errorf("configurations are\n%s\n%s", lab, inner)
	}
	if at := list[1]; at.IfName != "eth1" || len(at.Path) != 1 || at.Path[0] != f.dir+"/bin" {
		t.Errorf("the second attachment is %+v", at)
	}
}

// showValues shows the capabilities' values, in the order of their names.
func showValues(t *testing.T, at records.Attachment) string {
	t.Helper()
	data, err := json.Marshal(at.Values) // sorts them
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(data, &values); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, name := range []string{"aliases", "dns", "ips", "mac", "portMappings"} {
		if v, ok := values[name]; ok {
			out.WriteString(" " + name + "=" + string(v))
			delete(values, name)
		}
	}
	if len(values) > 0 {
		t.Errorf("values that the test does not know: %v", values)
	}
	return out.String()
}

// TestPluginPath wants CNI_PATH, or else the usual directory and dnet's own.
func TestPluginPath(t *testing.T) {
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	own = own[:strings.LastIndexByte(own, '/')]
	for path, want := range map[string]string{"": pluginDir + " " + own, "/a:/b": "/a /b"} {
		a := &app{env: []string{"CNI_PATH=" + path}}
		if got := strings.Join(a.pluginPath(), " "); got != want {
			t.Errorf("CNI_PATH=%s: %s, want %s", path, got, want)
		}
	}
}

// TestNameTaken has Docker's sentence.
func TestNameTaken(t *testing.T) {
	others := []*records.Container{{ID: idWeb, Name: "web"}, {ID: idOld, Name: "old"}}
	if err := nameTaken(&records.Container{ID: "3", Name: "new"}, others); err != nil {
		t.Error(err)
	}
	want := `Conflict. The container name "/old" is already in use by container "` + idOld + `". You have to remove (or rename) that container to be able to reuse that name.`
	if err := nameTaken(&records.Container{ID: "3", Name: "old"}, others); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
