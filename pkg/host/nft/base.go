// Package nft carries the firewall policy out with nf_tables, in one table of constant
// rules over growing sets. It spawns no process.
package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/nlsock"
	"dcni/pkg/wire"
)

// Firewall carries the firewall policy out with nf_tables, in one table of
// constant rules over growing sets. No process is spawned.
//
// An element is its own claim: it is added with EXCL, and carries its owner as
// comment. What belongs to another owner is never changed or deleted.
//
// The type of a set never changes under its name: a new type takes a new name,
// so that a new version's rules can be installed over the sets of an older one.
type Firewall struct {
	mu   sync.Mutex   // one exchange at a time
	conn *nlsock.Conn // nil until first used

	// mayExist is set once an endpoint was checked: some of its elements may be
	// installed. Adding an existing element fails and costs an RCU grace period of
	// 12 ms, so all of them are looked up first.
	mayExist bool

	// Closed returns the families that the host is to be closed for as a router; nil:
	// none.
	Closed func() []firewall.Family
	// Others returns the ports that another backend publishes; nil: there is none.
	Others func() ([]firewall.Claim, error)
	// Siblings returns the other attachments of a container; nil where there are no
	// records.
	Siblings func(wire.Attachment) []wire.Attachment
	// EndpointOf returns what the owner with a comment publishes, by its record; nil
	// where there is none. It is nil itself where there are no records.
	EndpointOf func(comment string) *firewall.Endpoint
	// IsGatewayEndpoint reports whether an attachment has its sandbox's default route for IPv4, or
	// IPv6; nil: none is.
	IsGatewayEndpoint func(a wire.Attachment, v6 bool) bool
}

// New returns a firewall of the network namespace that the first
// method's thread is in: the socket, once open, stays with that namespace. All
// methods must be called in that namespace: local addresses, listeners and the
// range of ports are asked for on the caller's thread.
func New() *Firewall { return &Firewall{} }

// Close gives the socket back. The firewall may be used again.
func (f *Firewall) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn != nil {
		f.conn.Close()
		f.conn = nil
	}
}

// lock opens the socket if need be and holds it for one exchange.
func (f *Firewall) lock() (unlock func(), err error) {
	f.mu.Lock()
	if f.conn == nil {
		if f.conn, err = nlsock.Dial(unix.NETLINK_NETFILTER); err != nil {
			f.mu.Unlock()
			return nil, Unsupported(err)
		}
	}
	return f.mu.Unlock, nil
}

const noNFTables = "kernel has no nf_tables"

// lacksNFTables reports whether an error is of [Unsupported] or [UnsupportedSubsystem]: then nothing of
// dcni's is there either.
func lacksNFTables(err error) bool {
	e, is := errors.AsType[*wire.Error](err)
	return is && e.Msg == noNFTables
}

// Unsupported says what errors mean that a kernel without nf_tables gives.
func Unsupported(err error) error {
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		return &wire.Error{Code: wire.CodeUnavailable, Msg: noNFTables, Err: err}
	}
	return err
}

// UnsupportedSubsystem is Unsupported for what is asked for, not changed: where nfnetlink is there and
// nf_tables is not, it refuses the subsystem with EINVAL.
func UnsupportedSubsystem(err error) error {
	if errors.Is(err, unix.EINVAL) {
		err = unix.EOPNOTSUPP // as it says of changes
	}
	return Unsupported(err)
}

// Probe tells whether the rules are there or could be installed: the kernel has
// nf_tables and all that the rules speak of, and we may. They are sent to it
// without the end of the transaction, so it looks at each, loads modules for
// them, and drops them all.
func (f *Firewall) Probe() error {
	if err := f.checkBase(); !errors.Is(err, errNotInstalled) {
		return err
	}
	older, err := f.olderChains()
	if err != nil {
		return err
	}
	if err = f.probe(packetTable.family, ruleset(), older); err == nil {
		return nil
	}
	if err = f.taken(packetTable.family, ruleset(), err); errors.Is(err, firewall.ErrTaken) {
		return err
	}
	return fmt.Errorf("kernel can't take the rules of table inet %s: it may lack nft_nat, nft_masq, nft_fib, nft_ct or nft_reject: %w", firewall.TableName, Unsupported(err))
}

