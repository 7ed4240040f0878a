package rules

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"dcni/pkg/firewall"
	"dcni/pkg/host/foreign"
	"dcni/pkg/host/iptables"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// leftByIPTables returns the families in which iptables has rules of dcni's and no network is by
// them. A program that saves rules and puts them back, as netfilter-persistent at boot, does that:
// they publish ports of containers that are gone, and close a host that is to be open.
func (h *Rules) leftByIPTables() ([]firewall.Family, error) {
	unused := h.unusedByIPTables()
	if len(unused) == 0 {
		return nil, nil
	}
	chains, err := foreign.OfIPTables()
	if errors.Is(err, exec.ErrNotFound) {
		err = nil // of the older iptables, whose tables are there without its program
	}
	return slices.DeleteFunc(unused, func(f firewall.Family) bool {
		for _, c := range chains {
			older, six := strings.HasSuffix(c.Tool, "-legacy"), c.Family == "ip6"
			if six == (f == 6) && older != iptables.OnNFTables(six) {
				return false
			}
		}
		return true
	}), err
}

// unusedByIPTables returns the families in which no network is by iptables.
func (h *Rules) unusedByIPTables() []firewall.Family {
	return slices.DeleteFunc(firewall.Families(), func(f firewall.Family) bool { return h.Records.UsesIPTables(int(f)) })
}

// Sweep removes what rules of other times have left: what of iptables' rules is dcni's where no network
// is by them, what closes a host that is open, and what the rules have of attachments without a record. A program that saves rules
// and puts them back, as nftables.service at boot, does that. It returns what it removed, in words.
func (h *Rules) Sweep() (swept []string, err error) {
	all, err := h.sweepIPTables()
	if all {
		swept = append(swept, "rules of iptables that no network has")
	}
	owners, failed := h.sweepOwners()
	for _, comment := range owners {
		swept = append(swept, "rules of "+comment+", which is not attached")
	}
	families, unopened := h.sweepClosed()
	for _, f := range families {
		swept = append(swept, fmt.Sprintf("a rule that closed the host as a router of IPv%d", int(f)))
	}
	return swept, errors.Join(err, failed, unopened)
}

// sweepClosed opens the host as a router of the families that nftables closes it for and no record does,
// and returns them.
func (h *Rules) sweepClosed() ([]firewall.Family, error) {
	if len(h.wronglyClosed()) == 0 {
		return nil, nil
	}
	lock, err := h.Records.LockFirewall()
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	wrong := h.wronglyClosed() // a plugin may have been about to say so
	if len(wrong) == 0 {
		return nil, nil
	}
	return wrong, h.closeRouter()
}

func (h *Rules) wronglyClosed() []firewall.Family {
	rightly := h.closedByNFTables()
	return slices.DeleteFunc(firewall.Families(), func(f firewall.Family) bool {
		return slices.Contains(rightly, f) || h.nft.Check(&firewall.Router{Closed: []firewall.Family{f}}) != nil
	})
}

// sweepOwners removes what the rules have of attachments without a record: their ports would stay
// taken. It returns the owners' comments.
func (h *Rules) sweepOwners() (swept []string, err error) {
	// The rules are listed before the records, see [cni.Engine.GC].
	orphans, err := h.Orphans()
	if err != nil || len(orphans) == 0 {
		return nil, err
	}
	keys, err := h.Records.Keys()
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, k := range keys {
		known[firewall.Comment(k.Attachment)] = true
	}
	var errs []error
	for _, o := range orphans {
		owned := o.Object.(*firewall.Owned)
		a, is := firewall.OwnerOf(owned.Comment)
		if known[owned.Comment] || !is {
			continue
		}
		removed, err := h.sweepOwner(a, owned)
		if errs = append(errs, err); removed {
			swept = append(swept, owned.Comment)
		}
	}
	return swept, errors.Join(errs...)
}

// sweepOwner removes what one attachment has, unless a plugin works on it.
func (h *Rules) sweepOwner(a wire.Attachment, owned *firewall.Owned) (removed bool, err error) {
	lock, free, err := h.Records.TryLockAttachment(a)
	if err != nil || !free {
		return false, err
	}
	defer lock.Unlock()
	keys, err := h.Records.Keys()
	if err != nil || slices.ContainsFunc(keys, func(k records.RecordKey) bool { return k.Attachment == a }) {
		return false, err // it has come by now
	}
	err = h.remove("", owned)
	return err == nil, err
}

// sweepIPTables removes what iptables' rules have of dcni's where no network is by them, and reports
// whether there was anything.
func (h *Rules) sweepIPTables() (swept bool, err error) {
	if left, err := h.leftByIPTables(); err != nil || len(left) == 0 {
		return false, err
	}
	lock, err := h.Records.LockFirewall()
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	left, err := h.leftByIPTables() // a network may have come
	if err != nil || len(left) == 0 {
		return false, err
	}
	return h.ipt.Sweep(left)
}
