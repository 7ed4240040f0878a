package dns

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/names"

	mdns "github.com/miekg/dns"
)

func TestLocal(t *testing.T) {
	e := bare(View{Names: table().View("web")})
	for question, want := range map[string]string{
		"one A":                     "NOERROR rd ra; one. 600 A 10.1.0.2",
		"one AAAA":                  "NOERROR rd ra; one. 600 AAAA fd01::2",
		"oNE A":                     "NOERROR rd ra; oNE. 600 A 10.1.0.2",
		"one.web A":                 "NOERROR rd ra; one.web. 600 A 10.1.0.2",
		"ONE.Web AAAA":              "NOERROR rd ra; ONE.Web. 600 AAAA fd01::2",
		"db A":                      "NOERROR rd ra; db. 600 A 10.1.0.2; db. 600 A 10.1.0.3",
		"db AAAA":                   "NOERROR rd ra; db. 600 AAAA fd01::2",
		"two AAAA":                  "NOERROR rd ra",
		"six A":                     "NOERROR rd ra",
		"one MX":                    "NOERROR rd ra",
		"one TXT":                   "NOERROR rd ra",
		"one HTTPS":                 "NOERROR rd ra",
		"one NS":                    "NOERROR rd ra",
		"one SRV":                   "NOERROR rd ra",
		"one PTR":                   "NOERROR rd ra",
		"one ANY":                   "NOERROR rd ra; one. 600 A 10.1.0.2; one. 600 AAAA fd01::2",
		"host.docker.internal A":    "NOERROR rd ra; host.docker.internal. 600 A 10.1.0.1",
		"host.docker.internal AAAA": "NOERROR rd ra",
		"gateway.docker.internal A": "NOERROR rd ra; gateway.docker.internal. 600 A 10.1.0.1",
		"2.0.1.10.in-addr.arpa PTR": "NOERROR rd ra; 2.0.1.10.in-addr.arpa. 600 PTR one.web.",
		"4.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.D.F.ip6.arpa PTR": "NOERROR rd ra; " +
			"4.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.D.F.ip6.arpa. 600 PTR six.web.",
		"_80._tcp.two SRV":          "NOERROR rd ra; _80._tcp.two. 600 SRV 0 0 80 two.; additional two. 600 A 10.1.0.3",
		"80.tcp.two.web SRV":        "NOERROR rd ra; 80.tcp.two.web. 600 SRV 0 0 80 two.web.; additional two.web. 600 A 10.1.0.3",
		"_http._tcp.Six SRV":        "NOERROR rd ra; _http._tcp.Six. 600 SRV 0 0 80 Six.; additional Six. 600 AAAA fd01::4",
		"domain.udp.two SRV":        "NOERROR rd ra; domain.udp.two. 600 SRV 0 0 53 two.; additional two. 600 A 10.1.0.3",
		"_9._sctp.two SRV":          "NOERROR rd ra; _9._sctp.two. 600 SRV 0 0 9 two.; additional two. 600 A 10.1.0.3",
		"_nosuch._tcp.two SRV":      "NOERROR rd ra",
		"_99999._tcp.two SRV":       "NOERROR rd ra",
		"_80._tcp.two A":            "NOERROR rd ra",
		"80.tcp.two AAAA":           "NOERROR rd ra",
		"_nosuch._tcp.two TXT":      "NOERROR rd ra",
		"_80._tcp.two ANY":          "NOERROR rd ra; _80._tcp.two. 600 SRV 0 0 80 two.; additional two. 600 A 10.1.0.3",
		"_80._tcp.four A":           "SERVFAIL rd ra",
		"api.tcp.two A":             "SERVFAIL rd ra", // no port: any name
		"2.0.1.10.in-addr.arpa A":   "NOERROR rd ra",
		"2.0.1.10.IN-ADDR.ARPA MX":  "NOERROR rd ra",
		"2.0.1.10.in-addr.arpa ANY": "NOERROR rd ra; 2.0.1.10.in-addr.arpa. 600 PTR one.web.",
		"5.0.2.10.in-addr.arpa A":   "SERVFAIL rd ra",
		"one A edns=512":            "NOERROR rd ra; edns 1232 do=false; one. 600 A 10.1.0.2",
		"one A do":                  "NOERROR rd ra; edns 1232 do=true; one. 600 A 10.1.0.2",
		"one A cookie":              "NOERROR rd ra; edns 1232 do=false; one. 600 A 10.1.0.2",
		"one A edns=0":              "NOERROR rd ra; edns 1232 do=false; one. 600 A 10.1.0.2",
		"_80._tcp.two SRV do":       "NOERROR rd ra; edns 1232 do=true; _80._tcp.two. 600 SRV 0 0 80 two.; additional two. 600 A 10.1.0.3",
		"one A norec":               "NOERROR ra; one. 600 A 10.1.0.2",
		"one A cd ad":               "NOERROR rd ra cd; one. 600 A 10.1.0.2",
		"one ANY cd":                "NOERROR rd ra cd; one. 600 A 10.1.0.2; one. 600 AAAA fd01::2",
		"one AXFR":                  "REFUSED rd ra",
		"one TSIG":                  "REFUSED rd ra",
		"four A":                    "SERVFAIL rd ra", // of another network, and no upstream
		"four.other A":              "SERVFAIL rd ra",
		"5.0.2.10.in-addr.arpa PTR": "SERVFAIL rd ra",
		"_80._tcp.four SRV":         "SERVFAIL rd ra",
		"_80._icmp.two SRV":         "SERVFAIL rd ra",
		"web A":                     "SERVFAIL rd ra",
		"example.com A edns=4096":   "SERVFAIL rd ra; edns 1232 do=false",
		"example.com A cookie":      "SERVFAIL rd ra; edns 1232 do=false",
		"x.in-addr.arpa PTR":        "SERVFAIL rd ra",
		"1.2.3.in-addr.arpa PTR":    "SERVFAIL rd ra",
		". NS":                      "SERVFAIL rd ra",
	} {
		for _, tcp := range []bool{false, true} {
			query, err := ask(question).Pack()
			if err != nil {
				t.Fatal(err)
			}
			if got := read(t, direct(e, query, tcp)); show(got) != want {
				t.Errorf("%s: %s\nwant %s", question, show(got), want)
			} else if got.Id != ask2ID(query) || got.Question[0] != ask(question).Question[0] {
				t.Errorf("%s: answer to another question: %v", question, got)
			}
		}
	}
}

