package host

import (
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/host/hosttest"
	"dcni/pkg/host/nlsock"
	"dcni/pkg/host/rtnl"

	"golang.org/x/sys/unix"
)

var (
	plainMapping     = mapping{port: 40001}
	interceptMapping = mapping{port: 40001, intercept: true, local: []netip.Addr{netip.MustParseAddr("127.0.0.53")}}
	sixMapping       = mapping{six: true, port: 40001, intercept: true}
)

// nsTableHere returns a family's table in the thread's namespace.
func nsTableHere(t *testing.T, six bool) nsTable {
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
	return nsTable{conn, six, detour{rt, six}}
}

func TestMappingListsAsSaid(t *testing.T) {
	for _, c := range []struct {
		m    mapping
		want string
	}{
		{plainMapping, `table ip dcni {
	chain nameserver {
		type filter hook output priority raw; policy accept;
		ip daddr 127.0.0.11 udp dport 53 notrack udp dport set 40001 comment "dnetd-1 port 40001"
		ip saddr 127.0.0.11 udp sport 40001 notrack udp sport set 53 comment "dnetd-1 port 40001"
		ip daddr 127.0.0.11 tcp dport 53 notrack tcp dport set 40001 comment "dnetd-1 port 40001"
		ip saddr 127.0.0.11 tcp sport 40001 notrack tcp sport set 53 comment "dnetd-1 port 40001"
	}
}
`},
		{interceptMapping, `table ip dcni {
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
		{sixMapping, `table ip6 dcni {
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
			table := nsTableHere(t, c.m.six)
			if err := table.lay(c.m, false); err != nil {
				t.Fatal(err)
			}
			if got := hosttest.NFT(t, "list", "ruleset"); got != c.want {
				t.Errorf("nft lists\n%s\nwant\n%s", got, c.want)
			}
			if have, there, err := table.look(); err != nil || !there || have.String() != c.m.String() {
				t.Errorf("looks like %q, %v, %v, want %q", have, there, err, c.m)
			}
		})
	}
}

// TestMappingEncodedOnce wants what was encoded last to be used again for the same
// rules, and for no others: those of both families can have one comment.
func TestMappingEncodedOnce(t *testing.T) {
	four := mapping{port: 40001, intercept: true}
	first, err := four.encode()
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := four.encode(); again != first {
		t.Error("the same mapping is encoded twice")
	}
	for _, other := range []mapping{sixMapping, plainMapping, {port: 40002, intercept: true}} {
		if last, _ := other.encode(); last.comment != other.String() || last.six != other.six {
			t.Errorf("for %q of IPv6 %v: %q of IPv6 %v", other, other.six, last.comment, last.six)
		}
	}
}

// TestMappingNotices wants what others do to the table to be seen, and to be put
// right.
func TestMappingNotices(t *testing.T) {
	hosttest.InNewNS(t, func() {
		table := nsTableHere(t, false)
		for _, harm := range []string{
			"flush ruleset", "delete table ip dcni", "flush chain ip dcni nameserver",
			"insert rule ip dcni nameserver udp dport 53 drop",
			"delete rule ip dcni nameserver handle 2",
			"add table ip dcni; add chain ip dcni other; add rule ip dcni other drop",
		} {
			if err := table.lay(plainMapping, true); err != nil {
				t.Fatal(err)
			}
			hosttest.NFT(t, harm)
			if have, _, err := table.look(); err != nil || have.port != 0 {
				t.Errorf("after %q it looks like %q, %v", harm, have, err)
			}
		}
		if err := table.lay(interceptMapping, true); err != nil {
			t.Fatal(err)
		}
		if have, _, err := table.look(); err != nil || have.String() != interceptMapping.String() {
			t.Errorf("in place of another it looks like %q, %v", have, err)
		}
		for range 2 {
			if err := table.remove(); err != nil {
				t.Fatal(err)
			}
			if got := hosttest.NFT(t, "list", "ruleset"); got != "" {
				t.Errorf("removed, and nft lists\n%s", got)
			}
		}
	})
}

func TestMappingAnd(t *testing.T) {
	lab := mapping{port: 40001, intercept: true, local: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.53")}}
	for _, c := range []struct {
		a, b mapping
		want string
	}{
		{plainMapping, mapping{}, "dnetd-1 port 40001"},
		{plainMapping, interceptMapping, "dnetd-1 port 40001 intercept 127.0.0.53"},
		{lab, interceptMapping, "dnetd-1 port 40001 intercept 127.0.0.1 127.0.0.53"},
		{plainMapping, mapping{port: 40002, intercept: true}, "dnetd-1 port 40001"},
	} {
		if got := c.a.and(c.b).String(); got != c.want {
			t.Errorf("%q and %q is %q, want %q", c.a, c.b, got, c.want)
		}
	}
}

func TestParseMapping(t *testing.T) {
	for _, m := range []mapping{plainMapping, interceptMapping} {
		if got := parseMapping(m.String(), m.six); got.String() != m.String() {
			t.Errorf("%q is read as %q", m, got)
		}
	}
	for _, comment := range []string{"", "web c1/eth0", "dnetd-1", "dnetd-1 port", "dnetd-1 port x", "dnetd-1 port 70000", "dnetd-0 port 5"} {
		if got := parseMapping(comment, false); got.port != 0 {
			t.Errorf("%q is read as %q", comment, got)
		}
	}
	if long := (mapping{port: 65535, intercept: true, local: []netip.Addr{
		netip.MustParseAddr("127.255.255.251"), netip.MustParseAddr("127.255.255.252"), netip.MustParseAddr("127.255.255.253"),
	}}).String(); len(long) > 127 || strings.Count(long, " ") != 6 {
		t.Errorf("%q is too long for a comment", long)
	}
}
