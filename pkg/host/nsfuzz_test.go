package host

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
	m.Raw(unix.NFTA_RULE_USERDATA, userdata.AppendString(nil, userdata.TypeComment, mapping{port: 5353, intercept: true}.String()))
	f.Add(m.B, true)
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, payload []byte, six bool) {
		m := parseMapping(nft.RuleComment(payload), six)
		if again := parseMapping(m.String(), six); again.String() != m.String() {
			t.Errorf("%q came back as %q", m, again)
		}
		_ = m.and(m)
	})
}

func FuzzSandboxRoute(f *testing.F) {
	var rule, route rtnl.Message
	detour{}.ruleMessage(&rule, unix.IPPROTO_UDP)
	detour{}.routeMessage(&route)
	f.Add(rule.B)
	f.Add(route.B)
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, d := range []detour{{}, {six: true}} {
			if d.among([][]byte{payload}, unix.IPPROTO_UDP) && !isDetourRule(payload) {
				t.Error("a rule of ours leads elsewhere")
			}
			if d.isRoute(payload) && payload[0] != d.family() {
				t.Error("a route of the other family")
			}
		}
	})
}
