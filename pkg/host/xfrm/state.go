package xfrm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"dcni/pkg/host/nlsock"
	"dcni/pkg/wire"
)

// EnsureState makes a state, once: one that was made and is gone stays so. One that is
// there under its index and is another is an error.
func (c *Conn) EnsureState(s *wire.XfrmState) (bool, error) {
	if s.Made {
		return false, c.CheckState(s)
	}
	err := c.add(s)
	if errors.Is(err, unix.EEXIST) {
		if err = c.CheckState(s); err == nil {
			s.Made = true
		}
		return false, err
	}
	s.Made = err == nil
	return s.Made, err
}

// add makes a state. The kernel refuses one that is there.
func (c *Conn) add(s *wire.XfrmState) error {
	info := nl.XfrmUsersaInfo{
		Sel:   selector(single(s.Src), single(s.Dst), s.Port),
		Id:    nl.XfrmId{Daddr: address(s.Dst), Spi: nl.Swap32(s.SPI), Proto: unix.IPPROTO_ESP},
		Saddr: address(s.Src), Lft: forever(), Reqid: wire.ESPReqID, Family: family(s.Dst), Flags: nl.XFRM_STATE_ESN,
	}
	aead := nl.XfrmAlgoAEAD{AlgKeyLen: uint32(len(s.Secret) * 8), AlgICVLen: wire.ESPICV, AlgKey: s.Secret[:]}
	copy(aead.AlgName[:], wire.ESPAlgorithm)
	const bits = 32 // of each word of the window
	replay := nl.XfrmReplayStateEsn{BmpLen: wire.ESPWindow / bits, ReplayWindow: wire.ESPWindow}
	return c.change(nl.XFRM_MSG_NEWSA, unix.NLM_F_CREATE|unix.NLM_F_EXCL, info.Serialize(),
		attribute(nl.XFRMA_ALG_AEAD, aead.Serialize()), attribute(nl.XFRMA_REPLAY_ESN_VAL, replay.Serialize()))
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// A State is a state as the kernel has it.
type State struct {
	wire.XfrmState
	ESN     bool
	Window  int    // packets
	Packets uint64 // that it encrypted or decrypted
	foreign string // why it is none that EnsureState makes; ""
}

// CheckState compares a state with the kernel's.
func (c *Conn) CheckState(s *wire.XfrmState) error {
	have, err := c.state(s.Dst, s.SPI)
	switch {
	case errors.Is(err, unix.ESRCH) && s.Made:
		return wire.ErrLostState
	case errors.Is(err, unix.ESRCH):
		return errors.New("missing")
	case err != nil:
		return err
	case have.foreign != "":
		return fmt.Errorf("it is another: %s", have.foreign)
	case have.Src != s.Src || have.Port != s.Port || have.Secret != s.Secret:
		return fmt.Errorf("it is another: from %s, for port %d, or of another key", have.Src, have.Port)
	}
	return nil
}

// RemoveState removes a state. One that is gone already is no error.
func (c *Conn) RemoveState(s *wire.XfrmState) error {
	err := c.change(nl.XFRM_MSG_DELSA, 0, stateID(s.Dst, s.SPI))
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

func stateID(dst netip.Addr, spi uint32) []byte {
	id := nl.XfrmUsersaId{Daddr: address(dst), Spi: nl.Swap32(spi), Family: family(dst), Proto: unix.IPPROTO_ESP}
	return id.Serialize()
}

// state returns one state.
func (c *Conn) state(dst netip.Addr, spi uint32) (*State, error) {
	payloads, err := c.request(nl.XFRM_MSG_GETSA, unix.NLM_F_ACK, stateID(dst, spi))
	if err != nil {
		return nil, err
	}
	for _, p := range payloads {
		if s, ok := decodeState(p); ok {
			return s, nil
		}
	}
	return nil, unix.ESRCH
}

// States returns all states that were made here, also by an earlier process. They are
// marked as made.
func (c *Conn) States() ([]*State, error) {
	payloads, err := c.request(nl.XFRM_MSG_GETSA, unix.NLM_F_DUMP)
	if err != nil {
		return nil, unsupported(err)
	}
	var list []*State
	for _, p := range payloads {
		if s, ok := decodeState(p); ok && s.foreign == "" {
			list = append(list, s)
		}
	}
	return list, nil
}

// decodeState reads a state of ESP.
func decodeState(b []byte) (*State, bool) {
	if len(b) < nl.SizeofXfrmUsersaInfo {
		return nil, false
	}
	info := nl.DeserializeXfrmUsersaInfo(bytes.Clone(b[:nl.SizeofXfrmUsersaInfo])) // aligned
	if info.Id.Proto != unix.IPPROTO_ESP {
		return nil, false
	}
	s := &State{
		XfrmState: wire.XfrmState{
			Src: addressOf(info.Saddr, info.Family), Dst: addressOf(info.Id.Daddr, info.Family), SPI: nl.Swap32(info.Id.Spi),
			Port: int(nl.Swap16(info.Sel.Dport)), Made: true,
		},
		ESN: info.Flags&nl.XFRM_STATE_ESN != 0, Packets: info.Curlft.Packets,
	}
	icv, name := uint32(0), ""
	nlsock.Attributes(b[nl.SizeofXfrmUsersaInfo:], func(typ uint16, data []byte) {
		switch {
		case typ == nl.XFRMA_ALG_AEAD && len(data) == nl.SizeofXfrmAlgoAEAD+len(s.Secret):
			name, icv = nlsock.CString(data[:64]), binary.NativeEndian.Uint32(data[68:])
			copy(s.Secret[:], data[nl.SizeofXfrmAlgoAEAD:])
		case typ == nl.XFRMA_REPLAY_ESN_VAL && len(data) >= nl.SizeofXfrmReplayStateEsn:
			s.Window = int(binary.NativeEndian.Uint32(data[20:]))
		}
	})
	switch {
	case info.Reqid != wire.ESPReqID:
		s.foreign = fmt.Sprintf("reqid is %d", info.Reqid)
	case info.Mode != 0:
		s.foreign = "its mode is not transport"
	case name != wire.ESPAlgorithm || icv != wire.ESPICV:
		s.foreign = "its algorithm is not " + wire.ESPAlgorithm
	case !s.ESN || s.Window != wire.ESPWindow:
		s.foreign = fmt.Sprintf("ESN is %t, its replay window %d", s.ESN, s.Window)
	case info.Sel != selector(single(s.Src), single(s.Dst), s.Port):
		s.foreign = "its selector is another"
	}
	return s, true
}
