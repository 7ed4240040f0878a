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
		{"a policy", "iptables", true, chains{{}}, "-i 0 -o 0"},
		{"behind all rules", "iptables", true, chains{{reply, {In: []string{"docker0"}, Verdict: Accept}}}, `-i 2 -o 2 for ports, else "-i 2"`},
		{"before one that rejects", "iptables", false, chains{{reply, {Protocol: "tcp", Verdict: Drop}, reject, reply}}, `-i 2 -o 2 for ports, else "-i 2"`},
		{"before a chain that rejects", "iptables", false, chains{{reply, jump("1"), jump("2")}, {reply}, {reject}}, `-i 2 -o 2 for ports, else "-i 2"`},
		{"before a return to the policy", "iptables", true, chains{{{Verdict: Return}, in, out}}, "-i 0 -o 0"},
		{"a return to a good policy", "iptables", false, chains{{{Verdict: Return}, reject}}, ""},
		{"a chain that is not come back from", "iptables", true, chains{{{Verdict: Goto, To: "1"}, in, out}, {reply}}, `-i 0 -o 0 for ports, else "-i 0"`},
		{"with both rules", "iptables", true, chains{{dropFrom("eth1"), in, out}}, ""},
		{"with one", "iptables", true, chains{{in, reply}}, `-o 2 for ports, else ""`},
		{"with both, too late", "iptables", false, chains{{reject, in, out}}, "-i 0 -o 0"},
		{"a rule that is not understood", "iptables", true, chains{{{Other: true, Verdict: Accept}}}, "-i 1 -o 1"},
		{"users' chain drops", "iptables", true, chains{{jump("DOCKER-USER")}, {reject}}, ""},
		{"users' chain drops some", "iptables", true, chains{{jump("DOCKER-USER")}, {{Protocol: "tcp", Verdict: Drop}}}, "-i 1 -o 1"},
		{"a drop that names the bridge", "iptables", true, chains{{{In: []string{"br-web"}, Verdict: Drop}, reply, {Out: []string{"br-web"}, Verdict: Drop}}}, ""},
		{"a jump that does", "iptables", false, chains{{{In: []string{"br-web"}, Verdict: Jump, To: "1"}}, {reject}}, ""},
		{"in another chain", "iptables", false, chains{{jump("1")}, {jump("2")}, {{In: []string{"br-web"}, Verdict: Drop}}}, ""},
		{"each where its packets are dropped", "iptables", true, chains{{{In: []string{"eth0"}, New: true, Verdict: Drop}, {Protocol: "tcp", Port: 91, Verdict: Drop}}},
			`-i 2 -o 0 for ports, else "-i 2 -o 2"`},
		{"only what is published", "iptables", false, chains{{{In: []string{"eth0"}, New: true, Verdict: Drop}, {Protocol: "tcp", Port: 91, Verdict: Drop}}}, `-o 0 for ports, else ""`},
		{"only the way out", "iptables", false, chains{{reply, {In: []string{"br-*"}, Verdict: Drop}}}, "-i 1"},
		{"of another family", "ip6tables", true, chains{{}}, ""},

		{"nft: a policy", "nft", true, chains{{reply}}, "drops"},
		{"nft: a policy, and ICMP passes", "nft", true, chains{{reply, {Protocol: "icmp", Other: true, Verdict: Accept}}}, "drops"},
		{"nft: with both rules", "nft", true, chains{{in, out}}, ""},
		{"nft: ways out and answers pass", "nft", true, chains{{reply, {In: []string{"br-*"}, Out: []string{"eth0"}, Verdict: Accept}}}, "drops for ports, else \"\""},
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
			var got [2]string
			for i, ports := range []bool{true, false} {
				for _, b := range s.Blocks(Bridge{Name: "br-web", Uplink: "eth0", Families: []int{4}, Ports: ports}) {
					got[i] = "drops"
					if c.tool != "nft" {
						got[i] = puts(b)
					}
				}
			}
			if got[0] != got[1] {
				got[0] = fmt.Sprintf("%s for ports, else %q", got[0], got[1])
			}
			if got := got[0]; got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// puts says where in a chain what has to stand.
func puts(b Block) string {
	var words []string
	for _, p := range b.Puts {
		word := "-i"
		if p.Verdict == Drop {
			word = "apart from " + p.Out[0]
		} else if len(p.Out) > 0 {
			word = "-o"
		}
		words = append(words, fmt.Sprint(word, " ", p.At))
	}
	return strings.Join(words, " ")
}

func dropFrom(in string) Rule { return Rule{In: []string{in}, Verdict: Drop} }