// request returns one message that asks for something.
func (f *Firewall) request(msg, flags uint16, body func(m *nlsock.Message)) []byte {
	return f.requestIn(unix.NFPROTO_INET, msg, flags, body)
}

// requestIn is request for a family of tables.
func (f *Firewall) requestIn(family uint8, msg, flags uint16, body func(m *nlsock.Message)) []byte {
	var m nlsock.Message
	at := m.Begin(MessageType(msg), flags, f.conn.Next())
	m.NFHeader(family, 0)
	if body != nil {
		body(&m)
	}
	m.End(at)
	return m.B
}

// Install makes sure that the rules are there. If they are not, or are
// another version's, all is installed in one transaction, with the elements of what
// desired returns. The caller holds the lock of shared objects.
func (f *Firewall) Install(desired func() (*firewall.Desired, error)) (changed bool, err error) {
	if err := f.checkBase(); err == nil {
		return false, nil
	} else if !errors.Is(err, errNotInstalled) {
		return false, err
	}
	up, err := desired()
	if err != nil {
		return false, fmt.Errorf("what is up: %w", err)
	}
	return true, f.install(up)
}

// errNotInstalled says that the rules are to be installed (again).
var errNotInstalled = errors.New("table inet " + firewall.TableName + " is not as it should be")

// checkBase compares the rules' version, and the table's state, each chain's
// policy, and how often it is used: by its rules, and by jumps to it. Its cost depends on the number of chains only,
// which is constant.
func (f *Firewall) checkBase() error {
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	payloads, err := f.conn.Dump(f.request(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, func(m *nlsock.Message) {
		m.Str(unix.NFTA_RULE_TABLE, firewall.TableName)
		m.Str(unix.NFTA_RULE_CHAIN, firewall.VersionChain)
	}))
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("list rules: %w", UnsupportedSubsystem(err))
	}
	if _, version := countRules(payloads); version != firewall.Version {
		return fmt.Errorf("%w: version %q instead of %q", errNotInstalled, version, firewall.Version)
	}
	have, err := f.state()
	if err != nil {
		return fmt.Errorf("look at chains: %w", Unsupported(err))
	}
	closed := f.closed()
	if !slices.Equal(have.closed, closed) {
		return fmt.Errorf("%w: the host is closed as a router for %v instead of %v", errNotInstalled, have.closed, closed)
	}
	if have.dormant {
		return fmt.Errorf("%w: it is dormant", errNotInstalled)
	}
	for _, want := range firewall.ChainUses {
		if uses := have.uses[want.Chain]; uses != want.Times {
			return fmt.Errorf("%w: chain %s is used %d times instead of %d", errNotInstalled, want.Chain, uses, want.Times)
		}
		if have.drops[want.Chain] {
			return fmt.Errorf("%w: chain %s drops what its rules don't decide", errNotInstalled, want.Chain)
		}
	}
	return nil
}

// An tableState is what the kernel tells of the table without its rules.
type tableState struct {
	dormant bool
	uses    map[string]uint32 // of each chain
	drops   map[string]bool   // chains with another policy than ours
	// priorities are those of base chains.
	priorities map[string]int32
	closed     []firewall.Family // as a router
}

