package firewall

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"

	"dcni/pkg/wire"
)

var (
	_ wire.Object   = (*Network)(nil)
	_ wire.Root     = (*Endpoint)(nil)
	_ wire.Referrer = (*Endpoint)(nil)
)

func web() *Network {
	return &Network{Name: "web", Bridge: "br-a", ICC: true, Masquerade: true, Subnets: []netip.Prefix{
		netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd00:1::/64")}}
}

func c1(ports ...Port) *Endpoint {
	return &Endpoint{Owner: wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}, Bridge: "br-a",
		Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00:1::2"),
			netip.MustParseAddr("10.1.0.3")}, Ports: ports}
}

func lines(elements []Element) string {
	var text []string
	for _, e := range elements {
		text = append(text, e.String())
	}
	return strings.Join(text, "\n")
}

// golden compares with a file; UPDATE=1 writes it.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || got != string(want) {
		t.Errorf("error %v, %s differs from\n%s", err, file, got)
	}
}

func TestRules(t *testing.T) { golden(t, "testdata/rules.nft", Rules().String()) }

func TestNetworkElements(t *testing.T) {
	n := web()
	first, all := n.Elements()[0], lines(n.Elements())
	want := fmt.Sprintf(`bridges { "br-a" comment %q }
icc { "br-a" . "br-a" comment "web" }
subnets4 { "br-a" . 10.1.0.0/24 comment "web" }
masquerade4 { 10.1.0.0/24 comment "web" }
subnets6 { "br-a" . fd00:1::/64 comment "web" }
masquerade6 { fd00:1::/64 comment "web" }`, first.Comment)
	if all != want {
		t.Errorf("got\n%s\nwant\n%s", all, want)
	}
	n.ICC, n.Internal = false, true
	if got := lines(n.Elements()[1:]); strings.Contains(got, "icc") || strings.Contains(got, "masquerade") ||
		!strings.Contains(got, `internal { "br-a" comment "web" }`) {
		t.Error(got)
	}
	if n.Elements()[0].Comment == first.Comment {
		t.Error("the bridge's comment says nothing of the change")
	}
}

