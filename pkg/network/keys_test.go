package network

import (
	"maps"
	"testing"
)

func TestPick(t *testing.T) {
	for name, test := range map[string]struct {
		raw  string
		want map[string]string
		bad  bool
	}{
		"no object":          {raw: ``},
		"null":               {raw: `null`},
		"others left alone":  {raw: `{"ips":["10.1.0.2"],"mine":1}`, want: map[string]string{"ips": `["10.1.0.2"]`}},
		"null is not given":  {raw: `{"ips":null}`},
		"case folds":         {raw: `{"IPs":1}`, want: map[string]string{"ips": "1"}},
		"the very same wins": {raw: `{"IPS":1,"ips":2,"Ips":3}`, want: map[string]string{"ips": "2"}},
		"a list":             {raw: `[]`, bad: true},
		"a string":           {raw: `"x"`, bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := Pick([]byte(test.raw), "args.cni", "ips", "mac")
			if (err != nil) != test.bad {
				t.Fatalf("error %v", err)
			}
			have := map[string]string{}
			for k, v := range o {
				have[k] = string(v)
			}
			if !maps.Equal(have, test.want) {
				t.Errorf("got %v, want %v", have, test.want)
			}
		})
	}
}
