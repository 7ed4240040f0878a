package dns

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	mdns "github.com/miekg/dns"

	"dcni/pkg/names"
)

// answerLocal answers a question about a name in the view, with miekg/dns: what
// [query.local] answers in place, and rarer types as well. It returns nil if the view
// does not have the name.
func answerLocal(m *mdns.Msg, view *names.View) *mdns.Msg {
	q := m.Question[0]
	internet := q.Qclass == mdns.ClassINET || q.Qclass == mdns.ClassANY // other classes have no records of ours
	name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
	r := new(mdns.Msg)
	r.SetReply(m)
	r.RecursionAvailable, r.CheckingDisabled = true, m.CheckingDisabled
	if _, known := view.Lookup([]byte(name), names.IPv4); known {
		for _, t := range []uint16{mdns.TypeA, mdns.TypeAAAA} {
			if internet && asks(q, t) {
				r.Answer = append(r.Answer, addressRecords(q.Name, name, t, view)...)
			}
		}
		return r
	}
	if answerPointer(r, name, view, internet) || answerService(r, name, view, internet) {
		return r
	}
	return nil
}

// asks reports whether a question asks for records of a type.
func asks(q mdns.Question, qtype uint16) bool { return q.Qtype == qtype || q.Qtype == mdns.TypeANY }

// addressRecords returns those of a known name, under the name as it was asked.
func addressRecords(owner, name string, qtype uint16, view *names.View) []mdns.RR {
	family := names.IPv4
	if qtype == mdns.TypeAAAA {
		family = names.IPv6
	}
	a, _ := view.Lookup([]byte(name), family)
	header := mdns.RR_Header{Name: owner, Rrtype: qtype, Class: mdns.ClassINET, Ttl: a.TTL}
	var out []mdns.RR
	for i := range a.Addresses {
		ip := net.IP(a.Addresses[(a.First+i)%len(a.Addresses)].AsSlice())
		if qtype == mdns.TypeA {
			out = append(out, &mdns.A{Hdr: header, A: ip})
		} else {
			out = append(out, &mdns.AAAA{Hdr: header, AAAA: ip})
		}
	}
	return out
}

// answerPointer answers what is asked of the name of an address of ours, which
// has a PTR record and no others, and reports whether it is one. An address of our
// networks without a name has none elsewhere either.
func answerPointer(r *mdns.Msg, name string, view *names.View, internet bool) bool {
	a, ok := parseReverse(name)
	if !ok {
		return false
	}
	target, ttl, ok := view.Pointer(a)
	if !ok && view.Owns(a) {
		r.Rcode = mdns.RcodeNameError
		return true
	}
	if ok && internet && asks(r.Question[0], mdns.TypePTR) {
		header := mdns.RR_Header{Name: r.Question[0].Name, Rrtype: mdns.TypePTR, Class: mdns.ClassINET, Ttl: ttl}
		r.Answer = []mdns.RR{&mdns.PTR{Hdr: header, Ptr: target + "."}}
	}
	return ok
}

// parseReverse reads the address in a name of in-addr.arpa or ip6.arpa.
func parseReverse(name string) (netip.Addr, bool) {
	if digits, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		bytes := strings.Split(digits, ".")
		slices.Reverse(bytes)
		a, err := netip.ParseAddr(strings.Join(bytes, "."))
		return a, err == nil && len(bytes) == 4
	}
	digits, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(digits) != 63 {
		return netip.Addr{}, false
	}
	nibbles := strings.Split(digits, ".")
	slices.Reverse(nibbles)
	var text strings.Builder
	for i, n := range nibbles {
		if i > 0 && i%4 == 0 {
			text.WriteByte(':')
		}
		text.WriteString(n)
	}
	a, err := netip.ParseAddr(text.String())
	return a, err == nil && len(nibbles) == 32
}

// answerService answers what is asked of a service of a known name, which has an
// SRV record and no others: _port._proto.name, or port.proto.name. It reports
// whether the name is one. Without underscores, a name may be any other unless it
// begins with a port, or SRV is asked for.
func answerService(r *mdns.Msg, name string, view *names.View, internet bool) bool {
	port, rest, _ := strings.Cut(name, ".")
	proto, host, ok := strings.Cut(rest, ".")
	if !ok || !isProtocol(proto) {
		return false
	}
	if _, known := view.Lookup([]byte(host), names.IPv4); !known {
		return false
	}
	number := portNumber(strings.TrimPrefix(port, "_"), strings.TrimPrefix(proto, "_"))
	if number == 0 {
		return strings.HasPrefix(port, "_") && strings.HasPrefix(proto, "_") || r.Question[0].Qtype == mdns.TypeSRV
	}
	if internet && asks(r.Question[0], mdns.TypeSRV) {
		serviceRecords(r, host, number, view)
	}
	return true
}

// isProtocol reports whether a label names a protocol that has ports.
func isProtocol(label string) bool {
	switch strings.TrimPrefix(label, "_") {
	case "tcp", "udp", "sctp":
		return true
	}
	return false
}

// serviceRecords adds the SRV record of a port of a known name, and the name's
// addresses.
func serviceRecords(r *mdns.Msg, host string, port uint16, view *names.View) {
	v4, _ := view.Lookup([]byte(host), names.IPv4)
	ttl := v4.TTL
	if v6, _ := view.Lookup([]byte(host), names.IPv6); len(v4.Addresses) == 0 {
		ttl = v6.TTL
	}
	asked := r.Question[0].Name
	target := asked[len(asked)-len(host)-1:]
	header := mdns.RR_Header{Name: asked, Rrtype: mdns.TypeSRV, Class: mdns.ClassINET, Ttl: ttl}
	r.Answer = []mdns.RR{&mdns.SRV{Hdr: header, Port: port, Target: target}}
	for _, t := range []uint16{mdns.TypeA, mdns.TypeAAAA} {
		r.Extra = append(r.Extra, addressRecords(target, host, t, view)...)
	}
}

// portNumber returns 0 for what is no port.
func portNumber(text, proto string) uint16 {
	if n, err := strconv.ParseUint(text, 10, 16); err == nil {
		return uint16(n)
	}
	if proto == "sctp" {
		proto = "tcp" // services(5) has few of SCTP, with the same numbers
	}
	n, err := net.DefaultResolver.LookupPort(context.Background(), proto, text)
	if err != nil {
		return 0
	}
	return uint16(n)
}
