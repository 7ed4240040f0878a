package nstable

import (
	"testing"

	"dcni/pkg/host/nft"
	"dcni/pkg/host/nlsock"
	"dcni/pkg/host/rtnl"

	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

func FuzzSandboxRule(f *testing.F) {
	var m nlsock.Message
	m.NFHeader(unix.NFPROTO_IPV4, 0)
	m.Raw(unix.NFTA_RULE_USERDATA, userdata.AppendString(nil, userdata.TypeComment, Redirect{Port: 5353, intercept: true}.String()))
	f.Add(m.B, true)
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, payload []byte, six bool) {
		m := parseRedirect(nft.RuleComment(payload), six)
		if again := parseRedirect(m.String(), six); again.String() != m.String() {
			t.Errorf("%q came back as %q", m, again)
		}
		_ = m.and(m)
	})
}

func FuzzSandboxRoute(f *testing.F) {
	var rule, route rtnl.Message
	PolicyRoute{}.ruleMessage(&rule, unix.IPPROTO_UDP)
	PolicyRoute{}.routeMessage(&route)
	f.Add(rule.B)
	f.Add(route.B)
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, d := range []PolicyRoute{{}, {six: true}} {
			if d.among([][]byte{payload}, unix.IPPROTO_UDP) && !IsPolicyRule(payload) {
				t.Error("a rule of ours leads elsewhere")
			}
			if d.isRoute(payload) && payload[0] != family(d.six) {
				t.Error("a route of the other family")
			}
		}
	})
}
