package iptables

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dcni/pkg/firewall"
	policy "dcni/pkg/firewall/iptables"
	"dcni/pkg/host/proc"
	"dcni/pkg/wire"
)

// Firewall carries the firewall policy out with the host's iptables, of either kind. What it
// finds is read by iptables-save, and each change is made by one iptables-restore a family, all
// or nothing in each table: one reads as many rules as a network has, the other says which kind
// of tables the host has.
//
// A rule is told by its comment: what belongs to another owner, or is not in dcni's chains, is
// never changed.
type Firewall struct {
	// Families returns those that are, or are to be, in use.
	Families func() []firewall.Family
	// Closed returns those that the host is to be closed for as a router.
	Closed func() []firewall.Family
	// Passing lists what another backend's networks are.
	Passing func() ([]firewall.Passing, error)
	// Others returns the ports that another backend publishes.
	Others func() ([]firewall.Claim, error)
	// Siblings returns the other attachments of a container.
	Siblings func(wire.Attachment) []wire.Attachment
	// EndpointOf returns what the owner with a comment publishes, by its record; nil where there
	// is none.
	EndpointOf func(comment string) *firewall.Endpoint
	// IsGatewayEndpoint reports whether an attachment has its sandbox's default route for IPv4, or IPv6.
	IsGatewayEndpoint func(a wire.Attachment, v6 bool) bool

	looked atomic.Bool // at an endpoint: its ports may be not new, but are to be put back
	kept   [2]kept     // by family
}

var _ firewall.Backend = (*Firewall)(nil)

// kept is what was read last of a family.
type kept struct {
	sync.Mutex
	rules      *policy.Ruleset
	generation uint32 // of nf_tables' rules
	at         time.Time
}

// fresh is how long the rules of the older iptables are taken for what they were, where they are
// only looked at: healing looks at each container's.
const fresh = time.Second

func index(six bool) int {
	if six {
		return 1
	}
	return 0
}

// load returns the rules of a family. They are not read again while nf_tables' rules are the
// same; the older iptables does not tell. The caller has the family's lock.
func (f *Firewall) load(six, only bool) (*policy.Ruleset, error) {
	k := &f.kept[index(six)]
	now := uint32(0)
	if OnNFTables(six) {
		now = generation()
	}
	same := now != 0 && now == k.generation || now == 0 && only && time.Since(k.at) < fresh
	if k.rules != nil && same {
		return k.rules, nil
	}
	rules, err := save(six)
	if err != nil {
		return nil, err
	}
	k.rules, k.generation, k.at = rules, now, time.Now()
	return rules, nil
}

// What rules are read for.
const (
	toLook  = true
	toClaim = false // they must be those of now
)

// read returns the rules of a family.
func (f *Firewall) read(six, only bool) (*policy.Ruleset, error) {
	k := &f.kept[index(six)]
	k.Lock()
	defer k.Unlock()
	return f.load(six, only)
}

// changeTries bounds how often a change is tried again because another program changed what it
// is about.
const changeTries = 3

// change makes a change of a family. fill says what it is, from what is there.
func (f *Firewall) change(six bool, fill func(*policy.Change) error) (changed bool, err error) {
	k := &f.kept[index(six)]
	k.Lock()
	defer k.Unlock()
	for try := 1; ; try++ {
		have, err := f.load(six, toClaim)
		if err != nil {
			return false, err
		}
		c := policy.NewChange(have)
		if err := fill(c); err != nil {
			return false, err
		}
		text := c.Text()
		if text == "" {
			return false, nil
		}
		k.rules = nil
		err = restore(six, text)
		if err == nil || try == changeTries || isCode(err, wire.CodeTryAgain) {
			return err == nil, err
		}
	}
}

// each does something for families, for all at the same time.
func each(families []firewall.Family, do func(six bool) (bool, error)) (changed bool, err error) {
	did, errs := make([]bool, len(families)), make([]error, len(families))
	var wg sync.WaitGroup
	for i, family := range families {
		wg.Go(func() { did[i], errs[i] = do(family == 6) })
	}
	wg.Wait()
	return slices.Contains(did, true), errors.Join(errs...)
}

// base returns the host's rules of a family.
func (f *Firewall) base(six bool) ([]policy.Rule, error) {
	family := firewall.Family(4)
	if six {
		family = 6
	}
	r := policy.Router{Closed: slices.Contains(f.Closed(), family), Filtered: proc.FiltersBridges()}
	var err error
	if r.Closed {
		r.Passing, err = f.Passing()
	}
	return policy.Base(six, r), err
}

