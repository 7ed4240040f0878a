package main

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dcni/pkg/names"
)

// server answers any query in a namespace with one address, until the test
// ends.
func (b *testNetNS) server(at, answer string) {
	b.t.Helper()
	var c net.PacketConn
	err := b.ns.Do(func() (err error) {
		c, err = net.ListenPacket("udp", at)
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Close() })
	address := netip.MustParseAddr(answer).As4()
	go func() {
		for {
			q := make([]byte, 512)
			n, from, err := c.ReadFrom(q)
			if err != nil {
				return
			}
			const header = 12
			end := header
			for q[end] != 0 {
				end += 1 + int(q[end])
			}
			end += 5            // the root, type and class
			q = q[:min(n, end)] // without EDNS
			q[2] |= 0x80        // it is a response
			q[7], q[11] = 1, 0  // with one answer and no more
			q = append(q, 0xc0, header, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
			_, _ = c.WriteTo(append(q, address[:]...), from)
		}
	}()
}

func (r *fixture) resolvConf(text string) {
	r.t.Helper()
	path := filepath.Join(r.store.Run, "resolv.conf")
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		r.t.Fatal(err)
	}
}

func TestUpstream(t *testing.T) {
	r := newFixture(t)
	r.host.server("127.0.0.53:53", "192.0.2.53")
	r.host.server("127.0.0.54:53", "192.0.2.54")
	r.resolvConf("nameserver 127.0.0.53\n")
	r.start()
	open, inner, own := r.netNS(), r.netNS(), r.netNS()
	internal := inner.attach("inner", "two", "10.1.0.2")
	internal.Internal = true
	withServers := own.attach("own", "three", "10.2.0.2")
	withServers.Servers = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:5353"), netip.AddrPortFrom(names.Address, 53)}
	own.server("127.0.0.1:5353", "192.0.2.1")
	openPort, innerPort, ownPort := r.serve(open, open.attach("web", "one", "10.0.0.2")), r.serve(inner, internal), r.serve(own, withServers)

	open.in(openPort, "first.example", "192.0.2.53")
	inner.in(innerPort, "first.example", "rcode 2")
	own.in(ownPort, "first.example", "192.0.2.1")

	// A second network leads out.
	r.serve(inner, inner.attach("web", "two", "10.0.0.3"))
	inner.in(innerPort, "second.example", "192.0.2.53")

	r.resolvConf("search example\nnameserver 127.0.0.54\n")
	open.eventually(openPort, "third.example", "192.0.2.54")
	r.resolvConf("# none\n")
	open.eventually(openPort, "fourth.example", "rcode 2")
	start := time.Now()
	open.in(openPort, "fifth.example", "rcode 2")
	if after := time.Since(start); after > 100*time.Millisecond {
		t.Errorf("no upstream: answered after %v", after)
	}
	if err := os.Remove(filepath.Join(r.store.Run, "resolv.conf")); err != nil {
		t.Fatal(err)
	}
	r.resolvConf("nameserver 127.0.0.53\n")
	open.eventually(openPort, "sixth.example", "192.0.2.53")
	own.in(ownPort, "sixth.example", "192.0.2.1")
}

func TestSlept(t *testing.T) {
	for _, c := range []struct {
		wall, monotonic time.Duration
		want            bool
	}{
		{lookEvery, lookEvery, false}, {time.Hour, time.Hour, false}, {time.Hour, lookEvery, true},
		{-time.Hour, lookEvery, false}, // the wall clock was set back
	} {
		if got := slept(c.wall, c.monotonic); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