func ask2ID(query []byte) uint16 { return be.Uint16(query) }

func read(t testing.TB, b []byte) *mdns.Msg {
	t.Helper()
	if b == nil {
		return nil
	}
	m := new(mdns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatalf("answer %x: %v", b, err)
	}
	return m
}

// TestTruncation asks for a name with 300 addresses.
func TestTruncation(t *testing.T) {
	e := bare(View{Names: table().View("web")})
	for _, c := range []struct {
		question  string
		tcp       bool
		most      int // bytes
		addresses int
	}{
		{"many A", false, 512, (512 - 12 - 10) / 16},
		{"many A edns=100", false, 512, (512 - 12 - 10 - 11) / 16},
		{"many A edns=1232", false, 1232, (1232 - 12 - 10 - 11) / 16},
		{"many A edns=4096", false, 4096, (4096 - 12 - 10 - 11) / 16},
		{"many A edns=65535", false, 4096, (4096 - 12 - 10 - 11) / 16},
		{"many A", true, maxMessage, 300},
		{"many A edns=512", true, maxMessage, 300},
		{"many ANY", true, maxMessage, 300},
	} {
		query, _ := ask(c.question).Pack()
		b := direct(e, query, c.tcp)
		m := read(t, b)
		if len(b) > c.most || len(m.Answer) != c.addresses || m.Truncated == c.tcp {
			t.Errorf("%s tcp=%v: %d bytes, %d addresses, truncated %v", c.question, c.tcp, len(b), len(m.Answer), m.Truncated)
		}
	}
	for _, question := range []string{"many ANY", "_80._tcp.many SRV"} {
		query, _ := ask(question).Pack()
		if b := direct(e, query, false); len(b) > minUDP {
			t.Errorf("%s: %d bytes", question, len(b))
		}
	}
}

// TestOrder checks that each of a name's addresses comes first in turn.
func TestOrder(t *testing.T) {
	e := bare(View{Names: table().View("web")})
	first := map[string]int{}
	query, _ := ask("db A").Pack()
	for range 10 {
		first[read(t, direct(e, query, false)).Answer[0].(*mdns.A).A.String()]++
	}
	if len(first) != 2 || first["10.1.0.2"] != 5 {
		t.Errorf("first were %v", first)
	}
}

