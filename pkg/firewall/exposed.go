package firewall

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Exposed is a port of a container that those reach which link to it.
type Exposed struct {
	Protocol string `json:"protocol"` // tcp, udp or sctp
	Port     uint16 `json:"port"`
}

// String returns it as Docker writes it, "80/tcp".
func (e Exposed) String() string { return strconv.Itoa(int(e.Port)) + "/" + e.Protocol }

// ParseExposed reads Docker's PORT[-PORT][/PROTOCOL].
func ParseExposed(s string) ([]Exposed, error) {
	ports, protocol, has := strings.Cut(s, "/")
	if !has {
		protocol = "tcp"
	}
	protocol = strings.ToLower(protocol)
	if !slices.Contains([]string{"tcp", "udp", "sctp"}, protocol) {
		return nil, fmt.Errorf("%q: the protocol must be tcp, udp or sctp", s)
	}
	from, to, isRange := strings.Cut(ports, "-")
	if !isRange {
		to = from
	}
	first, err := strconv.ParseUint(from, 10, 16)
	last, bad := strconv.ParseUint(to, 10, 16)
	if err != nil || bad != nil || first == 0 || last < first {
		return nil, fmt.Errorf("%q: must be a port from 1 to 65535, or two with '-' between them", s)
	}
	var list []Exposed
	for port := first; port <= last; port++ {
		list = append(list, Exposed{protocol, uint16(port)})
	}
	return list, nil
}

// ExposedPorts returns what a container exposes, each port once, in the order of Docker's
// variables: tcp comes first. Published ports are exposed as well.
func ExposedPorts(list []Exposed, published []Port) []Exposed {
	out := slices.Clone(list)
	for _, p := range published {
		out = append(out, Exposed{p.Protocol, p.ContainerPort})
	}
	slices.SortFunc(out, func(a, b Exposed) int {
		rank := func(protocol string) int { return slices.Index([]string{"tcp", "sctp", "udp"}, protocol) }
		return cmp.Or(cmp.Compare(rank(a.Protocol), rank(b.Protocol)), cmp.Compare(a.Port, b.Port))
	})
	return slices.Compact(out)
}

// JoinExposed writes ports as words that [ParseExposed] reads, with commas between them: ports that
// follow one another are a range.
func JoinExposed(list []Exposed) string {
	var words []string
	for _, run := range Runs(ExposedPorts(list, nil)) {
		first, last := run[0], run[len(run)-1]
		if word := first.String(); first == last {
			words = append(words, word)
		} else {
			words = append(words, fmt.Sprintf("%d-%s", first.Port, last))
		}
	}
	return strings.Join(words, ",")
}

// Runs cuts a list where a port does not follow the one before it.
func Runs(list []Exposed) (out [][]Exposed) {
	first := 0
	for i, e := range list {
		if i+1 < len(list) && list[i+1].Protocol == e.Protocol && list[i+1].Port == e.Port+1 {
			continue
		}
		out = append(out, list[first:i+1])
		first = i + 1
	}
	return out
}
