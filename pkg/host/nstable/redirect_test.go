package nstable

import (
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/host/hosttest"
	"dcni/pkg/host/nlsock"
	"dcni/pkg/host/rtnl"
	"dcni/pkg/names"

	"golang.org/x/sys/unix"
)

var (
	plainRedirect     = Redirect{Port: 40001}
	interceptRedirect = Redirect{Port: 40001, intercept: true, local: []netip.Addr{netip.MustParseAddr("127.0.0.53")}}
	sixRedirect       = Redirect{six: true, Port: 40001, intercept: true}
)

// tableHere returns a family's table in the thread's namespace, where lo comes up.
func tableHere(t testing.TB, six bool) Table {
	t.Helper()
	hosttest.LoUp(t)
	conn, err := nlsock.Dial(unix.NETLINK_NETFILTER)
	if err != nil {
		t.Skip("no nf_tables:", err)
	}
	t.Cleanup(conn.Close)
	rt, err := rtnl.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rt.Close)
	return New(conn, rt, six)
}

func TestRedirectListsAsSaid(t *testing.T) {
	for _, c := range []struct {
		m    Redirect
		want string
	}{
		{plainRedirect, `table ip dcni {
	chain nameserver {
		type filter hook output priority raw; policy accept;
		ip daddr 127.0.0.11 udp dport 53 notrack udp dport set 40001 comment "dnetd-1 port 40001"
		ip saddr 127.0.0.11 udp sport 40001 notrack udp sport set 53 comment "dnetd-1 port 40001"
		ip daddr 127.0.0.11 tcp dport 53 notrack tcp dport set 40001 comment "dnetd-1 port 40001"
		ip saddr 127.0.0.11 tcp sport 40001 notrack tcp sport set 53 comment "dnetd-1 port 40001"
	}
}
`},
		{interceptRedirect, `table ip dcni {
	chain intercept {
		type nat hook output priority -100; policy accept;
		meta mark 0x64636e69 return comment "dnetd-1 port 40001 intercept 127.0.0.53"
		ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:40001 comment "dnetd-1 port 40001 intercept 127.0.0.53"
		ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:40001 comment "dnetd-1 port 40001 intercept 127.0.0.53"
		ip daddr 127.0.0.53 udp dport 53 dnat to 127.0.0.11:40001 comment "dnetd-1 port 40001 intercept 127.0.0.53"
		ip daddr 127.0.0.53 tcp dport 53 dnat to 127.0.0.11:40001 comment "dnetd-1 port 40001 intercept 127.0.0.53"
		fib daddr type local return comment "dnetd-1 port 40001 intercept 127.0.0.53"
		udp dport 53 dnat to 127.0.0.11:40001 comment "dnetd-1 port 40001 intercept 127.0.0.53"
		tcp dport 53 dnat to 127.0.0.11:40001 comment "dnetd-1 port 40001 intercept 127.0.0.53"
	}
}
`},
		{sixRedirect, `table ip6 dcni {
	chain intercept {
		type nat hook output priority -100; policy accept;
		meta mark 0x64636e69 return comment "dnetd-1 port 40001 intercept"
		fib daddr type local return comment "dnetd-1 port 40001 intercept"
		udp dport 53 dnat to [::1]:40001 comment "dnetd-1 port 40001 intercept"
		tcp dport 53 dnat to [::1]:40001 comment "dnetd-1 port 40001 intercept"
	}
}
`},
	} {
		hosttest.InNewNS(t, func() {
			table := tableHere(t, c.m.six)
			if err := table.Install(c.m); err != nil {
				t.Fatal(err)
			}
			if got := hosttest.NFT(t, "list", "ruleset"); got != c.want {
				t.Errorf("nft lists\n%s\nwant\n%s", got, c.want)
			}
			if have, err := table.Redirect(); err != nil || have.String() != c.m.String() {
				t.Errorf("looks like %q, %v, want %q", have, err, c.m)
			}
		})
	}
}

// TestRedirectEncodedOnce wants what was encoded last to be used again for the same
// rules, and for no others: those of both families can have one comment.
func TestRedirectEncodedOnce(t *testing.T) {
	four := Redirect{Port: 40001, intercept: true}
	first, err := four.encode()
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := four.encode(); again != first {
		t.Error("the same redirect is encoded twice")
	}
	for _, other := range []Redirect{sixRedirect, plainRedirect, {Port: 40002, intercept: true}} {
		if last, _ := other.encode(); last.comment != other.String() || last.six != other.six {
			t.Errorf("for %q of IPv6 %v: %q of IPv6 %v", other, other.six, last.comment, last.six)
		}
	}
}

