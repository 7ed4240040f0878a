package ipam

import (
	"fmt"
	"net/netip"
	"testing"
)

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

func TestChoosePool(t *testing.T) {
	var avoid []netip.Prefix
	var got []string
	for {
		p, err := ChoosePool(avoid)
		if err != nil {
			if text := errText(err); text != "11 all predefined address pools have been fully subnetted" {
				t.Fatal(text)
			}
			break
		}
		avoid, got = append(avoid, p), append(got, p.String())
	}
	if len(got) != 31 || got[0] != "172.17.0.0/16" || got[14] != "172.31.0.0/16" || got[15] != "192.168.0.0/20" || got[30] != "192.168.240.0/20" {
		t.Fatal(got)
	}
}

func TestAvoid(t *testing.T) {
	for _, tt := range []struct {
		dst    string
		onLink bool
		want   string
	}{
		{"172.0.0.0/8", true, "192.168.0.0/20"}, // an interface may have a whole /8 on its link
		{"172.0.0.0/7", true, "172.17.0.0/16"},
		{"172.0.0.0/8", false, "172.17.0.0/16"},
		{"0.0.0.0/0", false, "172.17.0.0/16"},
		{"0.0.0.0/0", true, "172.17.0.0/16"},
		{"128.0.0.0/1", false, "172.17.0.0/16"},
		{"128.0.0.0/1", true, "172.17.0.0/16"},
		{"172.16.0.0/12", false, "172.17.0.0/16"},
		{"172.16.0.0/12", true, "192.168.0.0/20"},
		{"172.17.0.0/16", false, "172.18.0.0/16"},
		{"172.17.5.0/24", false, "172.18.0.0/16"},
		{"172.17.5.5/32", false, "172.18.0.0/16"},
		{"172.16.0.0/14", false, "172.20.0.0/16"},
		{"172.17.5.0/24", true, "172.18.0.0/16"},
		{"10.0.0.0/8", true, "172.17.0.0/16"},
	} {
		p, err := ChoosePool(Avoid([]HostRoute{{netip.MustParsePrefix(tt.dst), tt.onLink}}, nil, nil))
		if err != nil || p.String() != tt.want {
			t.Errorf("%s, on link %v: %s, %v, want %s", tt.dst, tt.onLink, p, err, tt.want)
		}
	}
	servers := []netip.Addr{netip.MustParseAddr("172.17.0.53"), netip.MustParseAddr("::ffff:172.18.0.53"), netip.MustParseAddr("fe80::1%eth0")}
	if p, err := ChoosePool(Avoid(nil, servers, prefixes("172.19.1.0/24"))); err != nil || p.String() != "172.20.0.0/16" {
		t.Error(p, err)
	}
}

func TestChooseULA(t *testing.T) {
	var avoid []netip.Prefix
	first, err := ChooseULA("host", "web", nil)
	if err != nil || first.Bits() != 64 || !netip.MustParsePrefix("fd00::/8").Contains(first.Addr()) {
		t.Fatal(first, err)
	}
	seen := map[netip.Prefix]bool{}
	for range 100 {
		p, err := ChooseULA("host", "web", avoid)
		if err != nil || seen[p] || netip.PrefixFrom(p.Addr(), 48).Masked() != netip.PrefixFrom(first.Addr(), 48).Masked() {
			t.Fatal(p, err)
		}
		avoid, seen[p] = append(avoid, p), true
	}
	other, _ := ChooseULA("host2", "web", nil)
	if fmt.Sprint(other) == fmt.Sprint(first) {
		t.Error("two hosts have one block")
	}
	if _, err := ChooseULA("host", "web", prefixes("fd00::/8")); err == nil {
		t.Error("found one where none is")
	}
}
