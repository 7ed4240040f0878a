package links

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"dcni/pkg/host/hosttest"
	"dcni/pkg/host/spaces"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// Packets to an IPv6 address are delivered as soon as address and link are there, in
// either order, also while the kernel clears namespaces away.
func TestLocalAtOnce(t *testing.T) {
	clearAway(t)
	hosttest.InNewNS(t, func() {
		open, err := spaces.New()
		if err != nil {
			t.Fatal(err)
		}
		defer open.Close()
		h := &Links{Set: open, Records: records.Store{Run: t.TempDir(), Lib: t.TempDir()}}
		hosttest.LoUp(t)
		const rounds = 40
		lost := 0
		for i := range rounds {
			hosttest.Shell(t, "ip link add e0 type veth peer name e1; ip link set e1 up")
			h.Changed()
			address := netip.MustParsePrefix(fmt.Sprintf("fd00:%x::1/64", i+1))
			objects := []wire.Object{&wire.Addr{Dev: "e0", Prefix: address}, &wire.Up{Dev: "e0"}}
			if i%2 == 1 {
				slices.Reverse(objects)
			}
			for _, o := range objects {
				if _, err := h.Of(o).Ensure(); err != nil {
					t.Fatal(err)
				}
			}
			if !hearsItself(t, address.Addr()) {
				lost++
			}
			hosttest.Shell(t, "ip link del e0")
		}
		if lost > 0 {
			t.Errorf("%d of %d packets are lost", lost, rounds)
		}
	})
}

// clearAway has the kernel clear namespaces away as long as the test lasts.
func clearAway(t *testing.T) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(stop); <-stopped })
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			hosttest.InNewNS(t, func() {
				hosttest.Shell(t, "for i in 1 2 3 4 5 6 7 8; do ip link add a$i type veth peer name b$i; done")
			})
		}
	}()
}

// hearsItself sends a packet from the thread's namespace to an address of its own.
func hearsItself(t *testing.T, own netip.Addr) bool {
	t.Helper()
	socket, err := net.ListenPacket("udp6", netip.AddrPortFrom(own, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if _, err := socket.WriteTo([]byte("x"), socket.LocalAddr()); err != nil {
		return false
	}
	_ = socket.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
	_, _, err = socket.ReadFrom(make([]byte, 1))
	return err == nil
}
