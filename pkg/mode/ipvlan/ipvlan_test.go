package ipvlan_test

import (
	"errors"

	"testing"

	"dcni/pkg/cni/cnitest"
	"dcni/pkg/mode/ipvlan"
	"dcni/pkg/wire"
)

func TestPlans(t *testing.T) { cnitest.Plans(t, ipvlan.Plugin) }

func TestCrashMatrix(t *testing.T) {
	cnitest.Matrix(t, ipvlan.Plugin, `{
		"cniVersion": "1.1.0", "name": "lan", "type": "dipvlan", "parent": "eth0",
		"ipv6": true,
		"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"},
		"runtimeConfig": {"ips": ["10.1.0.77"]}
	}`)
}

// TestCrashMatrixOfVLAN: the interface of a VLAN goes with its last user.
func TestCrashMatrixOfVLAN(t *testing.T) {
	cnitest.Matrix(t, ipvlan.Plugin, `{
		"cniVersion": "1.1.0", "name": "lan", "type": "dipvlan", "parent": "eth0.10", "mode": "l3",
		"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}, "runtimeConfig": {"ips": ["10.1.0.77"]}
	}`)
}

// TestRefused: what an ipvlan can't have is refused the same way however it is asked for,
// and nothing stays.
func TestRefused(t *testing.T) {
	const mac = "mac 02:42:00:00:00:77: ipvlan interfaces do not support custom mac address assignment: all have the MAC of their parent"
	const ipam = `"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}`
	for _, c := range []struct{ keys, args, want string }{
		{`"runtimeConfig": {"mac": "02:42:00:00:00:77"}`, "", mac},
		{`"args": {"cni": {"mac": "02:42:00:00:00:77"}}`, "", mac},
		{`"comment": ""`, "02:42:00:00:00:77", mac},
		{`"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}`, "",
			"runtimeConfig.portMappings 0.0.0.0:8080->80/tcp: can't be published: a container of an ipvlan network is reached by its own address"},
	} {
		w := cnitest.NewWorld(t, ipvlan.Plugin)
		before := w.State(t)
		r := w.Request(t, "c1", `{"cniVersion": "1.1.0", "name": "lan", "type": "dipvlan", "parent": "eth0", `+ipam+", "+c.keys+"}")
		if c.args != "" {
			r.Args["MAC"] = c.args
		}
		_, err := w.Engine.Add(r)
		coded := (*wire.Error)(nil)
		if !errors.As(err, &coded) || coded.Code != wire.CodeUnsupported || err.Error() != c.want {
			t.Errorf("%s %s: %v, want %s", c.keys, c.args, err, c.want)
		}
		if after := w.State(t); after != before {
			t.Errorf("%s: left:\n%s\nbefore:\n%s", c.keys, after, before)
		}
	}
}

// TestResult: a result has the parent's MAC, and no gateway where there is none.
func TestResult(t *testing.T) {
	for mode, gateway := range map[string]string{"l2": "10.1.0.1", "l3": "<nil>"} {
		w := cnitest.NewWorld(t, ipvlan.Plugin)
		result, err := w.Engine.Add(w.Request(t, "c1", `{"cniVersion": "1.1.0", "name": "lan", "type": "dipvlan", "parent": "eth0", "mode": "`+mode+`",
			"ipam": {"type": "dipam", "subnet": "10.1.0.0/24", "gateway": "10.1.0.1"}}`))
		if err != nil {
			t.Fatal(err)
		}
		if i := result.Interfaces; len(i) != 1 || i[0].Mac != "02:00:00:00:00:01" || i[0].Mtu != 1500 {
			t.Errorf("%s: interfaces %v", mode, i)
		}
		if got := result.IPs[0].Gateway.String(); got != gateway || result.Routes[0].GW.String() != gateway {
			t.Errorf("%s: gateway %s, routes %v, want %s", mode, got, result.Routes, gateway)
		}
	}
}

// TestAddressOfParent: the kernel lets a child have its parent's address, ADD does not.
func TestAddressOfParent(t *testing.T) {
	w := cnitest.NewWorld(t, ipvlan.Plugin)
	_, err := w.Engine.Add(w.Request(t, "c1", `{"cniVersion": "1.1.0", "name": "lan", "type": "dipvlan", "parent": "eth0",
		"ipam": {"type": "dipam", "subnet": "192.0.2.0/24"}, "runtimeConfig": {"ips": ["192.0.2.1"]}}`))
	const want = `Address already in use: 192.0.2.1 is the auxiliary address "parent eth0"`
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
