package etcd

import "testing"

func TestCheckVersion(t *testing.T) {
	for _, c := range []struct {
		version       string
		prefix        bool
		warns, refuse bool
	}{
		{"3.3.27", false, false, true},
		{"2.3.8", false, false, true},
		{"4.0.0", false, false, true},
		{"3.4.0", false, false, false},
		{"3.4.23", true, true, false},
		{"3.5.21", true, true, false},
		{"3.6.13", true, true, false},
		{"3.6.13", false, false, false},
		{"3.6.14", true, false, false},
		{"3.7.0", true, true, false},
		{"3.7.0-rc.1", true, true, false},
		{"3.7.1", true, false, false},
		{"3.7.3", true, false, false},
		{"3.10.0", true, false, false},
		{"3.5", false, false, true},
		{"3.5.x", false, false, true},
		{"", false, false, true},
	} {
		warning, err := CheckVersion(c.version, c.prefix)
		if (warning != "") != c.warns || (err != nil) != c.refuse {
			t.Errorf("%q, prefix role %v: warning %q, error %v", c.version, c.prefix, warning, err)
		}
	}
}

func TestCompareVersions(t *testing.T) {
	order := []string{"", "3.4.9", "3.4.23", "3.5.0", "3.10.1"}
	for i := range order {
		for j := range order {
			if got := compareVersions(order[i], order[j]); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%q and %q compare as %d", order[i], order[j], got)
			}
		}
	}
}
