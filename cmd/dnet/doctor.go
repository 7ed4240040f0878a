package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"dcni/pkg/cluster"
	"dcni/pkg/doctor"
	"dcni/pkg/firewall"
	"dcni/pkg/host/agent"
	"dcni/pkg/host/condition"
	"dcni/pkg/host/proc"
	"dcni/pkg/netns"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/records/disk"
	"dcni/pkg/records/leases"
	"dcni/pkg/wire"
)

func newDoctorCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor [OPTIONS]",
		Short: "Tell what on this host breaks networks, and the command that mends it",
		Long: "Tell what on this host breaks networks: what is wrong, what it breaks, and the command that mends it. " +
			"Nothing is changed.\n\nThe exit status is 0 if nothing is wrong, and 1 if something is or not all could be looked at.",
		Example: "  dnet doctor\n" +
			"  dnet doctor --json | jq -r '.[].fix'",
		Args:                  exactly(0),
		RunE:                  func(*cobra.Command, []string) error { return a.doctor(asJSON) },
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print a list of id, subject, problem, breaks and fix")
	return cmd
}

// doctor prints what is wrong with the host. What could not be read is a warning: what
// is wrong there is not found.
func (a *app) doctor(asJSON bool) error {
	a.waiting("looking at the host")
	facts, err := a.facts()
	a.waits.clear()
	if err != nil {
		return err
	}
	found := doctor.Findings(facts)
	if asJSON {
		if found == nil {
			found = []doctor.Finding{}
		}
		e := json.NewEncoder(a.stdout)
		e.SetEscapeHTML(false)
		e.SetIndent("", "    ")
		err = e.Encode(found)
	} else {
		_, err = fmt.Fprint(a.stdout, report(found, facts.Incomplete, a.bold()))
	}
	if err == nil && (len(found) > 0 || facts.Incomplete) {
		err = &statusErr{status: statusError}
	}
	return err
}

// report shows findings to people, with what is found in bold.
func report(found []doctor.Finding, incomplete bool, bold func(string) string) string {
	switch {
	case len(found) == 0 && incomplete:
		return "Nothing is wrong in what could be looked at: run dnet doctor as root to see the rest.\n"
	case len(found) == 0:
		return "Nothing is wrong.\n"
	}
	var text strings.Builder
	for _, f := range found {
		fmt.Fprintf(&text, "%s: %s.\n    breaks: %s.\n    mend:   %s\n\n", bold(f.ID), f.Problem, f.Breaks, f.Fix)
	}
	if len(found) == 1 {
		text.WriteString("1 thing is wrong.\n")
	} else {
		fmt.Fprintf(&text, "%d things are wrong.\n", len(found))
	}
	return text.String()
}

// facts reads what is to be known of the host.
func (a *app) facts() (doctor.Facts, error) {
	list, err := a.networks()
	if err != nil {
		return doctor.Facts{}, err
	}
	attached, err := a.store.List("")
	if err != nil { // the other records were read all the same
		a.warn("%v", err)
	}
	m, err := a.openHost(a.store)
	if err != nil {
		return doctor.Facts{}, err
	}
	defer m.Close()
	facts, err := a.condition()
	if err != nil {
		a.warn("not all could be looked at: %v", err)
		facts.Incomplete = true
	}
	facts.Closed = map[int]bool{4: a.store.Closed(4), 6: a.store.Closed(6)}
	facts.Attachments = attachmentFacts(attached)
	for _, n := range list {
		if f, used := a.networkFacts(n, attached); used {
			facts.Networks = append(facts.Networks, f)
			facts.Stale = append(facts.Stale, a.staleLeases(n)...)
		}
	}
	facts.Missing, facts.Taken = a.missing(m, list, facts.Networks)
	facts.Rules = rulesDiffer(m, attached)
	if facts.Rules != "" && facts.Taken == "" {
		facts.Taken = taken(m, attached)
	}
	facts.Servers = m.Nameservers()
	facts.Agent = a.agentSays()
	facts.Cluster = a.clusterFacts()
	facts.Unreadable = a.unreadableChanges()
	if facts.Listeners, err = condition.Listeners(facts.Attachments); err != nil {
		a.warn("listeners are not known: %v", err)
	}
	facts.Held = condition.HeldGateways(facts.Attachments)
	return facts, nil
}