// Install makes sure that the host's rules are there, in all families in use. Where they are not,
// all that desired returns is put back with them.
func (f *Firewall) Install(desired func() (*firewall.Desired, error)) (installed bool, err error) {
	return each(f.Families(), func(six bool) (bool, error) {
		base, err := f.base(six)
		if err != nil {
			return false, err
		}
		return f.change(six, func(c *policy.Change) error {
			if !c.Base(base) {
				return nil
			}
			up, err := desired()
			if err != nil {
				return fmt.Errorf("what is up: %w", err)
			}
			f.putBack(c, up, six)
			return nil
		})
	})
}

// putBack has all that is up be there.
func (f *Firewall) putBack(c *policy.Change, up *firewall.Desired, six bool) {
	for _, n := range up.Networks {
		c.Network(n.Name, policy.Network(n, six))
	}
	for _, m := range up.Members {
		c.Member(firewall.Comment(m.Owner), policy.Member(m, six))
	}
	for _, e := range slices.Backward(up.Endpoints) { // the first is to come before its siblings
		c.Endpoint(firewall.Comment(e.Owner), policy.Endpoint(e, six), f.isGateway(e, six))
	}
}

// isGateway reports whether an endpoint's ports are to come before those of its siblings.
func (f *Firewall) isGateway(e *firewall.Endpoint, six bool) bool {
	return len(f.Siblings(e.Owner)) > 0 && f.IsGatewayEndpoint(e.Owner, six)
}

// Ensure makes a network, an endpoint, a member, links or the router so. The caller holds the
// lock of the firewall.
func (f *Firewall) Ensure(o wire.Object) (changed bool, err error) {
	switch o := o.(type) {
	case *firewall.Takeover:
		return f.set(o.Endpoint)
	case *firewall.Endpoint:
		if err := f.claim(o); err != nil {
			return false, err
		}
	case *firewall.Router: // the host's rules have it
		return each(f.Families(), func(six bool) (bool, error) {
			base, err := f.base(six)
			if err != nil {
				return false, err
			}
			return f.change(six, func(c *policy.Change) error {
				c.Base(base)
				return nil
			})
		})
	}
	return f.set(o)
}

// set has what an object says be there.
func (f *Firewall) set(o wire.Object) (changed bool, err error) {
	return each(f.Families(), func(six bool) (bool, error) {
		return f.change(six, func(c *policy.Change) error {
			_, err := f.compare(c, o, six)
			return err
		})
	})
}

// compare adds to a change what an object lacks, and reports whether that is anything.
func (f *Firewall) compare(c *policy.Change, o wire.Object, six bool) (differs bool, err error) {
	switch o := o.(type) {
	case *firewall.Network:
		comment := firewall.NetworkComment(o.Name)
		if other := c.Have().Bridge(o.Bridge, comment); other != "" {
			return true, wire.Invalid("bridge", o.Bridge, fmt.Sprintf("must not be the bridge of another network: %s has it", other))
		}
		return c.Network(o.Name, policy.Network(o, six)), nil
	case *firewall.Endpoint:
		return c.Endpoint(firewall.Comment(o.Owner), policy.Endpoint(o, six), f.isGateway(o, six)), nil
	case *firewall.Member:
		return c.Member(firewall.Comment(o.Owner), policy.Member(o, six)), nil
	case *firewall.Linked:
		return c.Linked(firewall.Comment(o.Owner), policy.Linked(o, six)), nil
	}
	return false, unsupported(o)
}

// unsupported tells of what only nftables does: what overlay networks need.
func unsupported(o wire.Object) error {
	return wire.Errorf(wire.CodeConfig, "firewall %q: must be nftables for %s", firewall.IPTables, o.Key())
}

// Check tells how the rules differ from an object.
func (f *Firewall) Check(o wire.Object) error {
	if o, is := o.(*firewall.InternalBridge); is {
		return f.checkInternal(o)
	}
	if o, is := o.(*firewall.Router); is {
		return f.checkRouter(o)
	}
	if _, is := o.(*firewall.Endpoint); is {
		f.looked.Store(true)
	}
	_, err := each(f.Families(), func(six bool) (bool, error) {
		have, err := f.read(six, toLook)
		if err != nil {
			return false, err
		}
		c := policy.NewChange(have)
		var errs []error
		if _, is := o.(*firewall.Network); is {
			base, err := f.base(six)
			if errs = append(errs, err); err == nil && c.Base(base) {
				errs = append(errs, fmt.Errorf("the rules of %s that all networks share are not as they should be", family(six)))
			}
		}
		differs, err := f.compare(c, o, six)
		if errs = append(errs, err); differs && err == nil {
			errs = append(errs, fmt.Errorf("its rules of %s are not as they should be", family(six)))
		}
		return false, errors.Join(errs...)
	})
	return err
}

