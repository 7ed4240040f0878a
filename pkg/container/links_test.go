package container

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/firewall"
	"dcni/pkg/names"
)

func linkedDB(addresses ...string) Linked {
	l := Linked{Link: names.Link{Target: "db", Alias: "my-db"}, Hostname: "db-host", Name: "db"}
	for _, a := range addresses {
		l.Addresses = append(l.Addresses, netip.MustParseAddr(a))
	}
	return l
}

func TestLinkedVariables(t *testing.T) {
	l := linkedDB("fd00::2", "10.1.0.2")
	l.Env = []string{"COLOR=red", "HOME=/root", "PATH=/bin", "BARE"}
	l.Exposed = firewall.ExposedPorts([]firewall.Exposed{{Protocol: "udp", Port: 53}, {Protocol: "tcp", Port: 81}, {Protocol: "tcp", Port: 80}, {Protocol: "tcp", Port: 90}}, nil)
	want := `MY_DB_PORT=tcp://10.1.0.2:80
MY_DB_PORT_80_TCP=tcp://10.1.0.2:80
MY_DB_PORT_80_TCP_ADDR=10.1.0.2
MY_DB_PORT_80_TCP_PORT=80
MY_DB_PORT_80_TCP_PROTO=tcp
MY_DB_PORT_81_TCP=tcp://10.1.0.2:81
MY_DB_PORT_81_TCP_ADDR=10.1.0.2
MY_DB_PORT_81_TCP_PORT=81
MY_DB_PORT_81_TCP_PROTO=tcp
MY_DB_PORT_90_TCP=tcp://10.1.0.2:90
MY_DB_PORT_90_TCP_ADDR=10.1.0.2
MY_DB_PORT_90_TCP_PORT=90
MY_DB_PORT_90_TCP_PROTO=tcp
MY_DB_PORT_53_UDP=udp://10.1.0.2:53
MY_DB_PORT_53_UDP_ADDR=10.1.0.2
MY_DB_PORT_53_UDP_PORT=53
MY_DB_PORT_53_UDP_PROTO=udp
MY_DB_PORT_80_TCP_START=tcp://10.1.0.2:80
MY_DB_PORT_80_TCP_PORT_START=80
MY_DB_PORT_80_TCP_END=tcp://10.1.0.2:81
MY_DB_PORT_80_TCP_PORT_END=81
MY_DB_NAME=/web/my-db
MY_DB_ENV_COLOR=red`
	if got := strings.Join(l.Variables("web"), "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := linkedDB("10.1.0.2").Variables("web"); !slices.Equal(got, []string{"MY_DB_NAME=/web/my-db"}) {
		t.Errorf("without a port: %q", got)
	}
}

// A link's lines are replaced, and no others.
func TestReplaceLinked(t *testing.T) {
	const others = "127.0.0.1\tlocalhost\n192.0.2.9\tmy-db\n10.1.0.9\tweb-host web\n"
	first := ReplaceLinked(others, linkedDB("10.1.0.2", "fd00::2"), nil)
	if want := others + "10.1.0.2\tmy-db db-host db\nfd00::2\tmy-db db-host db\n"; first != want {
		t.Errorf("got %q, want %q", first, want)
	}
	if again := ReplaceLinked(first, linkedDB("10.1.0.2", "fd00::2"), nil); again != first {
		t.Errorf("the same again: %q", again)
	}
	if got, want := ReplaceLinked(first, linkedDB("10.1.0.7"), nil), others+"10.1.0.7\tmy-db db-host db\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := RemoveLinked(first, []names.Link{{Target: "db", Alias: "my-db"}}, nil); got != others {
		t.Errorf("left: %q", got)
	}
}

// The container's own line stays where its hostname is the alias, or a link's address was its own before.
func TestReplaceLinkedOwn(t *testing.T) {
	const own = "127.0.0.1\tlocalhost\n10.1.0.3\tmy-db web\nfd00::3\tmy-db web\n"
	addresses := []netip.Addr{netip.MustParseAddr("10.1.0.3"), netip.MustParseAddr("fd00::3")}
	text := ReplaceLinked(own, linkedDB("10.1.0.2"), addresses)
	if want := own + "10.1.0.2\tmy-db db-host db\n"; text != want {
		t.Errorf("got %q, want %q", text, want)
	}
	text = ReplaceLinked(text, linkedDB("10.1.0.7"), addresses)
	if want := own + "10.1.0.7\tmy-db db-host db\n"; text != want {
		t.Errorf("got %q, want %q", text, want)
	}
	if got := RemoveLinked(text, []names.Link{{Target: "db", Alias: "my-db"}}, addresses); got != own {
		t.Errorf("left: %q", got)
	}
}

func TestMergeLinks(t *testing.T) {
	got := MergeLinks([]names.Link{{Target: "a", Alias: "x"}, {Target: "b", Alias: "y"}}, []names.Link{{Target: "c", Alias: "x"}, {Target: "d", Alias: "z"}, {Target: "e", Alias: "z"}})
	if want := []names.Link{{Target: "b", Alias: "y"}, {Target: "c", Alias: "x"}, {Target: "e", Alias: "z"}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestLinkOptions(t *testing.T) {
	for _, c := range []struct {
		options Options
		want    string
	}{
		{Options{Links: []string{"db:store", "/cache"}}, ""},
		{Options{Networks: []string{"name=lab,link=db:store"}}, ""},
		{Options{Links: []string{""}}, "empty string specified for links"},
		{Options{Links: []string{"a:b:c"}}, "bad format for links: a:b:c"},
		{Options{Links: []string{":b"}}, "bad format for links: :b"},
		{Options{Links: []string{"a:"}}, "bad format for links: a:"},
		{Options{Networks: []string{"host"}, Links: []string{"db"}}, "conflicting options: host type networking can't be used with links. This would result in undefined behavior"},
		{Options{Networks: []string{"container:c1"}, Links: []string{"db"}}, "conflicting options: container type network can't be used with links. This would result in undefined behavior"},
		{Options{Networks: []string{"name=lab,link=a"}, Links: []string{"db"}}, "conflicting options: cannot specify both --link and per-network links"},
		{Options{Expose: []string{"80:81"}}, "invalid port format for --expose: 80:81"},
		{Options{Expose: []string{"9-8"}}, `invalid range format for --expose: 9-8, error: "9-8": must be a port from 1 to 65535, or two with '-' between them`},
	} {
		_, err := c.options.Parse()
		if got := text(err); got != c.want {
			t.Errorf("%+v: %q, want %q", c.options, got, c.want)
		}
	}
	s, err := (&Options{Links: []string{"db:store", "/cache"}, Expose: []string{"80-81", "53/udp"}}).Parse()
	if err != nil || len(s.Networks[0].Links) != 2 || s.Networks[0].Links[1] != (names.Link{Target: "cache", Alias: "cache"}) || len(s.Exposed) != 3 {
		t.Errorf("%+v, %v", s, err)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
