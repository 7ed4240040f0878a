package firewall

import (
	"net/netip"

	"dcni/pkg/wire"
)

// A Claim is a port of the host that leads to a container: at one address, or at all
// addresses of a family. An element of a port set is one; so is what dnetd relays for
// a container that has IPv4 only.
type Claim struct {
	Owner         string // see [Comment]
	Protocol      string
	Addr          netip.Addr // 0.0.0.0 and :: stand for all of their family
	Port          uint16
	ContainerPort uint16 // 0: not known
	Relayed       bool   // by dnetd, behind the rules: it serves what they leave
}

// Claim returns the claim that an element of a port set is.
func (e Element) Claim() Claim {
	c := Claim{Owner: e.Comment, Addr: netip.IPv4Unspecified(), Relayed: e.Set == SetRelayed6 || e.Set == SetRelayed6Addr}
	if e.Set != MapPorts4 && e.Set != MapPorts4Addr {
		c.Addr = netip.IPv6Unspecified()
	}
	for _, part := range e.Key {
		switch part := part.(type) {
		case netip.Addr:
			c.Addr = part
		case Proto:
			c.Protocol = string(part)
		case Service:
			c.Port = uint16(part)
		}
	}
	if len(e.Value) > 0 {
		if port, ok := e.Value[len(e.Value)-1].(Service); ok {
			c.ContainerPort = uint16(port)
		}
	}
	return c
}

// ByPort sorts claims by their ports.
func ByPort(claims []Claim) map[uint16][]Claim {
	sorted := make(map[uint16][]Claim, len(claims))
	for _, c := range claims {
		sorted[c.Port] = append(sorted[c.Port], c)
	}
	return sorted
}

// Excludes reports whether the claims can't be had both, by owners that are no
// siblings: some packet could be meant for either.
func (c Claim) Excludes(d Claim) bool {
	return c.Owner != d.Owner && c.Protocol == d.Protocol && c.Port == d.Port && c.Relayed == d.Relayed &&
		c.Addr.Is6() == d.Addr.Is6() && (c.Addr == d.Addr || c.Addr.IsUnspecified() || d.Addr.IsUnspecified())
}

// SamePort reports whether both lead to the same port of a container, as far as
// that is known.
func (c Claim) SamePort(d Claim) bool {
	return c.ContainerPort == d.ContainerPort || c.ContainerPort == 0 || d.ContainerPort == 0
}

// Allocated returns Docker's error if one of the others keeps the claim from being
// had, with code 102. Attachments of one container (siblings, by their comments) may
// share a port that leads to the same port of the container.
func (c Claim) Allocated(others []Claim, sibling func(comment string) bool) error {
	for _, d := range others {
		if c.Excludes(d) && !(c.SamePort(d) && sibling(d.Owner)) {
			return AllocatedTo(netip.AddrPortFrom(c.Addr, c.Port).String(), c.Owner, d.Owner)
		}
	}
	return nil
}

// AllocatedTo returns Docker's error for a port of the host that another has, by the comments of both: an
// [AllocatedError]. Where one of them is a service, it says who that is.
func AllocatedTo(at, wants, has string) error {
	by := ""
	if IsOfService(wants) || IsOfService(has) {
		by = " to " + OwnerWords(has)
	}
	return &AllocatedError{wire.Errorf(wire.CodePortTaken, "Bind for %s failed: port is already allocated%s", at, by), has}
}

// An AllocatedError says that a port of the host is another's.
type AllocatedError struct {
	err *wire.Error
	By  string // comment of who has it, "" where that is not known
}

func (e *AllocatedError) Error() string { return e.err.Error() }

// Unwrap returns the error with its code.
func (e *AllocatedError) Unwrap() error { return e.err }

// ImpliedRelay returns the claim that a port has without an element: a port of both
// families is relayed for IPv6 where the container has IPv4 only. ok is false where
// there is none.
func (e *Endpoint) ImpliedRelay(p Port) (c Claim, ok bool) {
	p, binds := e.bound(p)
	_, has4 := e.target(false)
	_, has6 := e.target(true)
	c = Claim{Owner: Comment(e.Owner), Protocol: p.Protocol, Addr: netip.IPv6Unspecified(), Port: p.HostPort,
		ContainerPort: p.ContainerPort, Relayed: true}
	return c, binds && has4 && !has6 && !p.HostIP.IsValid()
}
