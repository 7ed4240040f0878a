package main

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// flagExamples has a value for each flag of create.
var flagExamples = map[string]string{
	"driver": "host", "opt": "com.docker.network.driver.mtu=1400", "label": "a=b", "internal": "true", "ipv4": "false", "ipv6": "true",
	"attachable": "true", "subnet": "10.9.0.0/24", "ip-range": "10.70.0.128/25", "gateway": "10.70.0.9", "aux-address": "printer=10.70.0.7",
	"ipam-driver": "host-local", "ipam-opt": "sticky=true", "scope": "swarm", "ingress": "true", "config-only": "true", "config-from": "x",
}

// TestEveryFlag: each flag of create changes the network's file, or is refused.
func TestEveryFlag(t *testing.T) {
	create := func(t *testing.T, flags ...string) (file, said string) {
		f := newFixture(t)
		status, _, stderr := f.dnet("create --subnet 10.70.0.0/24 " + strings.Join(flags, " ") + " web")
		data, err := os.ReadFile(f.dir + "/net.d/dcni-web.conflist")
		if f.exists("net.d/dcni-web.config-only") {
			data, err = os.ReadFile(f.dir + "/net.d/dcni-web.config-only")
		}
		if (status == 0) != (err == nil) {
			t.Fatalf("status %d, %v", status, err)
		}
		return string(data), stderr
	}
	plain, _ := create(t)
	newCreateCommand(&app{}).Flags().VisitAll(func(flag *pflag.Flag) {
		t.Run(flag.Name, func(t *testing.T) {
			value, known := flagExamples[flag.Name]
			if !known {
				t.Fatal("has no example here")
			}
			file, said := create(t, "--"+flag.Name+"="+value)
			if file == plain || file == "" && said == "" {
				t.Errorf("--%s=%s is accepted and changes nothing", flag.Name, value)
			}
		})
	})
}

// TestIfNames: each network's interface has its prefix, and a number of its own.
func TestIfNames(t *testing.T) {
	var requests []networkRequest
	for _, prefix := range []string{"eth", "lan", "eth", "lan", "eth1", "wan"} {
		requests = append(requests, networkRequest{prefix: prefix})
	}
	for taken, want := range map[string]string{"": "eth0 lan0 eth1 lan1 eth10 wan0", "eth0": "eth1 lan0 eth2 lan1 eth10 wan0"} {
		list, err := ifNames(requests, func(name string) (bool, error) { return name == taken, nil })
		if got := strings.Join(list, " "); got != want || err != nil {
			t.Errorf("with %q taken: got %s, %v, want %s", taken, got, err, want)
		}
	}
	// A name that was asked for is no other network's.
	requests[3].IfName = "eth0"
	if list, err := ifNames(requests, none); err != nil || strings.Join(list, " ") != "eth1 lan0 eth2 eth0 eth10 wan0" {
		t.Errorf("got %v, %v", list, err)
	}
	requests[5].IfName = "eth0"
	const want = `interface name "eth0" is asked for twice: give each network another one`
	if _, err := ifNames(requests, none); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
