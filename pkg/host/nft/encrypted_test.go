package nft

import (
	"net"
	"strings"
	"testing"
	"time"

	"dcni/pkg/firewall"
	"dcni/pkg/host/hosttest"
)

// The table is as nft lists it, comes back when it is flushed or switched off, and goes.
func TestEncrypted(t *testing.T) {
	hosttest.InNewNS(t, func() {
		f, e := New(), &firewall.Encrypted{Port: 4787}
		defer f.Close()
		if err := f.Check(e); err == nil {
			t.Error("it is there before it is made")
		}
		if changed, err := f.Ensure(e); !changed || err != nil {
			t.Fatalf("ensure: %t, %v", changed, err)
		}
		if changed, err := f.Ensure(e); changed || err != nil {
			t.Errorf("ensure again: %t, %v", changed, err)
		}
		list := func() string {
			return strings.ReplaceAll(hosttest.NFT(t, "list", "table", "inet", firewall.TableEncrypted), ` comment "encrypted 4787"`, "")
		}
		if want := e.Table().String(); list() != want {
			t.Errorf("%s\nwant\n%s", list(), want)
		}
		for _, harm := range []string{
			"flush table inet dcni-encrypted", "insert rule inet dcni-encrypted input accept", "delete table inet dcni-encrypted",
			"table inet dcni-encrypted { flags dormant; }", "flush chain inet dcni-encrypted postrouting", "flush ruleset",
		} {
			hosttest.NFT(t, harm)
			if err := f.Check(e); err == nil {
				t.Errorf("after %s it is as it was", harm)
			}
			if changed, err := f.Ensure(e); !changed || err != nil {
				t.Errorf("after %s: %t, %v", harm, changed, err)
			}
			if want := e.Table().String(); list() != want {
				t.Errorf("after %s:\n%s", harm, list())
			}
		}
		for range 2 {
			if err := f.Remove(e); err != nil {
				t.Error(err)
			}
		}
		if left := hosttest.NFT(t, "list", "ruleset"); left != "" {
			t.Error(left)
		}
	})
}

// What is not encrypted passes in no direction, and what is for other ports does.
func TestEncryptedPackets(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.LoUp(t)
		f := New()
		defer f.Close()
		arrives := func(address string) bool {
			ln, err := net.ListenPacket("udp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			c, err := net.Dial("udp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, _ = c.Write([]byte("x")) // EPERM where the rules drop it
			_ = ln.SetReadDeadline(time.Now().Add(hosttest.Patience))
			_, _, err = ln.ReadFrom(make([]byte, 8))
			return err == nil
		}
		for _, host := range []string{"127.0.0.1", "[::1]"} {
			if !arrives(host + ":4787") {
				t.Fatalf("%s: nothing arrives without the rules", host)
			}
		}
		if _, err := f.Ensure(&firewall.Encrypted{Port: 4787}); err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{"127.0.0.1", "[::1]"} {
			if arrives(host+":4787") || !arrives(host+":4788") {
				t.Errorf("%s: what is not encrypted arrives, or what is for another port does not", host)
			}
			for _, chain := range []string{"input", "postrouting"} {
				// The other one alone.
				hosttest.NFT(t, "flush chain inet "+firewall.TableEncrypted+" "+chain)
				if arrives(host + ":4787") {
					t.Errorf("%s: without chain %s it arrives", host, chain)
				}
				if _, err := f.Ensure(&firewall.Encrypted{Port: 4787}); err != nil {
					t.Error(err)
				}
			}
		}
	})
}
