package cni_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/cni"
	"dcni/pkg/cni/cnitest"
	"dcni/pkg/ipam"
	"dcni/pkg/mode/bridge"
	"dcni/pkg/mode/host"
	"dcni/pkg/mode/ipvlan"
	"dcni/pkg/mode/macvlan"
	"dcni/pkg/mode/names"
	"dcni/pkg/mode/none"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

const (
	noneConf  = `{"cniVersion": "1.1.0", "name": "none", "type": "dnone"%s}`
	namesConf = `{"cniVersion": "1.1.0", "name": "web", "type": "ddns"%s}`
	chained   = `, "prevResult": {"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/run/netns/c1"}], "ips": [{"address": "10.1.0.2/24", "interface": 0}]}`
)

// refusal is an error's code and text, "" for none.
func refusal(err error) string {
	if err == nil {
		return ""
	}
	coded := (*wire.Error)(nil)
	if !errors.As(err, &coded) {
		return err.Error()
	}
	return fmt.Sprint(coded.Code, " ", err)
}

// TestAddRefused: what ADD can't do it refuses before it changes anything.
func TestAddRefused(t *testing.T) {
	for name, c := range map[string]struct {
		plugin *network.Plugin
		conf   string
		change func(r *cni.Request)
		set    func(w *cnitest.World)
		want   string
	}{
		"an interface's name": {plugin: bridge.Plugin, conf: bridgeConf(""), change: func(r *cni.Request) { r.IfName = "all" }, want: `4 CNI_IFNAME "all": must be a link name`},
		"a relative path":     {plugin: bridge.Plugin, conf: bridgeConf(""), change: func(r *cni.Request) { r.NetNS = "netns/c1" }, want: `4 CNI_NETNS "netns/c1": must be an absolute path`},
		"the host's own":      {plugin: bridge.Plugin, conf: bridgeConf(""), change: func(r *cni.Request) { r.NetNS = "/proc/1/ns/net" }, want: `8 CNI_NETNS "/proc/1/ns/net": must not be the host's own network namespace`},
		"no sandbox":          {plugin: bridge.Plugin, conf: bridgeConf(""), set: func(w *cnitest.World) { w.Vanish("c1") }, want: `8 CNI_NETNS "/run/netns/c1": no such network namespace`},
		"long names":          {plugin: bridge.Plugin, conf: bridgeConf(""), change: func(r *cni.Request) { r.Container = strings.Repeat("c", 250) }, want: `4 name, CNI_CONTAINERID and CNI_IFNAME have 3, 250 and 4 bytes`},
		"a foreign interface": {plugin: bridge.Plugin, conf: bridgeConf(""), set: func(w *cnitest.World) {
			_, _ = w.Host.Ensure(&wire.SharedLink{Name: "eth0 netns /run/netns/c1", Kind: wire.KindDummy}) // named as the host in memory names what is in a sandbox
		}, want: `4 CNI_IFNAME "eth0": the sandbox has an interface of that name`},
		"a bad configuration": {plugin: bridge.Plugin, conf: bridgeConf(`"mtu": -1,`), want: "7 mtu -1"},
		"bad ports":           {plugin: bridge.Plugin, conf: bridgeConf(`"runtimeConfig": {"portMappings": 5},`), want: "7 runtimeConfig.portMappings"},
		"ports of a LAN": {plugin: macvlan.Plugin, conf: parentConf(`"runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 80}]},`, "10.1.0.0/24"),
			want: "2 runtimeConfig.portMappings 0.0.0.0:80->80/tcp: can't be published: "},
		"ipRanges of no interface": {plugin: none.Plugin, conf: fmt.Sprintf(noneConf, `, "runtimeConfig": {"ipRanges": [[{"subnet": "10.1.0.0/24"}]]}`), want: "2 ipRanges "},
		"ips of no interface":      {plugin: none.Plugin, conf: fmt.Sprintf(noneConf, `, "runtimeConfig": {"ips": ["10.1.0.2"]}`), want: "2 ips [10.1.0.2]: can't be had: network none gives a container no interface of its own"},
		"mac of no interface":      {plugin: none.Plugin, conf: fmt.Sprintf(noneConf, `, "runtimeConfig": {"mac": "02:42:00:00:00:01"}`), want: "2 mac 02:42:00:00:00:01: can't be had"},
		"mac of the host":          {plugin: host.Plugin, conf: `{"cniVersion": "1.1.0", "name": "host", "type": "dhost", "runtimeConfig": {"mac": "02:42:00:00:00:01"}}`, want: "2 mac 02:42:00:00:00:01: can't be had"},
		"mac of the parent's":      {plugin: ipvlan.Plugin, conf: `{"cniVersion": "1.1.0", "name": "lan", "type": "dipvlan", "parent": "eth0", "runtimeConfig": {"mac": "02:42:00:00:00:01"}}`, want: "2 mac 02:42:00:00:00:01: ipvlan interfaces"},
		"names behind nothing":     {plugin: names.Plugin, conf: fmt.Sprintf(namesConf, ""), want: "7 prevResult: missing; ddns comes behind a plugin that makes the interface"},
		"bad names":                {plugin: names.Plugin, conf: fmt.Sprintf(namesConf, `, "runtimeConfig": {"aliases": ["a b"]}`+chained), want: `7 runtimeConfig.aliases[0] "a b"`},
		"names twice": {plugin: names.Plugin, conf: fmt.Sprintf(namesConf, chained), set: func(w *cnitest.World) {
			before := &records.Record{Attachment: wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}, Plugin: "dbridge", State: records.Up, Info: network.Info{Names: true}}
			if err := w.Store.Put(before); err != nil {
				t.Fatal(err)
			}
		}, want: `7 names: a plugin before ddns in network web has the key "names" and sees to names already; give one of them`},
	} {
		w := cnitest.NewWorld(t, c.plugin)
		if c.set != nil {
			c.set(w)
		}
		before := w.State(t)
		r := w.Request(t, "c1", c.conf)
		if c.change != nil {
			c.change(r)
		}
		_, err := w.Engine.Add(r)
		if got := refusal(err); !strings.HasPrefix(got, c.want) || err == nil {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if after := w.State(t); after != before {
			t.Errorf("%s: ADD left\n%s\nof\n%s", name, after, before)
		}
	}
}

