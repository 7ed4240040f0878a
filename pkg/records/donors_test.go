package records

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// lines says what is known of each container.
func lines(list []network.Donor) string {
	var b strings.Builder
	for _, d := range list {
		fmt.Fprintf(&b, "%s %v %s", d.Container, d.Names, d.State)
		for _, n := range d.Namespaces {
			fmt.Fprintf(&b, " %s/%d/%d", n.Path, n.Cookie, n.Start)
			if n.Addresses != nil {
				fmt.Fprint(&b, n.Addresses)
			}
		}
		for _, a := range d.Attachments {
			fmt.Fprintf(&b, " %s/%s=%s", a.Network, a.IfName, a.Result)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestDonors(t *testing.T) {
	s := Store{Run: t.TempDir(), Lib: t.TempDir()}
	put := func(r Record) {
		t.Helper()
		if err := s.Put(&r); err != nil {
			t.Fatal(err)
		}
	}
	at := func(network, container string) wire.Attachment {
		return wire.Attachment{Network: network, Container: container, IfName: "eth0"}
	}
	put(Record{Attachment: at("web", "c1"), Plugin: "dbridge", State: Up, NetNS: "/run/netns/c1", Cookie: 7, Name: "db", Result: json.RawMessage(`"own"`)})
	put(Record{Attachment: at("web", "c1"), Plugin: "ddns", State: Up, NetNS: "/run/netns/c1", Cookie: 7, Result: json.RawMessage(`"whole"`)})
	put(Record{Attachment: at("web", "c2"), Plugin: "dbridge", State: Adding, NetNS: "/run/netns/c2", Cookie: 8})
	put(Record{Attachment: at("web", "c3"), Plugin: "dbridge", State: Deleting, NetNS: "/run/netns/c3", Cookie: 9})
	put(Record{Attachment: at("joined", "c4"), Plugin: "dcontainer", State: Up, NetNS: "/run/netns/c4", Cookie: 10, Target: 7, Source: "/run/netns/c1", Donor: "c1"})
	for _, c := range []Container{
		{ID: "d1", Name: "up", Stage: Running, Process: Process{PID: 12, Start: 99}, Donor: "c1"},
		{ID: "d2", Name: "ended", Stage: Exited, Process: Process{PID: 13, Start: 98}},
		{ID: "d3", Name: "soon", Stage: Created},
	} {
		if err := s.PutContainer(&c); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Donors()
	if err != nil {
		t.Fatal(err)
	}
	want := `c1 [db] exited /run/netns/c1/7/0 web/eth0="whole"
c2 [] created
c3 [] exited
c4 [] exited /run/netns/c1/7/0 joined/eth0=
d1 [up] exited /proc/12/ns/net/0/99 web/eth0="whole"
d2 [ended] exited
d3 [soon] created
`
	if lines(got) != want {
		t.Errorf("got\n%swant\n%s", lines(got), want)
	}
}

// What libcni has kept, of any version, beside files that are none of its or can't be
// read. Of what our records tell of, it has no more to tell.
func TestKeptDonors(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const kept = `{"kind": "cniCacheV1", "containerId": %q, "networkName": "lab", "ifName": "eth0", %s}`
	write("new", fmt.Sprintf(kept, "a1", `"netns": "/run/netns/a1", "cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAME", "shop"], ["DNET_NAME", "own"], ["DNET_NAME", "shop"], ["DNET_NAME", ""]], "result": {"ips": []}`))
	write("old", fmt.Sprintf(kept, "a2", `"result": {"interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/run/netns/a2"}]}`))
	write("given", fmt.Sprintf(kept, "a8", `"netns": "/run/netns/a8", "result": {"ips": [{"address": "127.0.0.1/8"}, {"address": "10.0.0.2/24"}, {"address": "fd00::2/64"}, {"address": "x"}]}`))
	write("cni 0.2", fmt.Sprintf(kept, "a9", `"netns": "/run/netns/a9", "result": {"ip4": {"ip": "10.0.0.3/24"}}`))
	write("nowhere", fmt.Sprintf(kept, "a3", `"result": {"interfaces": [{"name": "br0", "sandbox": "vm-7"}]}`))
	write("odd", fmt.Sprintf(kept, "a4", `"result": {"interfaces": "none"}`))
	write("ours", fmt.Sprintf(kept, "c3", `"netns": "/run/netns/c3"`))
	write("foreign", `{"kind": "other", "containerId": "a5", "netns": "/run/netns/a5"}`)
	write("nameless", fmt.Sprintf(kept, "", `"netns": "/run/netns/a5"`))
	write("broken", `{"kind": "cniCacheV1", "containerId": `)
	write("args", fmt.Sprintf(kept, "a6", `"netns": "/run/netns/a6", "cniArgs": 5`))
	write("large", fmt.Sprintf(kept, "a7", `"netns": "/run/netns/a7", "config": "`+strings.Repeat("x", maxKept)+`"`))
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	all := donors{at: map[string]int{}, recorded: map[wire.Attachment]bool{}}
	all.record(&Record{Attachment: wire.Attachment{Network: "lab", Container: "c3", IfName: "eth0"}, State: Deleting})
	all.kept(dir)
	all.kept(filepath.Join(dir, "nosuch"))
	got := map[string]bool{}
	for line := range strings.Lines(lines(all.list)) {
		got[strings.TrimSuffix(line, "\n")] = true
	}
	for _, want := range []string{
		`a1 [shop own] exited /run/netns/a1/0/0 lab/eth0={"ips": []}`,
		`a2 [] exited /run/netns/a2/0/0 lab/eth0={"interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/run/netns/a2"}]}`,
		`a8 [] exited /run/netns/a8/0/0[10.0.0.2 fd00::2] lab/eth0={"ips": [{"address": "127.0.0.1/8"}, {"address": "10.0.0.2/24"}, {"address": "fd00::2/64"}, {"address": "x"}]}`,
		`a9 [] exited /run/netns/a9/0/0[10.0.0.3] lab/eth0={"ip4": {"ip": "10.0.0.3/24"}}`,
		`a3 [] exited`, `a4 [] exited`, `c3 [] exited`,
	} {
		if !got[want] {
			t.Errorf("missing: %s", want)
		}
		delete(got, want)
	}
	for line := range got {
		t.Errorf("not to be there: %s", line)
	}
}

// TestConnectedDonors: a network that dnet connected a container to counts once it is up, and
// if no record tells of it.
func TestConnectedDonors(t *testing.T) {
	s := Store{Run: t.TempDir(), Lib: t.TempDir()}
	web := wire.Attachment{Network: "web", Container: "c1", IfName: "eth1"}
	if err := s.Put(&Record{Attachment: web, Plugin: "dbridge", State: Up, NetNS: "/ns", Cookie: 7, Result: json.RawMessage(`"ours"`)}); err != nil {
		t.Fatal(err)
	}
	for i, network := range []string{"web", "lab", "half"} {
		c := connection(network, i)
		c.NetNS, c.Cookie, c.Up, c.Result = "/ns", 7, network != "half", json.RawMessage(`"of `+network+`"`)
		if err := s.PutConnection(c); err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.Donors()
	if err != nil {
		t.Fatal(err)
	}
	const want = "c1 [] exited /ns/7/0 /ns/7/0 web/eth1=\"ours\" lab/eth1=\"of lab\"\n"
	if got := lines(list); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
}

// TestWholeResults: a chained plugin has the result of the whole chain once its record is up.
func TestWholeResults(t *testing.T) {
	a := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
	first := &Record{Attachment: a, Plugin: "dbridge", State: Up, Result: []byte("1")}
	for state, want := range map[State]string{Up: "2", Adding: "1", Deleting: "1"} {
		list := wholeResults([]*Record{first, {Attachment: a, Plugin: "ddns", State: state, Result: []byte("2")}})
		if len(list) != 1 || string(list[0].Result) != want || string(first.Result) != "1" {
			t.Errorf("chained and %s: %+v, want the result %s", state, list, want)
		}
	}
}
