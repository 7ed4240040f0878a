package xfrm

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"dcni/pkg/host/nlsock"
	"dcni/pkg/wire"
)

// The kernel's numbers of directions and actions.
const (
	dirIn, dirOut            = 0, 1
	actionAllow, actionBlock = 0, 1
)

// EnsurePolicy makes a policy so. What it is in place of holds until then. The kernel
// takes policies also where it has no ESP, and then drops all that they are about:
// therefore a policy is refused where its state is missing, or none could be made.
func (c *Conn) EnsurePolicy(p *wire.XfrmPolicy) (bool, error) {
	if c.CheckPolicy(p) == nil {
		return false, nil
	}
	if err := c.possible(p); err != nil {
		return false, err
	}
	info := nl.XfrmUserpolicyInfo{
		Sel: selectorOf(p), Lft: forever(), Priority: uint32(p.Priority()), Dir: direction(p), Action: action(p),
	}
	body := [][]byte{info.Serialize()}
	if !p.Block {
		body = append(body, attribute(nl.XFRMA_TMPL, template(p)))
	}
	err := c.change(nl.XFRM_MSG_UPDPOLICY, unix.NLM_F_CREATE, body...)
	return err == nil, err
}

// possible returns nil if what the policy needs is there.
func (c *Conn) possible(p *wire.XfrmPolicy) error {
	if p.SPI == 0 {
		return c.Probe(p.Dst.Addr().Is6())
	}
	_, err := c.state(p.Dst.Addr(), p.SPI)
	if errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("no such state: spi %#08x", p.SPI)
	}
	return err
}

// CheckPolicy compares a policy with the kernel's.
func (c *Conn) CheckPolicy(p *wire.XfrmPolicy) error {
	payloads, err := c.request(nl.XFRM_MSG_GETPOLICY, unix.NLM_F_ACK, policyID(p))
	if errors.Is(err, unix.ENOENT) {
		return errors.New("missing")
	}
	if err != nil {
		return unsupported(err)
	}
	for _, b := range payloads {
		if info, have, ok := decodePolicy(b); ok {
			return differs(info, have, p)
		}
	}
	return errors.New("missing")
}

// decodePolicy reads a policy and its template.
func decodePolicy(b []byte) (info *nl.XfrmUserpolicyInfo, tmpl []byte, ok bool) {
	if len(b) < nl.SizeofXfrmUserpolicyInfo {
		return nil, nil, false
	}
	nlsock.Attributes(b[nl.SizeofXfrmUserpolicyInfo:], func(typ uint16, data []byte) {
		if typ == nl.XFRMA_TMPL {
			tmpl = data
		}
	})
	return nl.DeserializeXfrmUserpolicyInfo(bytes.Clone(b[:nl.SizeofXfrmUserpolicyInfo])), tmpl, true // a clone is aligned
}

// differs says how the kernel's policy differs, or nil.
func differs(info *nl.XfrmUserpolicyInfo, tmpl []byte, p *wire.XfrmPolicy) error {
	switch {
	case info.Action != action(p) || info.Priority != uint32(p.Priority()):
		return fmt.Errorf("its action is %d and its priority %d", info.Action, info.Priority)
	case !sameTemplate(tmpl, p):
		return errors.New("it asks for another state")
	}
	return nil
}

// Policies returns the policies that name a state and were made here, also by an earlier
// process.
func (c *Conn) Policies() ([]*wire.XfrmPolicy, error) {
	payloads, err := c.request(nl.XFRM_MSG_GETPOLICY, unix.NLM_F_DUMP)
	if err != nil {
		return nil, unsupported(err)
	}
	var list []*wire.XfrmPolicy
	for _, b := range payloads {
		info, tmpl, ok := decodePolicy(b)
		if !ok || info.Dir != dirOut || len(tmpl) != nl.SizeofXfrmUserTmpl {
			continue
		}
		t := nl.DeserializeXfrmUserTmpl(bytes.Clone(tmpl))
		p := &wire.XfrmPolicy{
			Dir: wire.DirOut, Dst: netip.PrefixFrom(addressOf(info.Sel.Daddr, info.Sel.Family), int(info.Sel.PrefixlenD)),
			Port: int(nl.Swap16(info.Sel.Dport)), SPI: nl.Swap32(t.XfrmId.Spi),
		}
		if p.SPI != 0 && p.Dst.IsValid() && info.Sel == selectorOf(p) && differs(info, tmpl, p) == nil {
			list = append(list, p)
		}
	}
	return list, nil
}

// RemovePolicy removes a policy. One that is gone already is no error.
func (c *Conn) RemovePolicy(p *wire.XfrmPolicy) error {
	err := c.change(nl.XFRM_MSG_DELPOLICY, 0, policyID(p))
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func selectorOf(p *wire.XfrmPolicy) nl.XfrmSelector {
	from := netip.IPv4Unspecified()
	if p.Dst.Addr().Is6() {
		from = netip.IPv6Unspecified()
	}
	return selector(netip.PrefixFrom(from, 0), p.Dst, p.Port)
}

func policyID(p *wire.XfrmPolicy) []byte {
	id := nl.XfrmUserpolicyId{Sel: selectorOf(p), Dir: direction(p)}
	return id.Serialize()
}

func direction(p *wire.XfrmPolicy) uint8 {
	if p.Dir == wire.DirOut {
		return dirOut
	}
	return dirIn
}

func action(p *wire.XfrmPolicy) uint8 {
	if p.Block {
		return actionBlock
	}
	return actionAllow
}

// template is what a policy asks of a state.
func template(p *wire.XfrmPolicy) []byte {
	t := nl.XfrmUserTmpl{
		XfrmId: nl.XfrmId{Spi: nl.Swap32(p.SPI), Proto: unix.IPPROTO_ESP}, Family: family(p.Dst.Addr()), Reqid: wire.ESPReqID,
		Aalgos: ^uint32(0), Ealgos: ^uint32(0), Calgos: ^uint32(0),
	}
	return bytes.Clone(t.Serialize())
}

// sameTemplate compares what the kernel has of a policy's template.
func sameTemplate(have []byte, p *wire.XfrmPolicy) bool {
	if p.Block {
		return len(have) == 0
	}
	if len(have) != nl.SizeofXfrmUserTmpl {
		return false
	}
	t := nl.DeserializeXfrmUserTmpl(bytes.Clone(have))
	return t.XfrmId.Spi == nl.Swap32(p.SPI) && t.XfrmId.Proto == unix.IPPROTO_ESP && t.Reqid == wire.ESPReqID && t.Mode == 0 && t.Optional == 0
}