func TestForm(t *testing.T) {
	for _, r := range []Rule{
		{In: []string{"br-web"}}, {Verdict: Accept}, {In: []string{"br-web", "eth0"}, Verdict: Accept}, {In: []string{"br-web"}, Verdict: Accept, Protocol: "tcp"},
		{In: []string{"br-web"}, Verdict: Accept, Port: 80}, {In: []string{"br-web"}, Verdict: Accept, Other: true}, {In: []string{"br-web"}, Verdict: Accept, Established: true},
		{Out: []string{"br-web"}, Verdict: Accept, Published: true},
		{In: []string{"br-web"}, Verdict: Drop, Rejects: true}, {In: []string{"br-web"}, Verdict: Jump, To: "x"},
	} {
		if got := r.Form(); got != "" {
			t.Errorf("%+v: %s", r, got)
		}
	}
	pass, reach := Passing("br-web")
	for want, r := range map[string]Rule{
		"-i br-web -j ACCEPT": pass, "-o br-web -j ACCEPT": reach, "-i br-web -o docker0 -m conntrack --ctstate NEW -j DROP": Parting("br-web", "docker0"),
	} {
		if got := r.Form(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestApart: what lets a bridge pass does not let it pass to bridges that other programs have
// rules for, and is put again where one comes.
func TestApart(t *testing.T) {
	drop := func(out string) Rule { return Parting("br-web", out) }
	plain := Rule{In: []string{"br-web"}, Out: []string{"eth0"}, Verdict: Drop}
	docker := func(bridge string) Rule { return Rule{Out: []string{bridge}, Verdict: Jump, To: "DOCKER"} }
	lab := Rule{In: []string{"br-lab"}, Out: []string{"virbr0"}, Verdict: Drop} // of another network of dcni's
	if at, _ := (Ruleset{}).place(&Chain{Rules: []Rule{{Out: []string{"eth0"}, Verdict: Accept}}, Drops: true}, Bridge{Name: "br-web", Uplink: "eth0", Filtered: true}); at != 1 {
		t.Errorf("what containers send one another: %d", at)
	}
	put := []string{Parting("br-web", "docker0").Form(), "-i br-web -j ACCEPT", "-o br-web -j ACCEPT"}
	for _, c := range []struct {
		name   string
		others string
		drops  bool
		put    []string
		rules  []Rule
		want   string
	}{
		{"one that the chain is about", "docker0", true, nil, []Rule{docker("docker0"), lab}, "[] apart from docker0 2 -i 2 -o 2"},
		{"one that only the policy keeps apart", "virbr0", true, nil, []Rule{reply, lab}, "[] apart from virbr0 2 -i 2"},
		{"one that a last rule does", "virbr0", false, nil, []Rule{reply, {In: []string{"virbr0"}, Verdict: Accept}, reject}, "[] apart from virbr0 2 -i 2"},
		{"one that is dropped before, and one with rules", "virbr0 lab0", true, nil, []Rule{{Out: []string{"lab0"}, Verdict: Accept}, {Out: []string{"virbr*"}, Verdict: Drop}}, "[] apart from lab0 2 -i 2 -o 2"},
		{"only the way out is dropped", "virbr0", false, nil, []Rule{{Out: []string{"eth0"}, Verdict: Drop}}, "[] -i 0"},
		{"it is there", "docker0", true, put, []Rule{docker("docker0"), drop("docker0"), in, out}, ""},
		{"it is missing", "docker0", true, put, []Rule{docker("docker0"), in, out}, "[1 2] apart from docker0 1 -i 1 -o 1"},
		{"it comes too late", "docker0", true, put, []Rule{docker("docker0"), in, drop("docker0"), out}, "[1 2 3] apart from docker0 1 -i 1 -o 1"},
		{"another one comes", "docker0 virbr0", true, put, []Rule{docker("docker0"), drop("docker0"), in, out}, "[1 2 3] apart from docker0 1 apart from virbr0 1 -i 1 -o 1"},
		{"someone else's rules", "docker0", true, nil, []Rule{docker("docker0"), in, out}, ""},
		{"no bridge that is there", "", true, put, []Rule{docker("docker1"), in, out}, ""},
		{"an operator's drop beside", "docker0", true, put, []Rule{docker("docker0"), drop("eth9"), drop("docker0"), in}, "[2 3] apart from docker0 2 -i 2 -o 2"},
		{"and of the way out", "docker0", true, put, []Rule{plain, in}, "[1] -o 1"},
		{"what was parted leads out now", "", true, append(put, plain.Form()), []Rule{plain, in, out}, "[0 1 2] -i 0 -o 0"},
	} {
		s := Ruleset{{Tool: "iptables", Family: "ip", Table: "filter", Name: "FORWARD", Hook: "forward", Drops: c.drops, Rules: c.rules}}
		got := ""
		for _, b := range s.Blocks(Bridge{Name: "br-web", Uplink: "eth0", Families: []int{4}, Others: strings.Fields(c.others), Put: func(*Chain) []string { return c.put }}) {
			got += fmt.Sprint(b.Ours, " ", puts(b))
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
		{[]Rule{out, drop("docker0"), in}, "[0 1 2]"},
		{[]Rule{drop("eth9")}, "[]"},
	} {
		if got := fmt.Sprint((&Chain{Rules: c.rules}).Find(put)); got != c.want {
			t.Errorf("%+v: got %s, want %s", c.rules, got, c.want)
		}
	}
}