// On a bridge that dcni did not make, no element says anything of the bridge as a whole
// that rules would take for its containers.
func TestAdoptedElements(t *testing.T) {
	n := web()
	n.Adopted = true
	first, all := n.Elements()[0], lines(n.Elements())
	want := fmt.Sprintf(`adopted { "br-a" . "br-a" comment %q }
icc { "br-a" . "br-a" comment "web" }
masqueraded { "br-a" comment "web" }
subnets4 { "br-a" . 10.1.0.0/24 comment "web" }
subnets6 { "br-a" . fd00:1::/64 comment "web" }`, first.Comment)
	if all != want {
		t.Errorf("got\n%s\nwant\n%s", all, want)
	}
	n.Internal = true
	if got := lines(n.Elements()); strings.Contains(got, "masquerade") || !strings.Contains(got, `internal { "br-a"`) {
		t.Error(got)
	}
	m := &Member{Owner: c1().Owner, Bridge: "br-a", Addresses: []netip.Addr{
		netip.MustParseAddr("::ffff:10.1.0.2"), netip.MustParseAddr("fd00:1::2"),
	}}
	want = `members4 { "br-a" . 10.1.0.2 comment "web c1/eth0" }
members6 { "br-a" . fd00:1::2 comment "web c1/eth0" }`
	if got := lines(m.Elements()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestGuards(t *testing.T) {
	e := c1(
		Port{HostPort: 8080, Protocol: "tcp", ContainerPort: 80}, Port{HostPort: 53, Protocol: "udp", ContainerPort: 53},
		Port{HostPort: 9, Protocol: "sctp", ContainerPort: 9, HostIP: netip.MustParseAddr("127.0.0.1")}, Port{Protocol: "tcp", ContainerPort: 81},
	)
	want := `guarded4 { tcp . 8080 comment "web c1/eth0" }
guarded6 { tcp . 8080 comment "web c1/eth0" }
guarded4_addr { 127.0.0.1 . sctp . 9 comment "web c1/eth0" }`
	if got := lines(e.Guards()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	const many = 1000
	e.Ports = nil
	for i := range many {
		e.Ports = append(e.Ports, Port{HostPort: 8000 + uint16(i), Protocol: "tcp", ContainerPort: 80})
	}
	if got := e.Guards(); len(got) != 2*many {
		t.Errorf("%d ports: %d guards", many, len(got))
	}
}

func TestEndpointElements(t *testing.T) {
	v4only, v6only := c1(), c1()
	v4only.Addresses, v6only.Addresses = v4only.Addresses[:1], v6only.Addresses[1:2]
	for _, c := range []struct {
		endpoint *Endpoint
		hostIP   string
		want     string
	}{
		{c1(), "", `ports4 { tcp . 8080 comment "web c1/eth0" : 10.1.0.2 . 80 }` + "\n" +
			`ports6 { tcp . 8080 comment "web c1/eth0" : fd00:1::2 . 80 }`},
		{c1(), "0.0.0.0", `ports4 { tcp . 8080 comment "web c1/eth0" : 10.1.0.2 . 80 }`},
		{c1(), "::", `ports6 { tcp . 8080 comment "web c1/eth0" : fd00:1::2 . 80 }`},
		{c1(), "127.0.0.1", `ports4_addr { 127.0.0.1 . tcp . 8080 comment "web c1/eth0" : 10.1.0.2 . 80 }`},
		{c1(), "::ffff:127.0.0.1", `ports4_addr { 127.0.0.1 . tcp . 8080 comment "web c1/eth0" : 10.1.0.2 . 80 }`},
		{c1(), "::1", `ports6_addr { ::1 . tcp . 8080 comment "web c1/eth0" : fd00:1::2 . 80 }`},
		{v4only, "", `ports4 { tcp . 8080 comment "web c1/eth0" : 10.1.0.2 . 80 }`},
		{v4only, "::", `relayed6 { tcp . 8080 comment "web c1/eth0" }`},
		{v4only, "::1", `relayed6_addr { ::1 . tcp . 8080 comment "web c1/eth0" }`},
		{v4only, "0.0.0.0", `ports4 { tcp . 8080 comment "web c1/eth0" : 10.1.0.2 . 80 }`},
		{v6only, "", `ports6 { tcp . 8080 comment "web c1/eth0" : fd00:1::2 . 80 }`},
		{v6only, "0.0.0.0", ""},
	} {
		p := Port{HostPort: 8080, Protocol: "tcp", ContainerPort: 80}
		if c.hostIP != "" {
			p.HostIP = netip.MustParseAddr(c.hostIP)
		}
		c.endpoint.Ports = []Port{p}
		if got := lines(c.endpoint.Elements()); got != c.want {
			t.Errorf("%q: got\n%s\nwant\n%s", c.hostIP, got, c.want)
		}
	}
	if unchosen := c1(Port{Protocol: "tcp", ContainerPort: 80}); len(unchosen.Elements()) != 0 {
		t.Error("a port not yet chosen has elements")
	}
}

func TestStrings(t *testing.T) {
	e := c1(Port{HostPort: 8080, Protocol: "tcp", ContainerPort: 80})
	other := *e
	other.Backend = IPTables
	for got, want := range map[string]string{
		other.String():      "rules of iptables for 0.0.0.0:8080->80/tcp of web c1/eth0",
		web().Key():         "firewall network web",
		e.Key():             "firewall endpoint web c1/eth0",
		c1().String():       "firewall endpoint web c1/eth0 publishes nothing",
		e.Ports[0].String(): "0.0.0.0:8080->80/tcp",
		e.String(): `element inet dcni ports4 { tcp . 8080 comment "web c1/eth0" : 10.1.0.2 . 80 }; ` +
			`ports6 { tcp . 8080 comment "web c1/eth0" : fd00:1::2 . 80 }`,
		e.Ports[0].HostAddr(true): "[::]:8080",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if strings.Contains(web().String(), "\n") {
		t.Error("a network is more than one line")
	}
}

func TestValidate(t *testing.T) {
	port := func(ip string, p uint16, proto string) Port {
		q := Port{HostPort: p, Protocol: proto, ContainerPort: 80}
		if ip != "" {
			q.HostIP = netip.MustParseAddr(ip)
		}
		return q
	}
	for _, c := range []struct {
		ports []Port
		want  string
	}{
		{[]Port{port("", 80, "tcp"), port("", 80, "udp"), port("", 0, "tcp"), port("", 0, "tcp")}, ""},
		{[]Port{port("0.0.0.0", 80, "tcp"), port("::", 80, "tcp")}, ""},
		{[]Port{port("127.0.0.1", 80, "tcp"), port("127.0.0.2", 80, "tcp")}, ""},
		{[]Port{port("", 80, "tcp"), port("", 80, "tcp")}, "twice on 0.0.0.0:80/tcp"},
		{[]Port{port("", 80, "tcp"), port("::1", 80, "tcp")}, "twice on [::1]:80/tcp"},
		{[]Port{port("127.0.0.1", 80, "sctp"), port("0.0.0.0", 80, "sctp")}, "portMappings[1].hostPort"},
		{[]Port{port("", 80, "icmp")}, `protocol "icmp": must be tcp, udp or sctp`},
		{[]Port{{HostPort: 80, Protocol: "tcp"}}, "containerPort 0: must be 1 to 65535"},
		{[]Port{port("fe80::1%eth0", 80, "tcp")}, "without a zone"},
	} {
		err := c1(c.ports...).Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v: error %v, want %q", c.ports, err, c.want)
		}
	}
}

func TestJSON(t *testing.T) {
	n, e := web(), c1(Port{HostPort: 8080, Protocol: "tcp", ContainerPort: 80},
		Port{HostIP: netip.MustParseAddr("::1"), HostPort: 81, Protocol: "udp", ContainerPort: 80})
	var n2 Network
	var e2 Endpoint
	for from, to := range map[any]any{n: &n2, e: &e2} {
		text, err := json.Marshal(from)
		if err == nil {
			err = json.Unmarshal(text, to)
		}
		if err != nil || !reflect.DeepEqual(from, to) {
			t.Errorf("%s: error %v, came back as %v", text, err, to)
		}
	}
}

func TestLongNamesStayApart(t *testing.T) {
	long := strings.Repeat("x", 200)
	a, b := wire.Attachment{Network: long, Container: "a"}, wire.Attachment{Network: long, Container: "b"}
	if Comment(a) == Comment(b) || len(Comment(a)) > maxComment {
		t.Errorf("comments %q and %q", Comment(a), Comment(b))
	}
	if NetworkComment(long) == NetworkComment(long+"y") {
		t.Error("two networks look the same")
	}
	if n := (&Network{Name: long}).Elements()[0]; len(n.Comment) > maxComment {
		t.Errorf("comment of %d bytes", len(n.Comment))
	}
}

func TestChainUses(t *testing.T) {
	uses := map[string]uint32{}
	for _, c := range Rules().Chains {
		uses[c.Name] += uint32(len(c.Rules))
		for _, r := range c.Rules {
			if to, ok := r.Verdict.(Jump); ok {
				uses[string(to)]++
			}
		}
	}
	delete(uses, UserChain)
	for _, u := range ChainUses {
		if uses[u.Chain] != u.Times {
			t.Errorf("chain %s: ChainUses says %d, the rules say %d", u.Chain, u.Times, uses[u.Chain])
		}
		delete(uses, u.Chain)
	}
	if len(uses) > 0 {
		t.Errorf("not in ChainUses: %v", uses)
	}
}

func TestVersion(t *testing.T) {
	if want := digestOf(table()); Version != want {
		t.Errorf("the rules have changed: Version must be %q", want)
	}
}

func TestOwnerOf(t *testing.T) {
	a := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
	if got, ok := OwnerOf(Comment(a)); got != a || !ok {
		t.Errorf("%q is of %v, %v", Comment(a), got, ok)
	}
	long := wire.Attachment{Network: strings.Repeat("n", 90), Container: strings.Repeat("c", 90), IfName: "eth0"}
	for _, comment := range []string{Comment(long), NetworkComment("web"), Comment(OfService("web", "api")), ""} {
		if got, ok := OwnerOf(comment); ok {
			t.Errorf("%q is of %v", comment, got)
		}
	}
}
