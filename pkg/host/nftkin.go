package host

import (
	"bytes"

	"dcni/pkg/firewall"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// This file is about containers on several networks. Runtimes ask each of them
// for all the ports to publish, so the first one publishes them, which is as
// good for whoever calls, and the others find it done. When that one is
// detached, another takes over.

// kin returns the records of the other attachments of an attachment's
// container. One that can't be read is not among them: it answers for nothing.
func (h *Host) kin(a wire.Attachment) []*records.Record {
	list, _ := h.records.OfContainer(a.Container) // see above
	var kin []*records.Record
	for _, r := range list {
		if r.Attachment != a {
			kin = append(kin, r)
		}
	}
	return kin
}

// served reports whether another attachment of the same container has what is
// there under a binding's key, and leads to the same port of the container.
func (s *portSurvey) served(b binding, have *element) bool {
	const portLen = 4 // the port lies behind the address
	port := func(data []byte) []byte { return data[max(0, len(data)-portLen):] }
	return bytes.Equal(port(have.data), port(b.data)) && s.isKin(have.comment)
}

// isKin reports whether a comment is that of another attachment of the same
// container.
func (s *portSurvey) isKin(comment string) bool {
	if s.kin == nil {
		s.kin = make(map[string]bool)
		if s.f.kin != nil {
			for _, r := range s.f.kin(s.endpoint.Owner) {
				s.kin[firewall.Comment(r.Attachment)] = true
			}
		}
	}
	return s.kin[comment]
}

// handOver publishes for the container's other attachments what this one
// published for them too. If one can't be had, its CHECK tells. The caller
// holds the lock of the firewall.
func (e fwEndpoint) handOver() {
	for _, r := range e.h.kin(e.o.Owner) {
		if r.State == records.Up && r.Endpoint != nil {
			_, _ = e.h.fw.ensureEndpoint(r.Endpoint)
		}
	}
}

// elementsOf returns the elements of each endpoint, but for those that an
// earlier one of the same container has.
func elementsOf(endpoints []*firewall.Endpoint) [][]element {
	type key struct{ container, set, key string }
	seen := make(map[key]bool)
	var lists [][]element
	for _, e := range endpoints {
		var list []element
		for _, el := range encodeAll(e.Elements()) {
			k := key{e.Owner.Container, el.set, string(el.key)}
			if !seen[k] {
				seen[k] = true
				list = append(list, el)
			}
		}
		lists = append(lists, list)
	}
	return lists
}
