package rawip_test

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"dcni/pkg/host/hosttest"
	"dcni/pkg/host/rawip"
	"dcni/pkg/overlay/probe"
)

// question encodes a probe.
func question(p probe.Path, from, to netip.Addr, size int) []byte {
	return p.Encode(probe.Message{Number: 7}, probe.Link{Cluster: "c", From: "a", To: "b"}, probe.Route{From: from, To: to, Port: 50000}, size)
}

func words(p probe.Path) (list []rawip.Word) {
	for _, w := range p.Words() {
		list = append(list, rawip.Word(w))
	}
	return list
}

// pair opens a path's sockets at two addresses.
func pair(t *testing.T, p probe.Path, from, to netip.Addr) (a, b *rawip.Socket) {
	a, err := rawip.Listen(t.Context(), p.Protocol(), from, words(p)...)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = rawip.Listen(t.Context(), p.Protocol(), to, words(p)...); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// expect reads one packet from a sender, of a length; "" for none within a moment.
func expect(t *testing.T, s *rawip.Socket, from string, length int) {
	t.Helper()
	type got struct {
		packet []byte
		from   netip.Addr
		err    error
	}
	done := make(chan got, 1)
	go func() {
		packet, from, err := s.Receive(make([]byte, 9216))
		done <- got{packet, from, err}
	}()
	select {
	case g := <-done:
		if g.err != nil || g.from.String() != from || len(g.packet) != length {
			t.Errorf("%d bytes from %s, %v; want %d from %q", len(g.packet), g.from, g.err, length, from)
		}
	case <-time.After(300 * time.Millisecond):
		if from != "" {
			t.Errorf("nothing, want %d bytes from %s", length, from)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if g := <-done; !errors.Is(g.err, net.ErrClosed) {
			t.Error(g.err)
		}
	}
}

// TestSocket has packets where nothing of the kernel's takes them, and where a VXLAN
// device has the port; of both families.
func TestSocket(t *testing.T) {
	for _, device := range []bool{false, true} {
		for _, c := range []struct {
			from, to string
			header   int
		}{{"127.0.0.2", "127.0.0.3", 20}, {"2001:db8::2", "2001:db8::3", 40}} {
			for _, p := range []probe.Path{probe.VXLAN, probe.ESP} {
				t.Run(p.String()+" "+c.to+" device="+map[bool]string{true: "yes", false: "no"}[device], func(t *testing.T) {
					hosttest.InNewNS(t, func() {
						hosttest.LoUp(t)
						hosttest.Shell(t, "ip addr add 2001:db8::2/128 dev lo nodad; ip addr add 2001:db8::3/128 dev lo nodad")
						// A kernel that clears namespaces away drops IPv6 packets to new addresses.
						hosttest.Shell(t, "for i in 1 2 3 4 5; do ping -c 1 -W 1 "+c.to+" && break; done")
						if device {
							hosttest.Shell(t, "ip link add vx0 type vxlan id 4096 local "+c.to+" dstport 4789 && ip link set vx0 up")
						}
						talk(t, p, netip.MustParseAddr(c.from), netip.MustParseAddr(c.to), c.header)
					})
				})
			}
		}
	}
}

func talk(t *testing.T, p probe.Path, from, to netip.Addr, header int) {
	const size = 1500
	a, b := pair(t, p, from, to)
	packet := question(p, from, to, size)
	other := question(p, from, to, size)
	other[p.Words()[1].Offset] ^= 1
	for _, packet := range [][]byte{other, packet, packet} {
		if err := a.Send(to, packet); err != nil {
			t.Fatal(err) // also if the kernel said that the port is unreachable
		}
	}
	expect(t, b, from.String(), size-header)
	expect(t, b, from.String(), size-header)
	if err := b.Send(from, packet); err != nil {
		t.Fatal(err)
	}
	expect(t, a, to.String(), size-header)
	hosttest.Shell(t, "ip link set lo mtu 1400")
	if err := a.Send(to, packet); err == nil || !strings.Contains(err.Error(), "message too long") {
		t.Errorf("a packet that is too long: %v", err)
	}
	if p == probe.VXLAN {
		wrong := hosttest.Shell(t, "nstat -asz UdpInCsumErrors Udp6InCsumErrors | awk '/Csum/ {n += $2} END {print n}'")
		if strings.TrimSpace(wrong) != "1" { // the one that was changed
			t.Errorf("the kernel finds the checksum wrong of %s, want 1", wrong)
		}
	}
	expect(t, b, "", 0)
}
