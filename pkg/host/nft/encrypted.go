package nft

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/nlsock"
	"dcni/pkg/wire"
)

// ensureEncrypted lays the table, in one transaction with the removal of what it had.
func (f *Firewall) ensureEncrypted(e *firewall.Encrypted) (changed bool, err error) {
	if f.checkEncrypted(e) == nil {
		return false, nil
	}
	t := e.Table()
	for i := range t.Chains {
		t.Chains[i].Rules[0].Comment = encryptedNote(e)
	}
	err = f.commit(func(b *Batch) error { return b.table(t) })
	if err = f.taken(packetTable.family, t, err); errors.Is(err, firewall.ErrTaken) {
		return false, err
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT) {
		return false, &wire.Error{Code: wire.CodeUnavailable, Msg: "kernel can't take the rules of table inet " + t.Name, Err: err}
	}
	return err == nil, wrap("rules of table inet "+t.Name, err)
}

// encryptedNote is what each of the table's rules has as comment.
func encryptedNote(e *firewall.Encrypted) string { return fmt.Sprintf("encrypted %d", e.Port) }

// checkEncrypted wants the rules with their comments, and no others in front of them.
func (f *Firewall) checkEncrypted(e *firewall.Encrypted) error {
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	payloads, err := f.conn.Dump(f.request(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, func(m *nlsock.Message) {
		m.Str(unix.NFTA_RULE_TABLE, firewall.TableEncrypted)
	}))
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("list rules: %w", UnsupportedSubsystem(err))
	}
	found := map[string]bool{}
	for _, p := range payloads {
		found[RuleChain(p)+": "+RuleComment(p)] = true
	}
	chains := e.Table().Chains
	for _, c := range chains {
		if !found[c.Name+": "+encryptedNote(e)] || len(payloads) != len(chains) {
			return fmt.Errorf("table inet %s has not the rules of port %d", firewall.TableEncrypted, e.Port)
		}
	}
	return f.dormant(firewall.TableEncrypted)
}

// dormant is dormantIn for a table of the inet family.
func (f *Firewall) dormant(table string) error { return f.dormantIn(tableID{unix.NFPROTO_INET, table}) }

// dormantIn returns an error if a table is switched off. The caller holds the lock.
func (f *Firewall) dormantIn(table tableID) error {
	payloads, err := f.conn.Dump(f.requestIn(table.family, unix.NFT_MSG_GETTABLE, 0, func(m *nlsock.Message) {
		m.Str(unix.NFTA_TABLE_NAME, table.name)
	}))
	var s tableState
	for _, p := range payloads {
		s.readTable(p[min(len(p), nfHeader):])
	}
	if err == nil && s.dormant {
		err = fmt.Errorf("table %s %s is dormant", familyName(table.family), table.name)
	}
	return err
}

func familyName(family uint8) string {
	if family == unix.NFPROTO_BRIDGE {
		return "bridge"
	}
	return "inet"
}

// nfHeader is the length of a netfilter message's header.
const nfHeader = 4

// removeEncrypted deletes the table.
func (f *Firewall) removeEncrypted() error {
	err := f.commit(func(b *Batch) error {
		b.Change(unix.NFT_MSG_DELTABLE, 0, func(m *nlsock.Message) { m.Str(unix.NFTA_TABLE_NAME, firewall.TableEncrypted) })
		return nil
	})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return wrap("delete table inet "+firewall.TableEncrypted, err)
}
