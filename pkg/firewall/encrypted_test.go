package firewall

import "testing"

func TestEncrypted(t *testing.T) {
	for _, c := range []struct{ six, any string }{{"", "0.0.0.0/0"}, {"six", "::/0"}} {
		e := &Encrypted{Port: 4787, IPv6: c.six != ""}
		want := "inet dcni-encrypted input udp dport 4787 meta ipsec missing drop; postrouting udp dport 4787 rt ipsec missing drop; " +
			"xfrm policy src " + c.any + " dst " + c.any + " proto udp dport 4787 dir out action block priority 2000; " +
			"xfrm policy src " + c.any + " dst " + c.any + " proto udp dport 4787 dir in priority 1000 tmpl proto esp reqid 1684237929 mode transport"
		if got := e.String(); got != want || e.Key() != "encrypted 4787" {
			t.Errorf("%s:\n%s\nwant\n%s", e.Key(), got, want)
		}
	}
}