// unreadableChanges are the records of what dcni changed of the host that can't be read.
func (a *app) unreadableChanges() (list []doctor.Unreadable) {
	changes, err := a.store.Changes()
	if err != nil {
		a.warn("what dcni changed of the host is not known: %v", err)
	}
	for _, c := range changes {
		if unread, is := errors.AsType[*disk.UnreadableError](a.store.CheckChange(c.Key)); is {
			list = append(list, doctor.Unreadable{Key: c.Key, File: unread.Path, Why: unread.Err.Error()})
		}
	}
	return list
}

// clusterFacts are those of the cluster that the host is a node of, if it is one.
func (a *app) clusterFacts() (f doctor.Cluster) {
	if !a.store.Cluster().Joined() {
		return f
	}
	var s cluster.StatusReply
	err := a.askCluster(false, cluster.Status, nil, &s)
	if err != nil {
		s.Error = err.Error()
	}
	if f.Away, f.WrongSums = s.Error, s.ComputeSums; f.Away != "" {
		return f
	}
	var nodes []cluster.NodeInfo
	if err := a.askCluster(false, cluster.Nodes, cluster.NodesArgs{}, &nodes); err != nil {
		a.warn("what passes to other nodes is not known: %v", err)
	}
	for _, n := range nodes {
		if n.Alive && !n.Self {
			f.Peers = append(f.Peers, doctor.Peer{Name: n.Name, Address: n.Address, VXLAN: n.VXLAN.String(), ESP: n.ESP.String()})
		}
	}
	return f
}

// attachmentFacts are the attachments that are up.
func attachmentFacts(attached []*records.Record) (list []doctor.Attachment) {
	gone := goneNetNS(attached)
	for _, r := range records.Interfaces(attached) {
		if r.State != records.Up {
			continue
		}
		f := doctor.Attachment{
			Attachment: r.Attachment, Name: containerName(r), MTU: r.MTU,
			Names: r.Resolver != nil, Listen: listenOf(r), Peers: r.Overlay != nil,
			Gone: gone[r.Cookie], ByDnet: r.Creator == records.ByDnet,
		}
		for _, assigned := range r.AddressesThere() {
			f.Addresses = append(f.Addresses, assigned.Address.Addr())
		}
		if r.Endpoint != nil {
			f.Ports = r.Endpoint.Bound()
		}
		if r.Firewall != nil {
			f.Link, f.Internal = r.Firewall.Bridge, r.Firewall.Internal
		}
		f.Internal = f.Internal || r.Firewall == nil && r.Parent == nil
		list = append(list, f)
	}
	return list
}

func listenOf(r *records.Record) []netip.Addr {
	if r.Resolver == nil {
		return nil
	}
	return r.Resolver.Listen
}

// goneNetNS returns the cookies of those network namespaces of attachments that nothing
// refers to any more. One that is not at its path may be hidden there by its runtime.
func goneNetNS(attached []*records.Record) map[uint64]bool {
	gone := map[uint64]bool{}
	for _, r := range attached {
		if r.Cookie != 0 && !netns.Alive(r.NetNS, r.Cookie) {
			gone[r.Cookie] = true
		}
	}
	if len(gone) == 0 {
		return nil
	}
	referenced, err := proc.ReferencedNetNS()
	if err != nil {
		return nil
	}
	for cookie := range referenced {
		delete(gone, cookie)
	}
	return gone
}

// networkFacts are those of a network that is in use: one of a file, or that has
// attachments.
func (a *app) networkFacts(n Network, attached []*records.Record) (doctor.Network, bool) {
	f, err := n.Facts(a.registered(n))
	if err != nil { // its ADD says so
		return doctor.Network{}, false
	}
	out := doctor.Network{
		Name: n.Name, Driver: n.Driver, File: n.Path, Link: f.Link, Internal: f.Internal, Options: f.Options, Labels: n.Labels, Foreign: n.Main == nil,
	}
	for _, s := range f.Subnets {
		out.Subnets = append(out.Subnets, s.Prefix)
	}
	var conf struct {
		IPForward *bool `json:"ipForward"`
		Encrypted bool  `json:"encrypted"`
	}
	if len(n.Plugins) > 0 && json.Unmarshal(n.Plugins[0], &conf) == nil {
		out.NoForward, out.Encrypted = conf.IPForward != nil && !*conf.IPForward, conf.Encrypted
	}
	if _, err := fmt.Sscan(f.Options["com.docker.network.driver.mtu"], &out.MTU); err != nil {
		out.MTU = 0
	}
	used := n.Path != ""
	for _, r := range attached {
		used = used || r.Network == n.Name
	}
	return out, used
}

