package foreign

import (
	"reflect"
	"testing"

	"dcni/pkg/firewall/foreign"
)

func TestParseSave(t *testing.T) {
	like := foreign.Chain{Tool: "iptables-legacy", Family: "ip", Table: "filter"}
	got := parseSave(`-P INPUT ACCEPT
-P FORWARD DROP
-N mine
-A FORWARD -i br-+ -m comment --comment hi -j ACCEPT
-A FORWARD -i br-web -m comment --comment "drop -j \"the\" rest" -j DROP
-A FORWARD -m comment --comment "" -j DROP
-A FORWARD -o br-web -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -m conntrack --ctstate NEW -j mine
-A FORWARD -m conntrack --ctstate INVALID -j DROP
-A FORWARD -o br-web -m conntrack --ctstate DNAT -j ACCEPT
-A FORWARD ! -i br-web -g mine
-A FORWARD -s 10.0.0.0/8 -j LOG --log-prefix x
-A mine -p tcp -m tcp --dport 8080 -j DNAT --to-destination 1.2.3.4:80
-A mine -p udp -m udp --dport 1:9 -j REJECT --reject-with icmp-port-unreachable
`, like)
	input, forward, mine := like, like, like
	input.Name, forward.Name, mine.Name = "INPUT", "FORWARD", "mine"
	forward.Hook, forward.Drops = "forward", true
	forward.Rules = []foreign.Rule{
		{In: []string{"br-*"}, Verdict: foreign.Accept},
		{In: []string{"br-web"}, Verdict: foreign.Drop},
		{Verdict: foreign.Drop},
		{Out: []string{"br-web"}, Established: true, Verdict: foreign.Accept},
		{New: true, Verdict: foreign.Jump, To: "mine"},
		{Established: true, New: true, Verdict: foreign.Drop},
		{Out: []string{"br-web"}, Published: true, Verdict: foreign.Accept},
		{Other: true, Verdict: foreign.Goto, To: "mine"},
		{Other: true},
	}
	mine.Rules = []foreign.Rule{
		{Protocol: "tcp", Port: 8080, Verdict: foreign.DNAT},
		{Protocol: "udp", Other: true, Verdict: foreign.Drop, Rejects: true},
	}
	want := []foreign.Chain{input, forward, mine}
	for i := range want {
		if i >= len(got) || !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("%d:\n got %+v\nwant %+v", i, got, want[i])
		}
	}
}