// checkRouter tells the families that the rules should close the host for and do not.
func (f *Firewall) checkRouter(o *firewall.Router) error {
	var errs []error
	for _, family := range o.Closed {
		have, err := f.read(family == 6, toLook)
		if err == nil && !have.Closed() {
			err = fmt.Errorf("the host is open as a router of %s", family)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (f *Firewall) checkInternal(o *firewall.InternalBridge) error {
	for _, family := range f.Families() {
		have, err := f.read(family == 6, toLook)
		if err != nil {
			return err
		}
		if have.Internal(o.Bridge) {
			return nil
		}
	}
	return firewall.ErrNotInternal
}

// Remove takes a network, an endpoint, a member, or all of an owner away. The caller holds the
// lock of the firewall.
func (f *Firewall) Remove(o wire.Object) error {
	_, err := each(f.Families(), func(six bool) (bool, error) {
		return f.change(six, func(c *policy.Change) error {
			switch o := o.(type) {
			case *firewall.Network:
				c.Network(o.Name, nil)
			case *firewall.Endpoint:
				c.Endpoint(firewall.Comment(o.Owner), nil, false)
			case *firewall.Member:
				c.Member(firewall.Comment(o.Owner), nil)
			case *firewall.Owned:
				c.Owned(o.Comment)
			case firewall.Installation:
				c.All()
			default:
				return unsupported(o)
			}
			return nil
		})
	})
	return err
}

// Sweep removes all of dcni's rules of families.
func (f *Firewall) Sweep(families []firewall.Family) (swept bool, err error) {
	return each(families, func(six bool) (bool, error) {
		return f.change(six, func(c *policy.Change) error {
			c.All()
			return nil
		})
	})
}

// Probe tells whether rules could be changed: the programs are there, and the kernel has what
// they need. That is asked for by a change that changes nothing.
func (f *Firewall) Probe() error { return probe(f.Families()) }

// Probe is [Firewall.Probe] for a network, in the families that it has addresses of.
func Probe(n *firewall.Network) error {
	return probe(slices.DeleteFunc(firewall.Families(), func(f firewall.Family) bool { return !policy.Has(n, f == 6) }))
}

func probe(families []firewall.Family) error {
	_, err := each(families, func(six bool) (bool, error) {
		_, err := run(six, "-restore", "*raw\nCOMMIT\n*filter\nCOMMIT\n*nat\nCOMMIT\n", "--noflush", "-w", fmt.Sprint(patience))
		return false, err
	})
	return err
}

// Owners lists the comments of all attachments that have rules.
func (f *Firewall) Owners() (list []string, err error) {
	for _, family := range f.Families() {
		have, err := f.read(family == 6, toClaim)
		if err != nil {
			return nil, err
		}
		list = append(list, have.Owners()...)
	}
	slices.SortFunc(list, strings.Compare)
	return slices.Compact(list), nil
}

// Claims lists the ports that the rules publish.
func (f *Firewall) Claims() (list []firewall.Claim, err error) {
	for _, family := range f.Families() {
		have, err := f.read(family == 6, toClaim)
		if err != nil {
			return nil, err
		}
		list = append(list, have.Claims(family == 6)...)
	}
	return list, nil
}

// Close does nothing: nothing is open.
func (f *Firewall) Close() {}

// Lacks reports whether the host's rules, or something that is up, are not as they should be.
func (f *Firewall) Lacks(up *firewall.Desired) (bool, error) {
	return each(f.Families(), func(six bool) (bool, error) {
		base, err := f.base(six)
		if err != nil {
			return false, err
		}
		have, err := f.read(six, toLook)
		if err != nil {
			return false, err
		}
		c := policy.NewChange(have)
		c.Base(base)
		f.putBack(c, up, six)
		return c.Text() != "", nil
	})
}

// Restore puts in what is up.
func (f *Firewall) Restore(up *firewall.Desired) error {
	_, err := each(f.Families(), func(six bool) (bool, error) {
		return f.change(six, func(c *policy.Change) error {
			f.putBack(c, up, six)
			return nil
		})
	})
	return err
}