// state asks for the table and all chains in one exchange. The caller holds the
// lock.
func (f *Firewall) state() (o tableState, err error) {
	m := nlsock.Message{B: f.request(unix.NFT_MSG_GETTABLE, 0, func(m *nlsock.Message) {
		m.Str(unix.NFTA_TABLE_NAME, firewall.TableName)
	})}
	for _, want := range firewall.ChainUses {
		m.B = append(m.B, f.request(unix.NFT_MSG_GETCHAIN, 0, func(m *nlsock.Message) {
			m.Str(unix.NFTA_CHAIN_TABLE, firewall.TableName)
			m.Str(unix.NFTA_CHAIN_NAME, want.Chain)
		})...)
	}
	first := f.conn.Seq + 1
	for _, family := range firewall.Families() {
		key := encode(firewall.Closed(family))
		m.B = append(m.B, f.request(unix.NFT_MSG_GETSETELEM, 0, func(m *nlsock.Message) { appendElements(m, key) })...)
	}
	replies, err := f.conn.RoundTrip(m.B)
	if err != nil {
		return o, err
	}
	o.uses, o.drops, o.priorities = make(map[string]uint32), make(map[string]bool), make(map[string]int32)
	for _, r := range replies {
		switch {
		case r.Err != nil && !errors.Is(r.Err, unix.ENOENT):
			return o, r.Err
		case r.Err != nil || len(r.Data) < 4:
		case r.Type&0xff == unix.NFT_MSG_NEWTABLE:
			o.readTable(r.Data[4:])
		case r.Type&0xff == unix.NFT_MSG_NEWCHAIN:
			o.readChain(r.Data[4:])
		case r.Type&0xff == unix.NFT_MSG_NEWSETELEM:
			o.closed = append(o.closed, firewall.Families()[r.Seq-first])
		}
	}
	return o, nil
}

// closed returns the families that the host is to be closed for.
func (f *Firewall) closed() []firewall.Family {
	if f.Closed == nil {
		return nil
	}
	return f.Closed()
}

// closeRouter closes the host as a router of these families, and of no other. Without
// rules there is nothing to close.
func (f *Firewall) closeRouter(o *firewall.Router) error {
	err := f.commit(func(b *Batch) error {
		b.closeFamilies(o.Closed)
		return nil
	})
	if errors.Is(err, unix.ENOENT) || len(o.Closed) == 0 && lacksNFTables(err) {
		return nil
	}
	return wrap("close families", err)
}

// closeFamilies appends that the set of closed families has these, and no other.
func (b *Batch) closeFamilies(closed []firewall.Family) {
	b.Change(unix.NFT_MSG_DELSETELEM, 0, func(m *nlsock.Message) {
		m.Str(unix.NFTA_SET_ELEM_LIST_TABLE, firewall.TableName)
		m.Str(unix.NFTA_SET_ELEM_LIST_SET, firewall.SetClosed)
	})
	var elements []element
	for _, family := range closed {
		elements = append(elements, encode(firewall.Closed(family))...)
	}
	b.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, elements)
}

func (o *tableState) readTable(attrs []byte) {
	nlsock.Attributes(attrs, func(typ uint16, data []byte) {
		if typ == unix.NFTA_TABLE_FLAGS && len(data) >= 4 {
			o.dormant = binary.BigEndian.Uint32(data)&unix.NFT_TABLE_F_DORMANT != 0
		}
	})
}

func (o *tableState) readChain(attrs []byte) {
	var name string
	var use uint32
	var hook []byte
	policy := uint32(policyAccept) // which only base chains have
	nlsock.Attributes(attrs, func(typ uint16, data []byte) {
		switch {
		case typ == unix.NFTA_CHAIN_NAME:
			name = nlsock.CString(data)
		case typ == unix.NFTA_CHAIN_USE && len(data) >= 4:
			use = binary.BigEndian.Uint32(data)
		case typ == unix.NFTA_CHAIN_POLICY && len(data) >= 4:
			policy = binary.BigEndian.Uint32(data)
		case typ == unix.NFTA_CHAIN_HOOK:
			hook = data
		}
	})
	nlsock.Attributes(hook, func(typ uint16, data []byte) {
		if typ == unix.NFTA_HOOK_PRIORITY && len(data) >= 4 {
			o.priorities[name] = int32(binary.BigEndian.Uint32(data))
		}
	})
	o.uses[name], o.drops[name] = use, policy != policyAccept
}

// countRules returns the number of rules of each chain, and the comment in the
// version chain.
func countRules(payloads [][]byte) (count map[string]int, version string) {
	count = make(map[string]int)
	for _, p := range payloads {
		var chain, note string
		if len(p) < 4 {
			continue
		}
		nlsock.Attributes(p[4:], func(typ uint16, data []byte) {
			switch typ {
			case unix.NFTA_RULE_CHAIN:
				chain = nlsock.CString(data)
			case unix.NFTA_RULE_USERDATA:
				note = Comment(data, userdata.TypeComment)
			}
		})
		count[chain]++
		if chain == firewall.VersionChain {
			version = note
		}
	}
	return count, version
}