func TestBadMessages(t *testing.T) {
	e := bare(View{Names: table().View("web")})
	change := func(f func(m *mdns.Msg)) []byte {
		m := ask("one A")
		f(m)
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := change(func(*mdns.Msg) {})
	for name, c := range map[string]struct {
		query []byte
		want  string
	}{
		"empty":         {nil, "nothing"},
		"short":         {good[:11], "nothing"},
		"an answer":     {change(func(m *mdns.Msg) { m.Response = true }), "nothing"},
		"header":        {good[:12], "FORMERR rd ra"},
		"cut":           {good[:len(good)-1], "FORMERR rd ra"},
		"cut name":      {good[:14], "FORMERR rd ra"},
		"pointer loop":  {append(good[:12:12], 0xc0, 0x0c, 0, 1, 0, 1), "FORMERR rd ra"},
		"two loops":     {append(good[:12:12], 0xc0, 0x0e, 0xc0, 0x0c, 0, 1, 0, 1), "FORMERR rd ra"},
		"label type":    {append(good[:12:12], 0x40, 0, 0, 1, 0, 1), "FORMERR rd ra"},
		"long name":     {append(append(good[:12:12], []byte(strings.Repeat("\x3f"+strings.Repeat("a", 63), 4))...), 0, 0, 1, 0, 1), "FORMERR rd ra"},
		"no question":   {change(func(m *mdns.Msg) { m.Question = nil }), "FORMERR rd ra"},
		"two questions": {change(func(m *mdns.Msg) { m.Question = append(m.Question, m.Question[0]) }), "FORMERR rd ra"},
		"NOTIFY":        {change(func(m *mdns.Msg) { m.Opcode = mdns.OpcodeNotify }), "NOTIMP ra"},
		"UPDATE":        {change(func(m *mdns.Msg) { m.Opcode = mdns.OpcodeUpdate }), "NOTIMP ra"},
		// BADVERS has the number of BADSIG, which is what miekg/dns calls it.
		"EDNS 1":    {change(func(m *mdns.Msg) { m.SetEdns0(1232, false).IsEdns0().SetVersion(1) }), "BADSIG rd ra; edns 1232 do=false"},
		"trailing":  {append(good[:len(good):len(good)], 1, 2, 3), "NOERROR rd ra; one. 600 A 10.1.0.2"},
		"class CH":  {change(func(m *mdns.Msg) { m.Question[0].Qclass = mdns.ClassCHAOS }), "NOERROR rd ra"},
		"class ANY": {change(func(m *mdns.Msg) { m.Question[0].Qclass = mdns.ClassANY }), "NOERROR rd ra; one. 600 A 10.1.0.2"},
	} {
		for _, tcp := range []bool{false, true} {
			m := read(t, direct(e, c.query, tcp))
			if got := show(m); got != c.want {
				t.Errorf("%s: %s, want %s", name, got, c.want)
			}
		}
	}
	if got := e.server.Stats().Answers; got[Dropped] != 6 || got[Malformed] != 24 {
		t.Errorf("counted %v", got)
	}
}

// TestTwoPaths compares the answers that are made in place with those of miekg/dns.
func TestTwoPaths(t *testing.T) {
	view := table().View("web")
	e := bare(View{Names: view})
	r := rand.New(rand.NewPCG(3, 4))
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	for range 2000 {
		question := pick("one", "TWO", "six", "db", "db.web", "one.WEB", "host.docker.internal", "2.0.1.10.in-addr.arpa", "_80._tcp.two", "80.tcp.TWO") + " " +
			pick("A", "AAAA", "MX", "TXT", "CNAME") + " " + pick("", "edns=1232", "do", "edns=4096 cd") + " " + pick("", "norec", "ad", "cd")
		query := ask(question)
		b, _ := query.Pack()
		want := answerLocal(query, view)
		if want == nil {
			continue
		}
		wanted := show(read(t, packed(query, want, client{endpoint: e, at: e})))
		if got := show(read(t, direct(e, b, false))); got != wanted {
			t.Fatalf("%s: %s\nmiekg/dns: %s", question, got, wanted)
		}
	}
}

// TestReverseStaysHome asks for the names of addresses of our networks: what has none
// here has none elsewhere, and no server is asked. An address of other networks is.
func TestReverseStaysHome(t *testing.T) {
	f := upstreamServer(t, rcode(mdns.RcodeRefused))
	s := NewServer(Config{})
	s.SetUpstream(upstreamOf(f))
	subnets := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd00:1::/64")}
	web := names.Network{Name: "web", TTL: 600, Gateways: []netip.Addr{addr("10.1.0.1"), addr("fd00:1::1")}, Subnets: subnets}
	table := new(names.Table).
		Add(web, names.Entry{Container: "c1", IfName: "eth0", Names: []string{"one"}, Addresses: []netip.Addr{addr("10.1.0.2")}}).
		Add(names.Network{Name: "lab", TTL: 600, Subnets: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24")}},
			names.Entry{Container: "c2", IfName: "eth0", Names: []string{"two"}, Addresses: []netip.Addr{addr("10.2.0.2")}}).
		Add(names.Network{Name: "lan", TTL: 600, Gateways: []netip.Addr{addr("192.0.2.1")}},
			names.Entry{Container: "c3", IfName: "eth0", Names: []string{"three"}, Addresses: []netip.Addr{addr("192.0.2.3")}})
	r := serve(t, s, View{Names: table.View("web", "lan")})
	for _, c := range []struct{ address, want string }{
		{"10.1.0.2", "one.web."},
		{"10.1.0.77", "NXDOMAIN"}, {"10.1.0.0", "NXDOMAIN"}, {"10.1.0.255", "NXDOMAIN"}, {"fd00:1::77", "NXDOMAIN"},
		{"10.1.0.1", "gateway.docker.internal."}, {"fd00:1::1", "gateway.docker.internal."},
		{"10.2.0.2", "NXDOMAIN"}, {"10.2.0.77", "NXDOMAIN"}, // of a network that the container is not on
		{"192.0.2.3", "three.lan."},
	} {
		name, err := mdns.ReverseAddr(c.address)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.exchange("udp", name+" PTR"); !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", c.address, got, c.want)
		}
	}
	const ula = "0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa" // of fd00:1::/64
	for _, c := range []struct{ question, want string }{
		// the networks' own names, and those below them that addresses are under
		{"0.1.10.in-addr.arpa. PTR", "NOERROR rd ra"}, {"0.1.10.in-addr.arpa. SOA", "NOERROR rd ra"},
		{"0.0.0." + ula + " PTR", "NOERROR rd ra"}, {ula + " NS", "NOERROR rd ra"},
		// above them there is no PTR
		{"1.10.in-addr.arpa. PTR", "NOERROR rd ra"}, {"10.in-addr.arpa. PTR", "NOERROR rd ra"}, {"d.f.ip6.arpa. PTR", "NOERROR rd ra"},
		// nothing but addresses is in them
		{"lb._dns-sd._udp.0.1.10.in-addr.arpa. PTR", "NXDOMAIN rd ra"}, {"lb._dns-sd._udp.0.0.1.10.in-addr.arpa. PTR", "NXDOMAIN rd ra"},
		{"x.2.0.1.10.in-addr.arpa. TXT", "NXDOMAIN rd ra"}, {"x." + ula + " PTR", "NXDOMAIN rd ra"}, {"02.0.1.10.in-addr.arpa. PTR", "NXDOMAIN rd ra"},
	} {
		if got := r.exchange("udp", c.question); got != c.want {
			t.Errorf("%s: %s, want %s", c.question, got, c.want)
		}
	}
	if n := f.asked.Load(); n != 0 {
		t.Errorf("a server elsewhere was asked %d times", n)
	}
	for _, name := range []string{"1.2.0.192.in-addr.arpa. PTR", "10.in-addr.arpa. NS", // a LAN's gateway; others may have something above our networks
		"1.11.in-addr.arpa. PTR", "x.1.10.in-addr.arpa. PTR", "in-addr.arpa. PTR", "ip6.arpa. PTR", "_udp.in-addr.arpa. PTR"} {
		if r.exchange("udp", name); f.asked.Load() == 0 {
			t.Errorf("%s: no server was asked", name)
		}
		f.asked.Store(0)
	}
	table = table.Remove("lab", "c2", "eth0")
	if table.View("web").Owns(netip.MustParsePrefix("10.2.0.77/32")) {
		t.Error("a network that is gone has subnets")
	}
}
