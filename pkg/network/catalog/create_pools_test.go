package catalog

import (
	"encoding/json"
	"testing"
)

func TestPools(t *testing.T) {
	const invalid = "invalid network config:\n"
	for _, c := range []struct {
		pools []Pool
		want  string // the subnets as JSON, or the error
	}{
		{[]Pool{}, `null`},
		{[]Pool{{}}, `null`},
		{[]Pool{{Subnet: "10.1.0.0/24"}}, `[{"subnet":"10.1.0.0/24"}]`},
		{
			[]Pool{{Subnet: "10.1.0.0/24", Range: "10.1.0.128/25", Gateway: "10.1.0.254", Aux: map[string]string{"nas": "10.1.0.9"}}, {Subnet: "fd00:1::/64", Gateway: "fd00:1::9"}},
			`[{"subnet":"10.1.0.0/24","ipRange":"10.1.0.128/25","gateway":"10.1.0.254","auxAddresses":{"nas":"10.1.0.9"}},{"subnet":"fd00:1::/64","gateway":"fd00:1::9"}]`,
		},
		{[]Pool{{Gateway: "10.1.0.1"}}, invalid + "every ip-range, gateway or auxiliary address must have a corresponding subnet"},
		{[]Pool{{Aux: map[string]string{"a": "10.1.0.1"}}}, invalid + "every ip-range, gateway or auxiliary address must have a corresponding subnet"},
		{[]Pool{{Subnet: "10.1.0.0"}}, "invalid subnet: invalid CIDR address: 10.1.0.0"},
		{[]Pool{{Subnet: "10.1.0.1/24"}}, invalid + "invalid subnet 10.1.0.1/24: it should be 10.1.0.0/24"},
		{[]Pool{{Subnet: "10.1.0.0/24"}, {Subnet: "10.1.0.0/16"}}, "multiple overlapping subnet configuration is not supported"},
		{[]Pool{{Subnet: "10.1.0.0/24", Range: "x"}}, invalid + "invalid ip-range x: invalid CIDR address: x"},
		{[]Pool{{Subnet: "10.1.0.0/24", Range: "fd00::/80"}}, invalid + "invalid ip-range fd00::/80: parent subnet is an IPv4 block"},
		{[]Pool{{Subnet: "10.1.0.0/24", Range: "10.1.0.1/25"}}, invalid + "invalid ip-range 10.1.0.1/25: it should be 10.1.0.0/25"},
		{[]Pool{{Subnet: "10.1.0.0/24", Range: "10.2.0.0/25"}}, invalid + "invalid ip-range 10.2.0.0/25: parent subnet 10.1.0.0/24 doesn't contain ip-range"},
		{[]Pool{{Subnet: "10.1.0.0/24", Range: "10.1.0.0/16"}}, invalid + "invalid ip-range 10.1.0.0/16: CIDR block is bigger than its parent subnet 10.1.0.0/24"},
		{[]Pool{{Subnet: "10.1.0.0/24", Gateway: "10.2.0.1"}}, invalid + "invalid gateway 10.2.0.1: parent subnet 10.1.0.0/24 doesn't contain this address"},
		{[]Pool{{Subnet: "fd00:1::/64", Gateway: "10.2.0.1"}}, invalid + "invalid gateway 10.2.0.1: parent subnet is an IPv6 block"},
		{
			[]Pool{{Subnet: "10.1.0.0/24", Gateway: "x", Aux: map[string]string{"a": "10.2.0.1"}}},
			invalid + "invalid gateway x: \"x\" is no IP address\ninvalid auxiliary address a: parent subnet 10.1.0.0/24 doesn't contain this address",
		},
	} {
		list, err := (&Options{Pools: c.pools}).match()
		got, _ := json.Marshal(list)
		if err != nil {
			got = []byte(err.Error())
		}
		if string(got) != c.want {
			t.Errorf("%+v: %s\nwant %s", c.pools, got, c.want)
		}
	}
}
