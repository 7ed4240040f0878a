package foreign

import (
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables/expr"

	"dcni/pkg/firewall/foreign"
	"dcni/pkg/host/iptables"
)

// Legacy lists the chains of the iptables that came before nf_tables, where the
// kernel has any in this namespace. Its own program is asked: what the kernel gives is
// the layout of its memory.
func Legacy() ([]foreign.Chain, error) { return legacy("filter", "nat") }

func legacy(wanted ...string) (list []foreign.Chain, err error) {
	for _, v := range []struct{ file, tool, family string }{
		{"/proc/net/ip_tables_names", "iptables-legacy", "ip"}, {"/proc/net/ip6_tables_names", "ip6tables-legacy", "ip6"},
	} {
		tables, _ := os.ReadFile(v.file) // not there: none
		for _, table := range strings.Fields(string(tables)) {
			if !slices.Contains(wanted, table) {
				continue
			}
			out, e := exec.Command(v.tool, "-w", "5", "-t", table, "-S").Output()
			if e != nil {
				err = iptables.Explain(v.tool, e)
				continue
			}
			list = append(list, parseSave(string(out), foreign.Chain{Tool: v.tool, Family: v.family, Table: table})...)
		}
	}
	return list, err
}

// parseSave reads what iptables -S prints.
func parseSave(text string, like foreign.Chain) (list []foreign.Chain) {
	for line := range strings.Lines(text) {
		words := split(line)
		switch {
		case len(words) > 2 && words[0] == "-P":
			c := like
			c.Name, c.Drops = words[1], words[2] == "DROP"
			c.Hook = map[string]string{"FORWARD": "forward", "PREROUTING": "prerouting"}[words[1]]
			list = append(list, c)
		case len(words) > 1 && words[0] == "-N":
			c := like
			c.Name = words[1]
			list = append(list, c)
		case len(words) > 1 && words[0] == "-A":
			i := slices.IndexFunc(list, func(c foreign.Chain) bool { return c.Name == words[1] })
			if i >= 0 {
				list[i].Rules = append(list[i].Rules, parseRule(words[2:]))
			}
		}
	}
	return list
}

// split splits a line of iptables -S, which puts a value that has other characters than
// letters into double quotes, and a backslash before those that are in it.
func split(line string) (words []string) {
	var word []byte
	begun, quoted := false, false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '"':
			begun, quoted = true, !quoted
		case c == '\\' && quoted && i+1 < len(line):
			i++
			word = append(word, line[i])
		case !quoted && (c == ' ' || c == '\n'):
			if begun {
				words = append(words, string(word))
			}
			word, begun = nil, false
		default:
			word, begun = append(word, c), true
		}
	}
	if begun {
		words = append(words, string(word))
	}
	return words
}

// parseRule reads the options of a rule.
func parseRule(words []string) (r foreign.Rule) {
	for i := 0; i < len(words); i++ {
		value := ""
		if i+1 < len(words) {
			value = words[i+1]
		}
		switch words[i] {
		case "!": // an option follows, and what is not to match
			r.Other = true
			i++
		case "-i":
			r.In = []string{strings.Replace(value, "+", "*", 1)}
		case "-o":
			r.Out = []string{strings.Replace(value, "+", "*", 1)}
		case "-p":
			r.Protocol = strings.TrimPrefix(strings.TrimSuffix(value, "v6"), "ipv6-") // icmp of either family
		case "--dport":
			port, err := strconv.ParseUint(value, 10, 16)
			r.Port, r.Other = uint16(port), r.Other || err != nil
		case "--ctstate", "--state":
			readStates(&r, value)
		case "-j", "-g":
			r.Verdict, r.To = target(value, words[i] == "-g")
			r.Rejects = value == "REJECT"
		case "-m", "--reject-with", "--to-destination", "--to-ports", "--comment":
		default:
			r.Other = true
			continue // its value, if it has one, is the next word, and unknown too
		}
		i++
	}
	return r
}

// readStates reads a list of connections' states.
func readStates(r *foreign.Rule, list string) {
	var mask uint32
	for state := range strings.SplitSeq(list, ",") {
		switch state {
		case "NEW":
			mask |= expr.CtStateBitNEW
		case "ESTABLISHED":
			mask |= expr.CtStateBitESTABLISHED
		case "DNAT":
			if r.Published = list == state; r.Published {
				return
			}
			r.Other = true
		case "SNAT":
			r.Other = true
		}
	}
	r.New, r.Established = states(mask)
}

func target(name string, goes bool) (foreign.Verdict, string) {
	switch name {
	case "ACCEPT":
		return foreign.Accept, ""
	case "DROP", "REJECT":
		return foreign.Drop, ""
	case "RETURN":
		return foreign.Return, ""
	case "DNAT", "REDIRECT":
		return foreign.DNAT, ""
	case "LOG", "MASQUERADE", "SNAT", "MARK", "NFLOG", "CONNMARK", "TCPMSS":
		return foreign.None, ""
	}
	if goes {
		return foreign.Goto, name
	}
	return foreign.Jump, name
}
