package cni

import (
	"strings"
	"testing"

	"dcni/pkg/wire"
)

// A list that is not understood collects nothing.
func TestValidAttachments(t *testing.T) {
	for _, c := range []struct {
		list string
		ok   bool // there is something to collect
		keep bool // c1/eth0
		want string
	}{
		{``, false, false, ""},
		{`null`, true, false, ""},
		{`[]`, true, false, ""},
		{`[{"containerID": "c2", "ifname": "eth0"}, {"containerID": "c1", "ifname": "eth0", "x": 1}]`, true, true, ""},
		{`[{"containerID": "c1", "ifname": "eth1"}]`, true, false, ""},
		{`"c1"`, false, false, "cni.dev/valid-attachments: must be a list of {containerID, ifname}"},
		{`[{"containerID": 1}]`, false, false, "must be a list"},
		{`[null]`, false, false, "cni.dev/valid-attachments[0]: must have containerID and ifname"},
		{`[{"containerID": "c1", "ifname": "eth0"}, {"containerID": "c1"}]`, false, false, "[1]: must have"},
		{`[{"ifname": "eth0"}]`, false, false, "[0]: must have"},
	} {
		conf := `{"name": "web"}`
		if c.list != "" {
			conf = `{"name": "web", "cni.dev/valid-attachments": ` + c.list + `}`
		}
		valid, ok, err := validAttachments(&Request{Conf: []byte(conf)})
		if ok != c.ok || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %t, %v; want %t, %s", c.list, ok, err, c.ok, c.want)
		}
		if ok && valid(wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}) != c.keep {
			t.Errorf("%s: c1/eth0 kept: %t", c.list, !c.keep)
		}
	}
}
