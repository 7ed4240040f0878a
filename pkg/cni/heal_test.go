package cni

import (
	"reflect"
	"strings"
	"testing"

	"dcni/pkg/wire"
)

func TestScope(t *testing.T) {
	c1 := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
	for _, c := range []struct {
		args []string
		want Scope
		err  string
	}{
		{nil, Scope{}, ""},
		{[]string{"web", "db"}, Scope{Networks: []string{"web", "db"}}, ""},
		{[]string{"web/c1/eth0", "db"}, Scope{Networks: []string{"db"}, Attachments: []wire.Attachment{c1}}, ""},
		{[]string{"web/c1"}, Scope{}, `"web/c1": must be NETWORK or NETWORK/CONTAINER/IFNAME`},
		{[]string{"web", ""}, Scope{}, `"": must be`},
		{[]string{"../x/y"}, Scope{}, `must be`},
		{[]string{"web/../eth0"}, Scope{}, `must be`},
		{[]string{"web/c1/.."}, Scope{}, `must be`},
		{[]string{"web/c1/"}, Scope{}, `must be`},
		{[]string{"web/c1/eth0/x"}, Scope{}, `must be`},
		{[]string{"--help"}, Scope{}, `must be`},
	} {
		got, err := parseScope(c.args)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: error %v, want %s", c.args, err, c.err)
		}
		if err == nil && !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %+v, want %+v", c.args, got, c.want)
		}
	}
}
