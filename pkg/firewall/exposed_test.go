package firewall

import (
	"slices"
	"testing"
)

func TestJoinExposed(t *testing.T) {
	for _, c := range []struct {
		words []string
		want  string
	}{
		{nil, ""},
		{[]string{"80"}, "80/tcp"},
		{[]string{"1-65535"}, "1-65535/tcp"},
		{[]string{"53/udp", "82", "80", "81", "81", "54/udp", "7/sctp"}, "80-82/tcp,7/sctp,53-54/udp"},
		{[]string{"65535", "1/sctp", "2/tcp", "4"}, "2/tcp,4/tcp,65535/tcp,1/sctp"},
	} {
		var list []Exposed
		for _, word := range c.words {
			ports, err := ParseExposed(word)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, ports...)
		}
		if got := JoinExposed(list); got != c.want {
			t.Errorf("%v: %s, want %s", c.words, got, c.want)
		}
		for _, run := range Runs(list) {
			if !slices.IsSortedFunc(run, func(a, b Exposed) int { return int(a.Port) - int(b.Port) }) {
				t.Errorf("%v: run %v", c.words, run)
			}
		}
	}
}
