package foreign

import (
	"fmt"
	"strings"
	"testing"
)

var (
	reply   = Rule{Established: true, Verdict: Accept}
	in, out = Rule{In: []string{"br-web"}, Verdict: Accept}, Rule{Out: []string{"br-web"}, Verdict: Accept}
	reject  = Rule{Verdict: Drop}
)

func jump(to string) Rule { return Rule{Verdict: Jump, To: to} }

// TestBlocks has chains of one table, the first of which is in the forward hook: where in it
// rules have to stand that let br-web pass, "drops" where no rules can be put, and nothing
// where none are needed.
func TestBlocks(t *testing.T) {
	type chains = [][]Rule
	for _, c := range []struct {
		name   string
		tool   string
		drops  bool
		chains chains // the others are named 1, 2, ...
		want   string
	}{
		{"an empty chain", "iptables", false, chains{{}}, ""},
		{"a policy", "iptables", true, chains{{}}, "0"},
		{"behind all rules", "iptables", true, chains{{reply, {In: []string{"docker0"}, Verdict: Accept}}}, "2"},
		{"before one that rejects", "iptables", false, chains{{reply, {Protocol: "tcp", Verdict: Drop}, reject, reply}}, "2"},
		{"before a chain that rejects", "iptables", false, chains{{reply, jump("1"), jump("2")}, {reply}, {reject}}, "2"},
		{"before a return to the policy", "iptables", true, chains{{{Verdict: Return}, in, out}}, "0"},
		{"a return to a good policy", "iptables", false, chains{{{Verdict: Return}, reject}}, ""},
		{"a chain that is not come back from", "iptables", true, chains{{{Verdict: Goto, To: "1"}, in, out}, {reply}}, "0"},
		{"with both rules", "iptables", true, chains{{dropFrom("eth1"), in, out}}, ""},
		{"with one", "iptables", true, chains{{in, reply}}, "2"},
		{"with both, too late", "iptables", false, chains{{reject, in, out}}, "0"},
		{"a rule that is not understood", "iptables", true, chains{{{Other: true, Verdict: Accept}}}, "1"},
		{"users' chain drops", "iptables", true, chains{{jump("DOCKER-USER")}, {reject}}, ""},
		{"users' chain drops some", "iptables", true, chains{{jump("DOCKER-USER")}, {{Protocol: "tcp", Verdict: Drop}}}, "1"},
		{"a drop that names the bridge", "iptables", true, chains{{{In: []string{"br-web"}, Verdict: Drop}, reply, {Out: []string{"br-web"}, Verdict: Drop}}}, ""},
		{"a jump that does", "iptables", false, chains{{{In: []string{"br-web"}, Verdict: Jump, To: "1"}}, {reject}}, ""},
		{"in another chain", "iptables", false, chains{{jump("1")}, {jump("2")}, {{In: []string{"br-web"}, Verdict: Drop}}}, ""},
		{"of another family", "ip6tables", true, chains{{}}, ""},

		{"nft: a policy", "nft", true, chains{{reply}}, "drops"},
		{"nft: a policy, and ICMP passes", "nft", true, chains{{reply, {Protocol: "icmp", Other: true, Verdict: Accept}}}, "drops"},
		{"nft: with both rules", "nft", true, chains{{in, out}}, ""},
		{"nft: ways out and answers pass", "nft", true, chains{{reply, {In: []string{"br-*"}, Out: []string{"eth0"}, Verdict: Accept}}}, "drops for ports"},
		{"nft: some pass", "nft", true, chains{{reply, {Other: true, Verdict: Accept}}}, ""},
		{"nft: some protocol passes", "nft", true, chains{{reply, {Protocol: "tcp", Port: 443, Verdict: Accept}}}, ""},
		{"nft: a chain lets some pass", "nft", true, chains{{reply, {Other: true, Verdict: Jump, To: "1"}}, {{Verdict: Accept}}}, ""},
		{"nft: a chain may let some pass", "nft", true, chains{{reply, jump("1")}, {{Other: true, Verdict: Accept}}}, ""},
		{"nft: others' answers and interfaces pass", "nft", true, chains{{{Published: true, Verdict: Accept}, {In: []string{"eth9"}, Other: true, Verdict: Accept}}}, "drops"},
		{"nft: a drop that names the bridge", "nft", false, chains{{{In: []string{"br-web"}, Verdict: Drop}}}, ""},
		{"nft: a chain that jumps to itself", "nft", false, chains{{jump("0")}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s Ruleset
			for i, rules := range c.chains {
				one := Chain{Tool: c.tool, Family: map[string]string{"ip6tables": "ip6"}[c.tool], Table: "t", Name: fmt.Sprint(i), Rules: rules}
				if one.Family == "" {
					one.Family = "ip"
				}
				if i == 0 {
					one.Hook, one.Drops = "forward", c.drops
				}
				if i == 1 && strings.HasPrefix(c.name, "users' chain") {
					one.Name = usersChains[0]
				}
				s = append(s, one)
			}
			got := ""
			for _, ports := range []bool{true, false} {
				list := s.Blocks(Bridge{Name: "br-web", Uplink: "eth0", Families: []int{4}, Ports: ports})
				switch {
				case len(list) == 0 && got == "drops":
					got = "drops for ports"
				case len(list) > 0 && c.tool == "nft":
					got = "drops"
				case len(list) > 0:
					got = fmt.Sprint(list[0].At)
				}
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func dropFrom(in string) Rule { return Rule{In: []string{in}, Verdict: Drop} }

func TestLets(t *testing.T) {
	for _, r := range []Rule{
		{In: []string{"br-web"}}, {In: []string{"br-*"}, Verdict: Accept}, {In: []string{"br-web"}, Out: []string{"br-web"}, Verdict: Accept},
		{In: []string{"br-web", "eth0"}, Verdict: Accept}, {In: []string{"br-web"}, Verdict: Accept, Protocol: "tcp"}, {In: []string{"br-web"}, Verdict: Accept, Other: true},
		{In: []string{"br-web"}, Verdict: Accept, Established: true}, {Verdict: Accept},
	} {
		if r.Lets("br-web") {
			t.Errorf("%+v", r)
		}
	}
	if !in.Lets("br-web") || !out.Lets("br-web") {
		t.Error("its own rules")
	}
}

// TestApart: what lets a bridge pass does not let it pass to bridges that other programs have
// rules for, and is put again where one comes.
func TestApart(t *testing.T) {
	drop := func(out string) Rule { return Rule{In: []string{"br-web"}, Out: []string{out}, Verdict: Drop} }
	docker := func(bridge string) Rule { return Rule{Out: []string{bridge}, Verdict: Jump, To: "DOCKER"} }
	lab := Rule{In: []string{"br-lab"}, Out: []string{"virbr0"}, Verdict: Drop} // of another network of dcni's
	for _, c := range []struct {
		name  string
		ours  bool
		rules []Rule
		want  string
	}{
		{"one that the chain is about", false, []Rule{docker("docker0"), lab}, "at 2, apart from [docker0]"},
		{"it is there", true, []Rule{docker("docker0"), drop("docker0"), in, out}, ""},
		{"it is missing", true, []Rule{docker("docker0"), in, out}, "at 1, apart from [docker0]"},
		{"another one comes", true, []Rule{docker("virbr0"), docker("docker0"), drop("docker0"), in, out}, "at 2, apart from [docker0 virbr0]"},
		{"someone else's rules", false, []Rule{docker("docker0"), in, out}, ""},
		{"no bridge that is there", true, []Rule{docker("docker1"), in, out}, ""},
	} {
		s := Ruleset{{Tool: "iptables", Family: "ip", Table: "filter", Name: "FORWARD", Hook: "forward", Drops: true, Rules: c.rules}}
		got := ""
		for _, b := range s.Blocks(Bridge{Name: "br-web", Families: []int{4}, Others: []string{"docker0", "virbr0"}, Ours: func(*Chain) bool { return c.ours }}) {
			got += fmt.Sprintf("at %d, apart from %v", b.At, b.Apart)
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	for _, c := range []struct {
		rules []Rule
		want  string
	}{
		{[]Rule{drop("eth9"), reply, drop("docker0"), in, out, in}, "[2 3 4]"},
		{[]Rule{out, drop("docker0"), in}, "[0 2]"},
		{[]Rule{drop("docker0")}, "[]"},
	} {
		if got := fmt.Sprint((&Chain{Rules: c.rules}).Ours("br-web")); got != c.want {
			t.Errorf("%+v: got %s, want %s", c.rules, got, c.want)
		}
	}
}
