package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dcni/pkg/records"
	"dcni/pkg/service"
)

// TestNetworkWord: `dnet network X` is `dnet X`, of the commands that Docker has there.
func TestNetworkWord(t *testing.T) {
	for args, want := range map[string]string{
		"network ls -q": "ls -q", "network create --internal n": "create --internal n", "network rm n": "rm n", "network --help": "--help", "network": "",
		"ls": "ls", "": "", "run network": "run network", "inspect network": "inspect network",
		"network run": "unknown command: dnet network run: must be one of [connect create disconnect inspect list ls prune remove rm]",
		"network x":   "unknown command: dnet network x: must be one of [connect create disconnect inspect list ls prune remove rm]",
	} {
		got, err := withoutNetwork(strings.Fields(args))
		text := strings.Join(got, " ")
		if err != nil {
			text = err.Error()
		}
		if text != want {
			t.Errorf("%q is %q, want %q", args, text, want)
		}
	}
	f := newFixture(t)
	_, plain, _ := f.dnet("ls --format {{.Name}}")
	status, docker, stderr := f.dnet("network ls --format {{.Name}}")
	if status != 0 || stderr != "" || docker != plain {
		t.Errorf("%d, %s, %q and %q", status, stderr, docker, plain)
	}
}

// TestFlagErrors: a value that a flag does not take is said in plain words.
func TestFlagErrors(t *testing.T) {
	f := newFixture(t)
	for args, want := range map[string]string{
		"ps -n x":                       `invalid argument "x" for "-n, --last" flag: must be an integer`,
		"ps -n 99999999999999999999":    `invalid argument "99999999999999999999" for "-n, --last" flag: must be an integer`,
		"stop -t 1.5 c":                 `invalid argument "1.5" for "-t, --timeout" flag: must be an integer`,
		"ps --all=maybe":                `invalid argument "maybe" for "-a, --all" flag: must be true or false`,
		"api --idle 5":                  `invalid argument "5" for "--idle" flag: must be a duration like "30s" or "5m"`,
		"ps --format {{.Nosuch}} --foo": "unknown flag: --foo",
		"service ls -f name":            `invalid argument "name" for "-f, --filter" flag: bad format of filter (expected name=value)`,
		"service ls -f mode=vip":        "invalid filter 'mode': must be name or network",
	} {
		status, _, stderr := f.dnet(args)
		line, _, _ := strings.Cut(stderr, "\n")
		if status == 0 || line != "dnet: "+want {
			t.Errorf("%s: %d, %q, want %q", args, status, line, want)
		}
	}
}

// TestServiceFilter: values of one name are alternatives, those of two names are not.
func TestServiceFilter(t *testing.T) {
	var list []*listed
	for _, s := range []service.Service{{Name: "api", Network: "web"}, {Name: "apis", Network: "lab"}, {Name: "db", Network: "web"}} {
		list = append(list, &listed{Service: &records.Service{Service: s}})
	}
	for filters, want := range map[string]string{
		"": "api apis db", "name=api": "api apis", "name=apis": "apis", "name=pi": "", "network=web": "api db", "network=we": "",
		"name=api network=web": "api", "name=db name=apis": "apis db", "network=web network=lab": "api apis db",
	} {
		keep, err := serviceFilter(strings.Fields(filters))
		if err != nil {
			t.Fatal(filters, err)
		}
		var got []string
		for _, v := range list {
			if keep(v) {
				got = append(got, v.Name)
			}
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s: %q, want %q", filters, text, want)
		}
	}
}

// TestEventTypes wants a type of events that never come to be told, and no other filter.
func TestEventTypes(t *testing.T) {
	for filter, want := range map[string]string{
		"type=network": "", "type=daemon": "", "event=container": "",
		"type=container": "dnet: warning: --filter type=container: there are no such events, only those of type daemon and network\n",
	} {
		out, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
		if err != nil {
			t.Fatal(err)
		}
		a := &app{stderr: out}
		a.warnOfTypes(eventOptions{filters: []string{filter}})
		if text, err := os.ReadFile(out.Name()); err != nil || string(text) != want {
			t.Errorf("%s: %q, want %q (%v)", filter, text, want, err)
		}
	}
}