// staleLeases are those of a network whose containers are not attached.
func (a *app) staleLeases(n Network) (list []doctor.Lease) {
	if n.Main == nil || n.Main.Kind == network.Meta {
		return nil
	}
	f, _ := n.Facts(nil)
	orphaned, err := leases.Of(a.store, f.DataDir, n.Name).Orphaned()
	if err != nil {
		a.warn("leases of network %s: %v", n.Name, err)
	}
	for _, l := range orphaned {
		list = append(list, doctor.Lease{Network: n.Name, Address: l.Address, Owner: l.Owner, File: l.Path})
	}
	return list
}

// A part is what the kernel must have for a driver's networks.
type part struct {
	what, module string
	object       wire.Object
}

// parts returns what a network needs of the kernel.
func parts(n Network) (list []part) {
	f, err := n.Facts(nil)
	if err != nil || n.Main == nil {
		return nil
	}
	if f.Link != "" {
		list = append(list,
			part{"nf_tables", "nf_tables", &firewall.Network{Name: n.Name, Bridge: f.Link}},
			part{"bridge links", "bridge", &wire.Bridge{Name: f.Link}},
			part{"veth links", "veth", &wire.Veth{}})
	}
	if isOverlay(n.Raw) {
		list = append(list, part{"vxlan links", "vxlan", &wire.Vxlan{}})
	}
	if p := f.Parent; p != nil {
		list = append(list, part{p.Kind + " links", p.Kind, &wire.Child{Kind: p.Kind}})
		if p.VLAN != 0 {
			list = append(list, part{"vlan links", "8021q", &wire.SharedLink{Kind: wire.KindVLAN, Name: p.Name, Parent: p.On, VLAN: p.VLAN}})
		}
	}
	return list
}

// missing asks the kernel for what networks in use need. taken is why dcni can't have its own
// table of nf_tables, "" if it can.
func (a *app) missing(m machine, all []Network, used []doctor.Network) (list []doctor.Missing, taken string) {
	at := map[string]int{}
	for _, n := range all {
		if !inUse(used, n.Name) {
			continue
		}
		for _, p := range parts(n) {
			if i, known := at[p.what]; known {
				list[i].Networks = append(list[i].Networks, n.Name)
				continue
			}
			switch err := m.Probe(p.object); {
			case errors.Is(err, firewall.ErrTaken):
				taken = err.Error()
			case errors.Is(err, errors.ErrUnsupported):
				at[p.what] = len(list)
				list = append(list, doctor.Missing{What: p.what, Module: p.module, Networks: []string{n.Name}, Why: err.Error()})
			}
		}
	}
	return list, taken
}

func inUse(used []doctor.Network, name string) bool {
	for _, n := range used {
		if n.Name == name {
			return true
		}
	}
	return false
}

// taken tells why the table of nf_tables that attachments need is another program's; "": it is not.
func taken(m machine, attached []*records.Record) string {
	for _, r := range attached {
		if r.Firewall == nil {
			continue
		}
		if err := m.Probe(r.Firewall); errors.Is(err, firewall.ErrTaken) {
			return err.Error()
		}
	}
	return ""
}

// rulesDiffer tells how the rules differ from what is up.
func rulesDiffer(m machine, attached []*records.Record) string {
	var errs []error
	seen := map[string]bool{}
	for _, r := range attached {
		if r.State != records.Up {
			continue
		}
		if r.Firewall != nil && !seen[r.Network] {
			seen[r.Network] = true
			errs = append(errs, m.Check(r.Firewall))
		}
		if r.Endpoint != nil {
			errs = append(errs, m.Check(r.Endpoint))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return firstLine(err.Error())
	}
	return ""
}

// agentSays tells why dnetd does not answer, "" if it does.
func (a *app) agentSays() string {
	reply, err := agent.Client{Store: a.store, NeverStart: true}.Call(agent.AnswerTimeout, agent.Request{Op: agent.Status})
	switch {
	case err != nil:
		return err.Error()
	case reply.Error != "":
		return reply.Error
	}
	return ""
}

func firstLine(text string) string {
	for i, c := range text {
		if c == '\n' {
			return text[:i]
		}
	}
	return text
}