// TestRedirectNotices wants what others do to the table to be seen, and to be put
// right.
func TestRedirectNotices(t *testing.T) {
	hosttest.InNewNS(t, func() {
		table := tableHere(t, false)
		for _, harm := range []string{
			"flush ruleset", "delete table ip dcni", "flush chain ip dcni nameserver",
			"insert rule ip dcni nameserver udp dport 53 drop",
			"delete rule ip dcni nameserver handle 2",
			"add table ip dcni; add chain ip dcni other; add rule ip dcni other drop",
		} {
			if err := table.Install(plainRedirect); err != nil {
				t.Fatal(err)
			}
			hosttest.NFT(t, harm)
			if have, err := table.Redirect(); err != nil || have.Port != 0 {
				t.Errorf("after %q it looks like %q, %v", harm, have, err)
			}
		}
		if err := table.Install(interceptRedirect); err != nil {
			t.Fatal(err)
		}
		if have, err := table.Redirect(); err != nil || have.String() != interceptRedirect.String() {
			t.Errorf("in place of another it looks like %q, %v", have, err)
		}
		for range 2 {
			if err := table.Release(&names.Resolver{}, nil); err != nil {
				t.Fatal(err)
			}
			if got := hosttest.NFT(t, "list", "ruleset"); got != "" {
				t.Errorf("removed, and nft lists\n%s", got)
			}
		}
	})
}

// TestPartsStayApart wants a change of the redirect, and its end, to leave what
// another part has in the table, and an intruder to go.
func TestPartsStayApart(t *testing.T) {
	hosttest.InNewNS(t, func() {
		table := tableHere(t, false)
		const services = "table ip dcni {\n\tchain vip-0-api {\n\t\tcounter packets 0 bytes 0 accept\n\t}\n"
		hosttest.NFT(t, "add table ip dcni; add chain ip dcni vip-0-api; add rule ip dcni vip-0-api counter accept")
		hosttest.NFT(t, "add chain ip dcni other; add rule ip dcni other drop")
		for _, want := range []Redirect{plainRedirect, interceptRedirect, {}} {
			var err error
			if want.Port == 0 {
				err = table.Release(&names.Resolver{}, nil)
			} else {
				err = table.Install(want)
			}
			have, failed := table.Redirect()
			if err != nil || failed != nil || have.String() != want.String() {
				t.Errorf("%q: have %q, errors %v, %v", want, have, err, failed)
			}
			got := hosttest.NFT(t, "list", "ruleset")
			if !strings.HasPrefix(got, services) || strings.Contains(got, "other") {
				t.Errorf("%q: nft lists\n%s", want, got)
			}
			if want.Port != 0 {
				hosttest.NFT(t, "add chain ip dcni other; add rule ip dcni other drop")
			}
		}
		hosttest.NFT(t, "flush chain ip dcni vip-0-api")
		if err := table.Install(plainRedirect); err != nil {
			t.Fatal(err)
		}
		if err := table.Release(&names.Resolver{}, nil); err != nil || hosttest.NFT(t, "list", "ruleset") != "" {
			t.Errorf("the last part is gone, error %v, and nft lists\n%s", err, hosttest.NFT(t, "list", "ruleset"))
		}
	})
}

func TestRedirectAnd(t *testing.T) {
	lab := Redirect{Port: 40001, intercept: true, local: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.53")}}
	for _, c := range []struct {
		a, b Redirect
		want string
	}{
		{plainRedirect, Redirect{}, "dnetd-1 port 40001"},
		{plainRedirect, interceptRedirect, "dnetd-1 port 40001 intercept 127.0.0.53"},
		{lab, interceptRedirect, "dnetd-1 port 40001 intercept 127.0.0.1 127.0.0.53"},
		{plainRedirect, Redirect{Port: 40002, intercept: true}, "dnetd-1 port 40001"},
	} {
		if got := c.a.and(c.b).String(); got != c.want {
			t.Errorf("%q and %q is %q, want %q", c.a, c.b, got, c.want)
		}
	}
}

func TestParseRedirect(t *testing.T) {
	for _, m := range []Redirect{plainRedirect, interceptRedirect} {
		if got := parseRedirect(m.String(), m.six); got.String() != m.String() {
			t.Errorf("%q is read as %q", m, got)
		}
	}
	for _, comment := range []string{"", "web c1/eth0", "dnetd-1", "dnetd-1 port", "dnetd-1 port x", "dnetd-1 port 70000", "dnetd-0 port 5"} {
		if got := parseRedirect(comment, false); got.Port != 0 {
			t.Errorf("%q is read as %q", comment, got)
		}
	}
	if long := (Redirect{Port: 65535, intercept: true, local: []netip.Addr{
		netip.MustParseAddr("127.255.255.251"), netip.MustParseAddr("127.255.255.252"), netip.MustParseAddr("127.255.255.253"),
	}}).String(); len(long) > 127 || strings.Count(long, " ") != 6 {
		t.Errorf("%q is too long for a comment", long)
	}
}
