package nft

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/nlsock"
)

// memberSets are the sets of containers on bridges that dcni did not make.
func memberSets() []string { return []string{firewall.SetMembers4, firewall.SetMembers6} }

// Passing lists what the rules are about: the bridges that dcni made, and containers' addresses on
// others, in order. Where there are no rules there is nothing.
func (f *Firewall) Passing() (list []firewall.Passing, err error) {
	all, err := f.list(firewall.SetBridges, firewall.SetMembers4, firewall.SetMembers6)
	whole := map[string]bool{}
	for _, e := range all {
		if len(e.key) < unix.IFNAMSIZ {
			continue
		}
		p := firewall.Passing{Bridge: nlsock.CString(e.key[:unix.IFNAMSIZ])}
		p.Address, _ = netip.AddrFromSlice(e.key[unix.IFNAMSIZ:])
		if whole[p.Bridge] {
			continue // an overlay network's container
		}
		whole[p.Bridge] = e.set == firewall.SetBridges
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b firewall.Passing) int {
		return cmp.Or(strings.Compare(a.Bridge, b.Bridge), a.Address.Compare(b.Address))
	})
	return list, err
}

// openSets are the sets of ports that are reached by containers' own addresses.
func openSets() []string { return []string{firewall.SetOpen4, firewall.SetOpen6} }

// ensureMember puts a container's addresses in. One that another attachment's died
// process left under the same address is replaced: the lease is ours.
func (f *Firewall) ensureMember(m *firewall.Member) (changed bool, err error) {
	add, stale, err := f.differing(encodeAll(m.Elements()))
	if err != nil {
		return false, err
	}
	err = f.commit(func(b *Batch) error {
		b.elements(unix.NFT_MSG_DELSETELEM, 0, grouped(stale))
		b.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, grouped(add))
		return nil
	})
	return err == nil && len(add) > 0, wrap("put "+m.Owner.String()+" in", err)
}

// differing returns those elements of a container's addresses that are missing, and of these
// the ones that are there as another attachment's.
func (f *Firewall) differing(want []element) (missing, stale []element, err error) {
	found, err := f.get(want)
	if err != nil {
		return nil, nil, err
	}
	for i, w := range want {
		if found[i] != nil && found[i].comment == w.comment {
			continue
		}
		missing = append(missing, w)
		if found[i] != nil {
			stale = append(stale, w)
		}
	}
	return missing, stale, nil
}

// checkMember tells which addresses are missing.
func (f *Firewall) checkMember(m *firewall.Member) error {
	want := encodeAll(m.Elements())
	found, err := f.get(want)
	if err != nil {
		return err
	}
	var errs []error
	for i, w := range want {
		if found[i] == nil || found[i].comment != w.comment {
			errs = append(errs, fmt.Errorf("the rules don't know %s", m.Addresses[i]))
		}
	}
	return errors.Join(errs...)
}

// removeMember takes a container's addresses out: those named, or all of the owner's.
func (f *Firewall) removeMember(m *firewall.Member) error {
	elements, comment := encodeAll(m.Elements()), firewall.Comment(m.Owner)
	if len(m.Addresses) == 0 {
		all, err := f.list(memberSets()...)
		if err != nil {
			return err
		}
		elements = all
	}
	return f.deleteOwn(elements, isComment(comment))
}

// ensureSender puts another node in, or with another mark.
func (f *Firewall) ensureSender(s *firewall.Sender) (changed bool, err error) {
	want := encode(s.Element())
	found, err := f.get(want)
	if err != nil || found[0] != nil && bytes.Equal(found[0].data, want[0].data) {
		return false, err
	}
	err = f.commit(func(b *Batch) error {
		if found[0] != nil {
			b.elements(unix.NFT_MSG_DELSETELEM, 0, want)
		}
		b.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, want)
		return nil
	})
	return err == nil, wrap("put "+s.Key()+" in", err)
}

// checkSender tells whether it is in.
func (f *Firewall) checkSender(s *firewall.Sender) error {
	want := encode(s.Element())
	found, err := f.get(want)
	if err == nil && (found[0] == nil || !bytes.Equal(found[0].data, want[0].data)) {
		err = errors.New("the rules don't know it")
	}
	return err
}

// removeSender takes it out.
func (f *Firewall) removeSender(s *firewall.Sender) error {
	return f.deleteOwn(encode(s.Element()), func(string) bool { return true })
}

// Senders lists those of a bridge.
func (f *Firewall) Senders(bridge string) (list []*firewall.Sender, err error) {
	all, err := f.list(firewall.MapSenders)
	for _, e := range all {
		if len(e.key) < unix.IFNAMSIZ+macLen || len(e.data) < 4 || nlsock.CString(e.key[:unix.IFNAMSIZ]) != bridge {
			continue
		}
		list = append(list, &firewall.Sender{
			Network: e.comment, Bridge: bridge, MAC: net.HardwareAddr(e.key[unix.IFNAMSIZ : unix.IFNAMSIZ+macLen]).String(), Mark: binary.NativeEndian.Uint32(e.data),
		})
	}
	return list, err
}

// macLen is the length of an Ethernet address.
const macLen = 6