// TestAddSays: what is no error and yet not as asked for is told.
func TestAddSays(t *testing.T) {
	for name, c := range map[string]struct {
		plugin *network.Plugin
		conf   string
		want   string
	}{
		"nothing":         {bridge.Plugin, bridgeConf(""), ""},
		"another prefix":  {bridge.Plugin, bridgeConf(`"options": {"com.docker.network.container_iface_prefix": "lan"},`), `dbridge: com.docker.network.container_iface_prefix "lan": the runtime names the interface of web c1/eth0, and not so`},
		"the same prefix": {bridge.Plugin, bridgeConf(`"options": {"com.docker.network.container_iface_prefix": "et"},`), ""},
		"ports of none":   {none.Plugin, fmt.Sprintf(noneConf, `, "runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 80}]}`), "dnone: published ports are discarded: network none has none"},
		"none of none":    {none.Plugin, fmt.Sprintf(noneConf, ""), ""},
	} {
		w := cnitest.NewWorld(t, c.plugin)
		var log bytes.Buffer
		w.Engine.Log = &log
		if _, err := w.Engine.Add(w.Request(t, "c1", c.conf)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var rest []string // what dbridge switches on is told as well
		for line := range strings.Lines(log.String()) {
			if !strings.Contains(line, "switched on") {
				rest = append(rest, strings.TrimSpace(line))
			}
		}
		if got := strings.Join(rest, "\n"); got != c.want {
			t.Errorf("%s: says %q, want %q", name, got, c.want)
		}
	}
}

// TestAddTwice: what is attached is an error of a second ADD, and stays; DEL makes way.
func TestAddTwice(t *testing.T) {
	w := cnitest.NewWorld(t, bridge.Plugin)
	r := w.Request(t, "c1", bridgeConf(""))
	if _, err := w.Engine.Add(r); err != nil {
		t.Fatal(err)
	}
	before := w.State(t)
	_, err := w.Engine.Add(r)
	const want = `4 CNI_IFNAME "eth0": container c1 is attached to web by it; DEL comes first`
	if got := refusal(err); got != want || w.State(t) != before {
		t.Errorf("ADD again: %s, want %s; there is\n%s", got, want, w.State(t))
	}
	if err := w.Engine.Del(r); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Engine.Add(r); err != nil {
		t.Errorf("ADD after DEL: %v", err)
	}
}

// TestCheckRefused: CHECK tells what is wrong before it compares.
func TestCheckRefused(t *testing.T) {
	w := cnitest.NewWorld(t, bridge.Plugin)
	attached := w.Request(t, "c1", bridgeConf(""))
	if _, err := w.Engine.Add(attached); err != nil {
		t.Fatal(err)
	}
	const result = `"prevResult": {"cniVersion": "1.1.0", "ips": []},`
	for name, c := range map[string]struct {
		container, keys string
		change          func(r *cni.Request)
		want            string
	}{
		"without a result": {"c1", "", nil, "7 prevResult: missing; CHECK needs the result of ADD"},
		"of another":       {"c2", result, nil, "3 web c2/eth0 is not attached"},
		"a bad key":        {"c1", `"x": 1,` + result, nil, `7 unknown key "x"`},
		"bad ports":        {"c1", `"runtimeConfig": {"portMappings": 5},` + result, nil, "7 runtimeConfig.portMappings"},
		"another sandbox":  {"c1", result, func(r *cni.Request) { r.NetNS = "/run/netns/c2" }, `8 CNI_NETNS "/run/netns/c2": is another namespace than the one attached (/run/netns/c1)`},
		"the host's own":   {"c1", result, func(r *cni.Request) { r.NetNS = "/proc/1/ns/net" }, `8 CNI_NETNS "/proc/1/ns/net": must not be`},
		"without address":  {"c1", result, nil, "prevResult: address 10.1.0.2 of eth0 is missing"},
	} {
		r := w.Request(t, c.container, bridgeConf(c.keys))
		if c.change != nil {
			c.change(r)
		}
		if got := refusal(w.Engine.Check(r)); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// An away index can't be written.
type away struct {
	cni.Index
	dirs *[]string
}

func (a away) Probe(dirs ...string) error {
	*a.dirs = append(*a.dirs, dirs...)
	return a.Index.Probe(dirs...)
}

// TestStatus: STATUS tells what ADD would miss, with code 50, and asks for the place of leases
// where ADD would write some.
func TestStatus(t *testing.T) {
	fail := func(key string) func(w *cnitest.World) {
		return func(w *cnitest.World) {
			step := w.Host.Step
			w.Host.Step = func(op string, o wire.Object) error {
				if op == "probe" && o.Key() == key {
					return errors.New("no such kind of link")
				}
				return step(op, o)
			}
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		plugin *network.Plugin
		conf   string
		set    func(w *cnitest.World)
		leases bool
		want   string
	}{
		"none":      {plugin: none.Plugin, conf: fmt.Sprintf(noneConf, "")},
		"names":     {plugin: names.Plugin, conf: fmt.Sprintf(namesConf, "")},
		"a bridge":  {plugin: bridge.Plugin, conf: bridgeConf(""), leases: true},
		"a parent":  {plugin: macvlan.Plugin, conf: parentConf("", "10.1.0.0/24"), leases: true},
		"a bad key": {plugin: bridge.Plugin, conf: bridgeConf(`"x": 1,`), want: `7 unknown key "x"`},
		"no bridges": {plugin: bridge.Plugin, conf: bridgeConf(""), set: fail("link br-4b5e57f6eb2f"), leases: true,
			want: "50 network web can't be served: "},
		"no veth": {plugin: bridge.Plugin, conf: bridgeConf(""), set: fail((&wire.Veth{Name: wire.Attachment{Network: "web", Container: "example", IfName: "eth0"}.HostLink()}).Key()), leases: true,
			want: "50 network web can't be served: "},
		"a file for leases": {plugin: bridge.Plugin, conf: strings.Replace(bridgeConf(""), `"subnet"`, fmt.Sprintf(`"dataDir": %q, "subnet"`, filepath.Join(file, "below")), 1), leases: true,
			want: "50 network web can't be served: write below " + file},
		"another's subnet": {plugin: bridge.Plugin, conf: bridgeConf(""), leases: true, set: func(w *cnitest.World) {
			other := `{"cniVersion": "1.1.0", "name": "other", "type": "dbridge", "ipam": {"type": "dipam", "subnet": "10.1.0.0/16"}}`
			if _, err := w.Engine.Add(w.Request(t, "c1", other)); err != nil {
				t.Fatal(err)
			}
		}, want: "50 network web can't be served: invalid pool request"},
		"no address": {plugin: bridge.Plugin, conf: strings.Replace(bridgeConf(""), "10.1.0.0/24", "10.1.0.0/30", 1), leases: true, set: func(w *cnitest.World) {
			if _, err := w.Engine.Add(w.Request(t, "c1", strings.Replace(bridgeConf(""), "10.1.0.0/24", "10.1.0.0/30", 1))); err != nil {
				t.Fatal(err)
			}
		}},
		"of a pool": {plugin: bridge.Plugin, conf: `{"cniVersion": "1.1.0", "name": "web", "type": "dbridge"}`, leases: true},
		"a pool's part": {plugin: bridge.Plugin, conf: `{"cniVersion": "1.1.0", "name": "web", "type": "dbridge"}`, leases: true, set: func(w *cnitest.World) {
			if _, err := w.Engine.Add(w.Request(t, "c1", `{"cniVersion": "1.1.0", "name": "web", "type": "dbridge"}`)); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		w := cnitest.NewWorld(t, c.plugin)
		if c.set != nil {
			c.set(w)
		}
		var dirs []string
		w.Engine.Index = away{w.Engine.Index, &dirs}
		before := w.State(t)
		if got := refusal(w.Engine.Status(w.Request(t, "", c.conf))); !strings.HasPrefix(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if (len(dirs) == 1) != c.leases && !strings.HasPrefix(c.want, "7") || w.State(t) != before {
			t.Errorf("%s: asks for leases in %v, and there is\n%s", name, dirs, w.State(t))
		}
	}
}

// TestFollowed: the container's connections are looked at after a runtime's DEL that
// succeeded, and after no other.
func TestFollowed(t *testing.T) {
	for by, want := range map[string]int{"": 1, "cni": 1, "dnet": 0, "connect": 0} {
		w := cnitest.NewWorld(t, bridge.Plugin)
		followed := 0
		w.Engine.Follow = func(gone wire.Attachment, netns string) {
			if gone.Container == "c1" && netns == "/run/netns/c1" {
				followed++
			}
		}
		r := w.Request(t, "c1", bridgeConf(""))
		r.Args["DNET_CREATOR"] = by
		if _, err := w.Engine.Add(r); err != nil {
			t.Fatal(err)
		}
		if rec, err := w.Store.Get(r.Attachment, "dbridge"); err != nil || (rec.Creator == records.ByCNI) != (want == 1) {
			t.Errorf("made by %q: %+v, %v", by, rec, err)
		}
		w.FailAt(1, func() { _ = w.Engine.Del(r) })
		if followed > 0 {
			t.Errorf("made by %q: followed after a DEL that failed", by)
		}
		if err := w.Engine.Del(r); err != nil || followed != want {
			t.Errorf("made by %q: %v, followed %d times", by, err, followed)
		}
	}
}

// TestHealScope: only what is asked for is healed, once.
func TestHealScope(t *testing.T) {
	beta := func(keys string) string {
		return strings.NewReplacer(`"web"`, `"beta"`, "10.1.0", "10.2.0").Replace(bridgeConf(keys))
	}
	c1, b1 := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}, wire.Attachment{Network: "beta", Container: "b1", IfName: "eth0"}
	for name, c := range map[string]struct {
		scope cni.Scope
		want  []string // what is healed: networks, and containers
	}{
		"all":                {cni.Scope{}, []string{"beta", "beta b1", "web", "web c1", "web c2"}},
		"a network":          {cni.Scope{Networks: []string{"web"}}, []string{"web", "web c1", "web c2"}},
		"no such network":    {cni.Scope{Networks: []string{"lab"}}, nil},
		"an attachment":      {cni.Scope{Attachments: []wire.Attachment{c1}}, []string{"web c1"}},
		"both":               {cni.Scope{Networks: []string{"web"}, Attachments: []wire.Attachment{c1, b1}}, []string{"beta b1", "web", "web c1", "web c2"}},
		"no such attachment": {cni.Scope{Attachments: []wire.Attachment{{Network: "web", Container: "c9", IfName: "eth0"}}}, nil},
	} {
		w := cnitest.NewWorld(t, bridge.Plugin)
		for container, conf := range map[string]string{"c1": bridgeConf(""), "c2": bridgeConf(""), "b1": beta("")} {
			if _, err := w.Engine.Add(w.Request(t, container, conf)); err != nil {
				t.Fatal(err)
			}
		}
		empty := filepath.Join(w.Store.Run, "attachments", "web", "dead", "eth0") // of an ADD that died
		if err := os.MkdirAll(empty, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, key := range w.Host.Keys() {
			if strings.HasPrefix(name, "an attachment") && !strings.Contains(key, "netns") {
				continue // what others share is there
			}
			w.Host.Lose(key)
		}
		var healed []string
		err := w.Engine.Heal(c.scope, func(e wire.HealEvent) {
			healed = append(healed, strings.TrimSpace(e.Network+" "+e.Container))
		})
		slices.Sort(healed)
		if healed = slices.Compact(healed); !slices.Equal(healed, c.want) || err != nil {
			t.Errorf("%s: healed %q, %v, want %q", name, healed, err, c.want)
		}
		_, gone := os.Stat(empty)
		if swept := len(c.scope.Attachments) == 0 && name != "no such network" || name == "both"; swept != errors.Is(gone, os.ErrNotExist) {
			t.Errorf("%s: an empty directory is gone: %v", name, gone)
		}
	}
}

// TestGCReplacesLost: GC writes down what is known of a valid attachment whose record can't be
// read, unless a verb is at work on it or a newer version wrote it.
func TestGCReplacesLost(t *testing.T) {
	for name, c := range map[string]struct {
		text   string
		locked bool
		lost   bool
	}{
		"foreign": {text: "{", lost: true},
		"locked":  {text: "{", locked: true},
		"newer":   {text: `{"version": 99}`},
	} {
		w := cnitest.NewWorld(t, bridge.Plugin)
		r := w.Request(t, "c1", bridgeConf(""))
		if _, err := w.Engine.Add(r); err != nil {
			t.Fatal(err)
		}
		machine := w.Host.String()
		path := filepath.Join(w.Store.Run, "attachments/web/c1/eth0/dbridge.json")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if c.locked {
			lock, err := w.Store.LockAttachment(r.Attachment)
			if err != nil {
				t.Fatal(err)
			}
			defer lock.Unlock()
		}
		gc := bridgeConf(`"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}],`)
		if err := w.Engine.GC(w.Request(t, "", gc)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		text, err := os.ReadFile(path)
		var now records.Record
		if err != nil || (string(text) == c.text) == c.lost || c.lost && (json.Unmarshal(text, &now) != nil || now.State != records.Lost) {
			t.Errorf("%s: the record is %s, %v", name, text, err)
		}
		if after := w.Host.String(); after != machine {
			t.Errorf("%s: there is\n%s\nand was\n%s", name, after, machine)
		}
	}
}

// TestRangesOfRuntime: an address of a range that only the runtime names comes with that
// range's subnet and gateway. Where the network has subnets, it is of one of them.
func TestRangesOfRuntime(t *testing.T) {
	const open = `{"cniVersion": "1.1.0", "name": "web", "type": "dbridge", %s "ipam": {"type": "dipam"}}`
	for ranges, c := range map[string]struct{ conf, want string }{
		`{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.40"}`: {bridgeConf("%s"), "10.1.0.40/24 by 10.1.0.1"},
		`{"subnet": "10.9.0.0/24", "gateway": "10.9.0.254"}`:   {open, "10.9.0.1/24 by 10.9.0.254"},
		`{"subnet": "10.9.0.0/24"}`:                            {bridgeConf("%s"), `7 runtimeConfig.ipRanges "10.9.0.0/24": must be of a subnet of the network`},
	} {
		w, want := cnitest.NewWorld(t, bridge.Plugin), c.want
		before := w.State(t)
		r := w.Request(t, "c1", strings.Replace(c.conf, "%s", `"runtimeConfig": {"ipRanges": [[`+ranges+`]]},`, 1))
		result, err := w.Engine.Add(r)
		if err != nil {
			if refusal(err) != want || w.State(t) != before {
				t.Errorf("%s: %v, want %s; there is\n%s", ranges, err, want, w.State(t))
			}
			continue
		}
		if got := fmt.Sprint(result.IPs[0].Address.String(), " by ", result.IPs[0].Gateway); got != want || len(result.IPs) != 1 {
			t.Errorf("%s: %s, want %s", ranges, got, want)
		}
		rec, err := w.Store.Get(r.Attachment, "dbridge")
		if err != nil || !slices.ContainsFunc(rec.Subnets, func(s ipam.Subnet) bool { return s.Prefix.Contains(rec.Addresses[0].Address.Addr()) }) {
			t.Errorf("%s: subnets %v, %v", ranges, rec.Subnets, err)
		}
		if n := len(rec.Subnets); n != strings.Count(want, "10.9")/2+1 {
			t.Errorf("%s: %d subnets: %v", ranges, n, rec.Subnets)
		}
	}
}

// TestGCSweeps: GC gives back what is leased to attachments that are not on record, removes
// the empty directories of their verbs, and lets go of their locks.
func TestGCSweeps(t *testing.T) {
	w := cnitest.NewWorld(t, bridge.Plugin)
	r := w.Request(t, "c1", bridgeConf(""))
	if _, err := w.Engine.Add(r); err != nil {
		t.Fatal(err)
	}
	if err := w.Store.Delete(r.Attachment, "dbridge"); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(w.Store.Run, "attachments", "web", "c1", "eth0")
	if err := os.MkdirAll(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := w.Engine.GC(w.Request(t, "", bridgeConf(`"cni.dev/valid-attachments": [],`))); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(empty); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the empty directory is there: %v", err)
	}
	if after := w.State(t); strings.Contains(after, "c1/eth0") {
		t.Errorf("left:\n%s", after)
	}
	lock, free, err := w.Store.TryLockAttachment(r.Attachment)
	if !free || err != nil {
		t.Errorf("its lock is free: %t, %v", free, err)
	}
	lock.Unlock()
}

// TestAnnouncedFirst: an interface whose address may have been another MAC's tells its
// neighbours as it comes up, so it is set to before.
func TestAnnouncedFirst(t *testing.T) {
	for keys, want := range map[string]bool{
		"": false, `"runtimeConfig": {"ips": ["10.1.0.77"]},`: true, `"runtimeConfig": {"mac": "02:42:00:00:00:77"},`: true,
	} {
		w := cnitest.NewWorld(t, bridge.Plugin)
		var order []string
		w.Host.After = func(op string, o wire.Object) error {
			if text := o.String(); op == "ensure" && (strings.HasPrefix(text, "link eth0 up") || strings.Contains(text, "eth0/arp_notify")) {
				order = append(order, text)
			}
			return nil
		}
		if _, err := w.Engine.Add(w.Request(t, "c1", bridgeConf(keys))); err != nil {
			t.Fatal(err)
		}
		if len(order) != 2 || strings.Contains(order[0], "arp_notify") != want {
			t.Errorf("%s: in the order %q", keys, order)
		}
	}
}

// TestNamesWithoutAddress: a plugin for names works behind one that gives no address.
func TestNamesWithoutAddress(t *testing.T) {
	w := cnitest.NewWorld(t, names.Plugin)
	conf := func(result string) *cni.Request {
		return w.Request(t, "c1", fmt.Sprintf(namesConf, `, "prevResult": `+result))
	}
	result, err := w.Engine.Add(conf(`{"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/run/netns/c1"}]}`))
	if err != nil || len(result.IPs) != 0 || len(result.Interfaces) != 1 || len(result.DNS.Nameservers) != 1 {
		t.Fatalf("%+v, %v", result, err)
	}
	if err := w.Engine.Check(conf(`{"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/run/netns/c1"}], "dns": {"nameservers": ["127.0.0.11"]}}`)); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	if got := refusal(w.Engine.Check(conf(`{"cniVersion": "1.1.0", "dns": {"nameservers": ["192.0.2.53"]}}`))); got != "7 prevResult: name server 127.0.0.11 is missing" {
		t.Errorf("CHECK of a result without the name server: %s", got)
	}
}

// TestRoutesOfResult: a route of the configuration is in the result with all that it says.
func TestRoutesOfResult(t *testing.T) {
	w := cnitest.NewWorld(t, bridge.Plugin)
	conf := strings.Replace(bridgeConf(""), `"subnet"`, `"routes": [{"dst": "10.9.0.0/16", "gw": "10.1.0.3", "table": 7, "scope": 0, "mtu": 1400, "priority": 5}, {"dst": "10.8.0.0/16"}], "subnet"`, 1)
	result, err := w.Engine.Add(w.Request(t, "c1", conf))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range result.Routes {
		text := fmt.Sprint(r.Dst.String(), " via ", r.GW, " mtu ", r.MTU)
		if r.Table != nil {
			text += fmt.Sprint(" table ", *r.Table)
		}
		if r.Scope != nil {
			text += fmt.Sprint(" scope ", *r.Scope)
		}
		got = append(got, text)
	}
	slices.Sort(got)
	if want := []string{"0.0.0.0/0 via 10.1.0.1 mtu 0", "10.8.0.0/16 via 10.1.0.1 mtu 0", "10.9.0.0/16 via 10.1.0.3 mtu 1400 table 7 scope 0"}; !slices.Equal(got, want) {
		t.Errorf("routes %q, want %q", got, want)
	}
}

// TestGCOfOthersRecords: what dnet attached and is on record keeps its address, and an address
// without a record is given back beside it.
func TestGCOfOthersRecords(t *testing.T) {
	w := cnitest.NewWorld(t, bridge.Plugin)
	for container, by := range map[string]string{"c1": "dnet", "c2": "cni"} {
		r := w.Request(t, container, bridgeConf(""))
		r.Args["DNET_CREATOR"] = by
		if _, err := w.Engine.Add(r); err != nil {
			t.Fatal(err)
		}
		if container == "c2" {
			if err := w.Store.Delete(r.Attachment, "dbridge"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Engine.GC(w.Request(t, "", bridgeConf(`"cni.dev/valid-attachments": [],`))); err != nil {
		t.Fatal(err)
	}
	if after := w.State(t); !strings.Contains(after, "-> c1/eth0@") || strings.Contains(after, "-> c2/eth0@") {
		t.Errorf("after GC:\n%s", after)
	}
}

// TestMTU: an interface has the MTU of the configuration, or that of the default route.
func TestMTU(t *testing.T) {
	for keys, want := range map[string]int{"": 1500, `"mtu": 1400,`: 1400} {
		w := cnitest.NewWorld(t, bridge.Plugin)
		result, err := w.Engine.Add(w.Request(t, "c1", bridgeConf(keys)))
		if err != nil || result.Interfaces[2].Mtu != want {
			t.Errorf("%s: %v, %v; want %d", keys, result, err, want)
		}
	}
}

// TestSharedOnRecord: the record of a sandbox that shares a namespace says which, and where
// that is.
func TestSharedOnRecord(t *testing.T) {
	w := cnitest.NewWorld(t, host.Plugin)
	r := w.Request(t, "c1", `{"cniVersion": "1.1.0", "name": "host", "type": "dhost"}`)
	if _, err := w.Engine.Add(r); err != nil {
		t.Fatal(err)
	}
	if rec, err := w.Store.Get(r.Attachment, "dhost"); err != nil || rec.Target == 0 || rec.Target == rec.Cookie || rec.Source != network.HostNetNS {
		t.Errorf("%+v, %v", rec, err)
	}
}
