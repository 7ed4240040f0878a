package rtnl

import (
	"testing"

	"golang.org/x/sys/unix"
)

func FuzzLink(f *testing.F) {
	var m Message
	m.IfInfo(2, unix.IFF_UP, 0)
	m.Str(unix.IFLA_IFNAME, "eth0")
	m.Str(unix.IFLA_IFALIAS, "web c1/eth0")
	m.Native(unix.IFLA_LINK_NETNSID, 1)
	info := m.Open(unix.IFLA_LINKINFO)
	m.Str(unix.IFLA_INFO_KIND, "veth")
	m.Close(info)
	spec := m.Open(unix.IFLA_AF_SPEC)
	inet := m.Open(unix.AF_INET)
	m.Raw(inetConf, make([]byte, 128))
	m.Close(inet)
	m.Close(spec)
	f.Add(m.B)
	f.Add(make([]byte, unix.SizeofIfInfomsg))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) < unix.SizeofIfInfomsg {
			return
		}
		l := ParseLink(payload)
		for _, d := range DevConfs {
			if value, err := d.Value(l); err == nil && value == "" {
				t.Errorf("%+v has no value", d)
			}
		}
		if some := l.Settings([]DevConf{ArpNotify, DisableIPv6}); len(some)%4 != 0 {
			t.Errorf("settings %x", some)
		}
	})
}

func FuzzAddress(f *testing.F) {
	var m Message
	m.Raw(unix.IFA_ADDRESS, []byte{10, 0, 0, 1})
	m.Raw(unix.IFA_LOCAL, []byte{10, 0, 0, 2})
	f.Add(m.B)
	f.Fuzz(func(t *testing.T, attrs []byte) {
		if a, _, ok := addrOf(attrs); ok != a.IsValid() {
			t.Errorf("address %v: %v", a, ok)
		}
	})
}

func FuzzRoute(f *testing.F) {
	var m Message
	m.B = append(m.B, unix.AF_INET6, 64, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_RA, 0, unix.RTN_UNICAST, 0, 0, 0, 0)
	m.Raw(unix.RTA_DST, make([]byte, 16))
	m.Raw(unix.RTA_GATEWAY, make([]byte, 4))
	m.Native(unix.RTA_PRIORITY, 1024)
	f.Add(m.B)
	f.Fuzz(func(t *testing.T, b []byte) {
		new(Way).parse(b)
		if r, ok := parseRoute(b); ok && (!r.Dst.IsValid() || r.String() == "") {
			t.Errorf("route %+v", r)
		}
	})
}
