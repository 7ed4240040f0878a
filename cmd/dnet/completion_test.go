package main

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"dcni/pkg/records"
	"dcni/pkg/service"
)

// TestExamples: each command that people type says how, and the examples name commands that
// there are.
func TestExamples(t *testing.T) {
	root := (&app{}).command()
	var all func(c *cobra.Command)
	all = func(c *cobra.Command) {
		for _, one := range c.Commands() {
			if one.Hidden || one.Name() == "help" || one.Name() == "completion" {
				continue
			}
			if one.Example == "" {
				t.Errorf("%s has no example", one.CommandPath())
			}
			for line := range strings.Lines(one.Example) {
				words := strings.Fields(line)
				if found, _, err := root.Find(words[1:]); words[0] != "dnet" || err != nil || found == root {
					t.Errorf("%s: example %q: %v", one.CommandPath(), line, err)
				}
			}
			all(one)
		}
	}
	all(root)
	for name := range examples {
		if c, rest, err := root.Find(strings.Fields(name)); err != nil || len(rest) > 0 {
			t.Errorf("example of %s, which is %v with %v: %v", name, c.CommandPath(), rest, err)
		}
	}
}

func TestCompletion(t *testing.T) {
	f := newFixture(t)
	f.network("web.conflist", `{"cniVersion": "1.1.0", "name": "web", "plugins": [{"type": "dbridge"}]}`)
	f.network("web2.conflist", `{"cniVersion": "1.1.0", "name": "web2", "plugins": [{"type": "dbridge"}]}`)
	f.write("net.d/dcni-plan.config-only", `{"name": "plan"}`, 0o644)
	f.container(records.Container{ID: idWeb, Name: "late", Stage: records.Exited})
	f.must(f.store.PutService(&records.Service{Service: service.Service{Name: "db", Network: "web"}}))
	for words, want := range map[string]string{
		"inspect we": "web\tbridge web2\tbridge :4",
		"rm web we":  "web2\tbridge :4",
		"rm ":        "web\tbridge web2\tbridge :4", "inspect b": "bridge\tbridge :4",
		"create -d m": "macvlan :4", "create -d o": "overlay :4",
		"create -d macvlan -o pa": "parent= :6", "create -d nosuch -o ": ":4", "create -d overlay -o e": "encrypted= :6",
		"create -o com.docker.network.bridge.enable_i": "com.docker.network.bridge.enable_icc= com.docker.network.bridge.enable_ip_masquerade= :4",
		"ls --filter dri":  "driver= :6",
		"graph -o s":       "svg :4",
		"inspect --type n": "network :4", "events --filter ev": "event= :6", "export we": "web\tbridge web2\tbridge :4",
		"create -o com.docker.network.bridge.gateway_mode_ipv4=r": "com.docker.network.bridge.gateway_mode_ipv4=routed :4",
		"create -d macvlan -o macvlan_mode=":                      "macvlan_mode=bridge macvlan_mode=private macvlan_mode=vepa macvlan_mode=passthru :4",
		"create -o com.docker.network.bridge.name=":               ":4", "create --ipam-opt a": "allocation= :6",
		"ls -f driver=": "driver=bridge driver=host driver=null :4", "ls -f dangling=": "dangling=false dangling=true :4", "ps -f network=we": "network=web\tbridge network=web2\tbridge :4",
		"connect web ": "late\texited :4", "disconnect web l": "late\texited :4", "start ": "late\texited :4", "container rm ": "late\texited :4",
		"service rm ": "db\ton web :4", "service create --mode ": "vip dnsrr :4", "run --service d": "db\ton web :4", "stats ": ":4",
		"create --config-from p": "plan :4", "create --ipam-driver h": "host-local :4", "run --restart ": "no :4",
	} {
		out, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		f.stdout, f.stderr = out, out
		f.args = append([]string{"__complete"}, strings.Split(words, " ")...)
		f.run()
		text, _ := os.ReadFile(out.Name())
		got, _, _ := strings.Cut(string(text), "\nCompletion ended")
		if got = strings.Join(strings.Split(strings.TrimSpace(got), "\n"), " "); got != want {
			t.Errorf("%s: %q, want %q", words, got, want)
		}
	}
}
