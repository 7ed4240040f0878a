package rtnl

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// localTime bounds [Conn.AwaitLocal]. The kernel takes some hundred milliseconds while
// it clears namespaces away.
const localTime = 2 * time.Second

// AwaitLocal waits until packets to a link's IPv6 addresses are delivered. The kernel
// adds an address's route in table local later than the address: from a work queue, which
// waits for what all of rtnetlink waits for (addrconf_dad_work in its
// net/ipv6/addrconf.c). It drops packets until then and sends no event. After localTime the
// caller goes on: the kernel has the work to do, and will do it.
func (r *Conn) AwaitLocal(index int) error {
	payloads, err := r.Request(unix.RTM_GETADDR, unix.NLM_F_DUMP, func(m *Message) {
		m.B = append(m.B, unix.AF_INET6, 0, 0, 0) // struct ifaddrmsg
		m.B = binary.NativeEndian.AppendUint32(m.B, uint32(index))
	})
	var list []netip.Addr
	for _, p := range payloads {
		if len(p) < unix.SizeofIfAddrmsg || int(binary.NativeEndian.Uint32(p[4:])) != index {
			continue
		}
		// An address whose duplicates are looked for has no route yet.
		if ip, flags, ok := addrOf(p[unix.SizeofIfAddrmsg:]); ok && ip.Is6() && flags&unix.IFA_F_TENTATIVE == 0 {
			list = append(list, ip)
		}
	}
	for deadline := time.Now().Add(localTime); ; time.Sleep(time.Millisecond) {
		list = slices.DeleteFunc(list, func(a netip.Addr) bool { return r.isLocal(index, a) })
		if len(list) == 0 || time.Now().After(deadline) {
			return err
		}
	}
}

// isLocal reports whether packets to an address of a link are delivered.
func (r *Conn) isLocal(index int, a netip.Addr) bool {
	payloads, err := r.Request(unix.RTM_GETROUTE, 0, func(m *Message) {
		m.B = append(m.B, Family(a), byte(a.BitLen()), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) // struct rtmsg
		m.Raw(unix.RTA_DST, a.AsSlice())
		m.Native(unix.RTA_OIF, uint32(index))
	})
	return err == nil && len(payloads) > 0 && len(payloads[0]) >= unix.SizeofRtMsg && payloads[0][7] == unix.RTN_LOCAL
}
