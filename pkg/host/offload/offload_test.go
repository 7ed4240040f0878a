package offload_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/hosttest"
	"dcni/pkg/host/offload"
	"dcni/pkg/host/rawip"
	"dcni/pkg/overlay/probe"
)

// TestSum: what no NIC has sent has no sum, and is trusted; what the kernel has computed, for
// the device or for a NIC that does not, is right. Of both families.
func TestSum(t *testing.T) {
	for _, family := range []struct{ from, to string }{{"192.0.2.1", "192.0.2.2"}, {"2001:db8::1", "2001:db8::2"}} {
		for _, c := range []struct {
			computed, nic  bool
			right, trusted bool
		}{{nic: true, trusted: true}, {computed: true, nic: true, right: true, trusted: true}, {right: true}} {
			p := pass(t, netip.MustParseAddr(family.from), netip.MustParseAddr(family.to), c.computed, c.nic)
			m, right, err := probe.DecodeFrame(p.Data)
			if err != nil || m.Number != 7 || right != c.right || p.Trusted != c.trusted || p.From.String() != family.from {
				t.Errorf("%+v: right %v, trusted %v, from %s, %v", c, right, p.Trusted, p.From, err)
			}
		}
	}
}

// pass sends a packet from one host to another over a veth, which leaves sums as they are if it
// is a NIC that knows of them, and returns what came in.
func pass(t *testing.T, from, to netip.Addr, computed, nic bool) (got offload.Packet) {
	linked, looks, sent := make(chan int), make(chan struct{}), make(chan struct{})
	hosttest.InNewNS(t, func() {
		go func() {
			defer close(sent)
			hosttest.InNewNS(t, func() {
				linked <- unix.Gettid()
				<-looks
				hosttest.Shell(t, fmt.Sprintf("ip addr add %s/%d dev u0 nodad && ip link set u0 up", from, from.BitLen()-4))
				if !nic {
					if err := offload.Off("u0"); err != nil {
						t.Error(err)
					}
				}
				send(t, from, to, computed)
			})
		}()
		hosttest.Shell(t, fmt.Sprintf("ip link add u1 type veth peer name u0 netns %d && ip addr add %s/%d dev u1 nodad && ip link set u1 up", <-linked, to, to.BitLen()-4))
		var words []rawip.Word
		for _, w := range probe.Checksum.Words() {
			words = append(words, rawip.Word(w))
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err := offload.Look(ctx, to.Is6(), words, 5*time.Second, func() { close(looks) }, func(p offload.Packet) {
			p.Data = append([]byte{}, p.Data...)
			got = p
			cancel()
		})
		if err != nil {
			t.Error(err)
		}
		<-sent
	})
	return got
}

func send(t *testing.T, from, to netip.Addr, computed bool) {
	s, err := offload.Open(probe.VNI, 4789, from, to)
	if err != nil {
		t.Error(err)
		return
	}
	if computed {
		err = s.Compute()
	}
	if err == nil {
		err = s.Send(probe.Frame(probe.Message{Number: 7}, probe.Link{Cluster: "c", From: "a", To: "b"}))
	}
	if err != nil {
		t.Error(err)
	}
	time.Sleep(50 * time.Millisecond) // until neighbours know each other: the packet waits for that
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if left := hosttest.Shell(t, "ip -br link show type vxlan"); left != "" {
		t.Errorf("left: %s", left)
	}
}

// TestCompute: of the devices of a port, those that leave sums to others.
func TestCompute(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.LoUp(t)
		hosttest.Shell(t, "ip link add vx1 type vxlan id 1 local 127.0.0.1 dstport 4789; ip link add vx2 type vxlan id 1 local 127.0.0.1 dstport 4787; ip link add vx3 type vxlan id 3 local 127.0.0.1 dstport 4789")
		if err := offload.Off("vx3"); err != nil {
			t.Fatal(err)
		}
		changed, err := offload.Compute(4789)
		if err != nil || len(changed) != 1 || changed[0] != "vx1" {
			t.Errorf("%v, %v", changed, err)
		}
		for device, want := range map[string]bool{"vx1": false, "vx2": true, "vx3": false} {
			if on, err := offload.IsOn(device); err != nil || on != want {
				t.Errorf("%s: %v, %v", device, on, err)
			}
		}
		if err := offload.Off("vx4"); err == nil {
			t.Error("no error for a link that is not there")
		}
	})
}
