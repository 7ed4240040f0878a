package catalog

import "testing"

// TestParseConfiguration refuses files that dnet create --config-only would not have written.
func TestParseConfiguration(t *testing.T) {
	for data, want := range map[string]string{
		`{"name": "plan", "subnets": [{"subnet": "10.1.0.0/24", "gateway": "10.1.0.9"}], "labels": {"a": "b"}}`: "",
		`{"name": "plan", "subnets": [{"subnet": "nonsense"}]}`:                                                 "invalid subnet: invalid CIDR address: nonsense",
		`{"name": "plan", "subnets": [{"subnet": "10.1.0.0/24", "gateway": "x"}]}`:                              `gateway "x": must be an address`,
		`{"name": "plan", "subnets": [{"subnet": "10.1.0.0/24", "ipRange": "10.1.0.0"}]}`:                       `ip-range "10.1.0.0": must be an address and a length, as 10.1.0.0/24`,
		`{"name": "plan", "lables": {}}`:                                                                        `json: unknown field "lables"`,
		`{"name": "plan"} {"name": "more"}`:                                                                     "has more behind the JSON, at byte 16",
	} {
		got := ""
		if _, err := ParseConfiguration([]byte(data)); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", data, got, want)
		}
	}
}
