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

// answerPointer answers what is asked of a name in in-addr.arpa or ip6.arpa that is ours,
// and reports whether it is. The name of an address has a PTR record and no others. An
// address of our networks without a name, and what is below an address, is nowhere else
// either. The networks' own names, and those between them and their addresses, exist and have
// no records. Above them, other people's records may be, but no PTR.
func answerPointer(r *mdns.Msg, name string, view *names.View, internet bool) bool {
	p, rest, ok := parseReverse(name)
	if !ok {
		return false
	}
	q := r.Question[0]
	within := view.Owns(p)
	switch {
	case rest:
		if within {
			r.Rcode = mdns.RcodeNameError
		}
		return within
	case !p.IsSingleIP():
		return within || view.OwnsBelow(p) && q.Qtype == mdns.TypePTR
	}
	target, ttl, ok := view.Pointer(p.Addr())
	if !ok && within {
		r.Rcode = mdns.RcodeNameError
		return true
	}
	if ok && internet && asks(q, mdns.TypePTR) {
		header := mdns.RR_Header{Name: q.Name, Rrtype: mdns.TypePTR, Class: mdns.ClassINET, Ttl: ttl}
		r.Answer = []mdns.RR{&mdns.PTR{Hdr: header, Ptr: target + "."}}
	}
	return ok
}

// parseReverse reads the address in a name of in-addr.arpa or ip6.arpa, or the prefix
// where the name has only its first parts. Rest says that there are other labels in
// front, as in lb._dns-sd._udp.0.2.0.192.in-addr.arpa.
func parseReverse(name string) (p netip.Prefix, rest, ok bool) {
	parts, base, bits, most := "", 10, 8, 4
	if parts, ok = strings.CutSuffix(name, ".in-addr.arpa"); !ok {
		base, bits, most = 16, 4, 32
		if parts, ok = strings.CutSuffix(name, ".ip6.arpa"); !ok {
			return p, false, false
		}
	}
	labels := strings.Split(parts, ".")
	slices.Reverse(labels)
	address := make([]byte, most*bits/8)
	n := 0
	for ; n < min(len(labels), most); n++ {
		v, valid := reverseLabel(labels[n], base, bits)
		if !valid {
			break
		}
		address[n*bits/8] |= v << (8 - bits - n*bits%8)
	}
	a, _ := netip.AddrFromSlice(address)
	p = netip.PrefixFrom(a, n*bits)
	if a.Is4In6() && p.IsSingleIP() {
		p = netip.PrefixFrom(a.Unmap(), 32)
	}
	return p, n < len(labels), n > 0
}

// reverseLabel reads one part of an address: a byte in decimal, or a hexadecimal digit.
func reverseLabel(label string, base, bits int) (byte, bool) {
	v, err := strconv.ParseUint(label, base, bits)
	return byte(v), err == nil && (label == "0" || !strings.HasPrefix(label, "0"))
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
