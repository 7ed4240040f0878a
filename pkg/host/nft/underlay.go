package nft

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/nlsock"
)

// ensureUnderlay lays the table where it is not as it should be, with the elements that it
// had, and puts the port and the nodes in that are known.
func (f *Firewall) ensureUnderlay(u *firewall.Underlay) (changed bool, err error) {
	if f.checkUnderlay(u) == nil {
		return false, nil
	}
	err = f.commit(func(b *Batch) error {
		if err := b.table(firewall.UnderlayTable()); err != nil {
			return err
		}
		b.elementsIn(firewall.TableUnderlay, unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE,
			grouped(encodeAll(append(u.Elements(), firewall.NodeElements(u.Known...)...))))
		return nil
	})
	return err == nil, wrap("rules of table inet "+firewall.TableUnderlay, f.taken(packetTable.family, firewall.UnderlayTable(), err))
}

// checkUnderlay wants the rules with their comments, no others beside them, and the port.
func (f *Firewall) checkUnderlay(u *firewall.Underlay) error {
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	payloads, err := f.conn.Dump(f.request(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, func(m *nlsock.Message) {
		m.Str(unix.NFTA_RULE_TABLE, firewall.TableUnderlay)
	}))
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("list rules: %w", UnsupportedSubsystem(err))
	}
	chains := firewall.UnderlayTable().Chains
	rules := 0
	for _, c := range chains {
		rules += len(c.Rules)
	}
	same := len(payloads) == rules
	for _, p := range payloads {
		same = same && RuleComment(p) == chains[0].Rules[0].Comment
	}
	if !same {
		return fmt.Errorf("table inet %s has not its rules", firewall.TableUnderlay)
	}
	if err := f.dormant(firewall.TableUnderlay); err != nil {
		return err
	}
	for _, e := range u.Elements() {
		have, err := f.listIn(firewall.TableUnderlay, e.Set)
		if err != nil {
			return err
		}
		if missing := without(encode(e), have); len(missing) > 0 {
			return fmt.Errorf("table inet %s lacks %s", firewall.TableUnderlay, e)
		}
	}
	return nil
}

// removeUnderlay takes the port out, and deletes the table with the last one.
func (f *Firewall) removeUnderlay(u *firewall.Underlay) error {
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	have, err := f.listIn(firewall.TableUnderlay, firewall.SetTunnels)
	unlock()
	if err != nil {
		return err
	}
	ours := encodeAll(u.Elements())
	err = f.commit(func(b *Batch) error {
		if len(without(have, ours)) == 0 {
			b.Change(unix.NFT_MSG_DELTABLE, 0, func(m *nlsock.Message) { m.Str(unix.NFTA_TABLE_NAME, firewall.TableUnderlay) })
		} else {
			b.elementsIn(firewall.TableUnderlay, unix.NFT_MSG_DELSETELEM, 0, ours)
		}
		return nil
	})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return wrap("take the port out of table inet "+firewall.TableUnderlay, err)
}

// nodesChange returns which nodes are missing, and which are there too much. Without the
// table, all are.
func (f *Firewall) nodesChange(n *firewall.Nodes) (add, stale []element, err error) {
	unlock, err := f.lock()
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	have, err := f.listIn(firewall.TableUnderlay, firewall.SetNodes4, firewall.SetNodes6)
	if err != nil {
		return nil, nil, err
	}
	want := encodeAll(firewall.NodeElements(n.Addresses...))
	return grouped(without(want, have)), grouped(without(have, want)), nil
}

// ensureNodes makes the nodes those, and no others. Without the table there are none to
// be told apart: who lays it puts them in. Several networks' followers may be at it at
// once, and one may delete what the other is about to.
func (f *Firewall) ensureNodes(n *firewall.Nodes) (changed bool, err error) {
	for range deleteTries {
		var add, stale []element
		add, stale, err = f.nodesChange(n)
		if err != nil || len(add)+len(stale) == 0 {
			return false, err
		}
		err = f.commit(func(b *Batch) error {
			b.elementsIn(firewall.TableUnderlay, unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, add)
			b.elementsIn(firewall.TableUnderlay, unix.NFT_MSG_DELSETELEM, 0, stale)
			return nil
		})
		if !errors.Is(err, unix.ENOENT) {
			return err == nil, wrap("nodes of table inet "+firewall.TableUnderlay, err)
		}
	}
	unlock, failed := f.lock()
	if failed != nil {
		return false, failed
	}
	defer unlock()
	if ports, failed := f.listIn(firewall.TableUnderlay, firewall.SetTunnels); failed == nil && len(ports) == 0 {
		return false, nil
	}
	return false, wrap("nodes of table inet "+firewall.TableUnderlay, err)
}

func (f *Firewall) checkNodes(n *firewall.Nodes) error {
	add, stale, err := f.nodesChange(n)
	if err == nil && len(add)+len(stale) > 0 {
		err = fmt.Errorf("table inet %s lacks %d nodes, and has %d too many", firewall.TableUnderlay, len(add), len(stale))
	}
	return err
}

// without returns the elements of a list that are not in another.
func without(list, other []element) (rest []element) {
	there := make(map[elementID]bool, len(other))
	for _, e := range other {
		there[e.id()] = true
	}
	for _, e := range list {
		if !there[e.id()] {
			rest = append(rest, e)
		}
	}
	return rest
}