// install installs the rules and puts the elements in. Elements that are there already
// stay. If elements clash (a record from before a change by hand, say), the
// rules are installed without: a firewall without holes matters more than one port,
// and the elements' own ensure will tell.
func (f *Firewall) install(up *firewall.Desired) error {
	var elements []element
	for _, n := range up.Networks {
		elements = append(elements, encodeAll(n.Elements())...)
	}
	for _, m := range up.Members {
		elements = append(elements, encodeAll(m.Elements())...)
	}
	elements = append(elements, slices.Concat(elementsOf(up.Endpoints)...)...)
	older, err := f.olderChains()
	if err != nil {
		return wrap("look at chains", err)
	}
	with := func(elements []element) func(*Batch) error {
		return func(b *Batch) error {
			b.replaceable(firewall.TableName, older)
			if err := b.table(ruleset()); err != nil {
				return err
			}
			b.closeFamilies(f.closed())
			b.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, grouped(elements))
			return nil
		}
	}
	err = f.commit(with(elements))
	if err == nil || len(elements) == 0 || !errors.Is(err, unix.EEXIST) {
		return wrap("install rules", f.taken(packetTable.family, ruleset(), err))
	}
	if err := f.commit(with(nil)); err != nil {
		return wrap("install rules", f.taken(packetTable.family, ruleset(), err))
	}
	return f.Restore(up)
}

// olderChains lists the base chains that have another priority than ours, as an older
// version gave them.
func (f *Firewall) olderChains() (list []string, err error) {
	unlock, err := f.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	have, err := f.state()
	for _, c := range ruleset().Chains {
		if priority, ok := have.priorities[c.Name]; ok && c.Hook != nil && priority != c.Hook.Priority {
			list = append(list, c.Name)
		}
	}
	return list, err
}

// Restore puts back one owner after the other, past those that clash.
func (f *Firewall) Restore(up *firewall.Desired) error {
	var errs []error
	put := func(o fmt.Stringer, elements []element) {
		err := f.commit(func(b *Batch) error {
			b.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, elements)
			return nil
		})
		errs = append(errs, wrap("put back "+o.String(), err))
	}
	for _, n := range up.Networks {
		put(n, encodeAll(n.Elements()))
	}
	for _, m := range up.Members {
		put(m, encodeAll(m.Elements()))
	}
	for i, elements := range elementsOf(up.Endpoints) {
		put(up.Endpoints[i], elements)
	}
	return errors.Join(errs...)
}

// commit makes a transaction of what fill appends.
func (f *Firewall) commit(fill func(b *Batch) error) error {
	return f.commitIn(unix.NFPROTO_INET, fill)
}

// commitIn is commit for a family of tables.
func (f *Firewall) commitIn(family uint8, fill func(b *Batch) error) error {
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	b := NewBatch(f.conn)
	b.Family = family
	if err := fill(b); err != nil {
		return err
	}
	return full(tableID{family, firewall.TableName}, Unsupported(b.Commit()))
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// elementsOf returns the elements of each endpoint, but for those that an
// earlier one of the same container has.
func elementsOf(endpoints []*firewall.Endpoint) [][]element {
	type key struct{ container, set, key string }
	seen := make(map[key]bool)
	var lists [][]element
	for _, e := range endpoints {
		var list []element
		for _, el := range encodeAll(slices.Concat(e.Elements(), e.Guards(), e.Opened())) {
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

// RuleChain returns the chain of a rule as it is dumped.
func RuleChain(payload []byte) (chain string) {
	if len(payload) < 4 {
		return ""
	}
	nlsock.Attributes(payload[4:], func(typ uint16, data []byte) {
		if typ == unix.NFTA_RULE_CHAIN {
			chain = nlsock.CString(data)
		}
	})
	return chain
}

// RuleComment returns the comment of a rule as it is dumped.
func RuleComment(payload []byte) (note string) {
	if len(payload) < 4 {
		return ""
	}
	nlsock.Attributes(payload[4:], func(typ uint16, data []byte) {
		if typ == unix.NFTA_RULE_USERDATA {
			note = Comment(data, userdata.TypeComment)
		}
	})
	return note
}
