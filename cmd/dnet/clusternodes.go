package main

import (
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"dcni/pkg/cluster"
)

func newNodeListCommand(a *app) *cobra.Command {
	var format string
	var quiet bool
	cmd := &cobra.Command{
		Use: "ls [OPTIONS]", Aliases: []string{"list"}, Short: "List the cluster's nodes", Args: exactly(0), DisableFlagsInUseLine: true,
		RunE: func(*cobra.Command, []string) error { return a.nodeList(format, quiet) },
	}
	cmd.Flags().StringVar(&format, "format", "", "table, table TEMPLATE, json, or a Go template")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Only display names")
	return cmd
}

// A nodeRow is a node as the templates of `node ls` have it.
type nodeRow struct {
	Name, ID, Address, Status, Role, Version string
	MTU, Endpoints                           int
	Self                                     bool
	Addresses                                string `json:",omitempty"` // its own on networks with node addresses
	KeptUntil                                string `json:",omitempty"` // RFC 3339: a dead node's addresses are kept for it
	VXLAN, ESP                               string // ok, lost, "lost at BYTES", -
	VXLANSince, ESPSince                     string `json:",omitempty"` // RFC 3339
}

func (a *app) nodeList(format string, quiet bool) error {
	var nodes []cluster.NodeInfo
	if err := a.askCluster(false, cluster.Nodes, cluster.NodesArgs{Quick: quiet && format == ""}, &nodes); err != nil {
		return err
	}
	l := listing{
		table: "{{.Name}}{{if .Self}} *{{end}}\t{{.Address}}\t{{.Status}}\t{{.Role}}\t{{.MTU}}\t{{.VXLAN}}\t{{.ESP}}\t{{.Endpoints}}\t{{.Version}}",
		heads: headers{
			"Name": "NODE", "ID": "ID", "Address": "ADDRESS", "Status": "STATUS", "Role": "STORE", "MTU": "MTU",
			"VXLAN": "VXLAN", "ESP": "ESP", "KeptUntil": "ADDRESSES KEPT UNTIL", "VXLANSince": "VXLAN SINCE", "ESPSince": "ESP SINCE",
			"Endpoints": "ENDPOINTS", "Version": "VERSION", "Self": "", "Addresses": "ON NETWORKS",
		},
	}
	own := false // a column that few clusters need
	for _, n := range nodes {
		if n.Unread != "" {
			a.warn("%s", n.Unread)
			continue
		}
		r := nodeRow{
			Name: n.Name, ID: n.ID, Address: n.Address.String(), Status: "Down", Role: "client", Version: n.Version,
			MTU: n.MTU, Endpoints: n.Endpoints, Self: n.Self,
		}
		if r.Addresses = showAddresses(n.Addresses); r.Addresses != "" && !own {
			own = true
			l.table += "\t{{.Addresses}}"
		}
		if !n.KeptUntil.IsZero() {
			r.KeptUntil = n.KeptUntil.UTC().Format(time.RFC3339)
		}
		if n.Alive {
			r.Status = "Ready" // Docker's words
		}
		if n.Member {
			r.Role = "member"
		}
		r.VXLAN, r.VXLANSince = showPath(n, n.VXLAN)
		r.ESP, r.ESPSince = showPath(n, n.ESP)
		l.rows = append(l.rows, r)
	}
	if quiet && format == "" {
		format = "{{.Name}}"
	}
	return l.print(a.out(false), format)
}

// showAddresses lists a node's own addresses: "web 10.9.0.7 fd00:9::7, db 10.8.0.3".
func showAddresses(of map[string][]netip.Addr) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		words := []string{name}
		for _, a := range of[name] {
			words = append(words, a.String())
		}
		list = append(list, strings.Join(words, " "))
	}
	return strings.Join(list, ", ")
}

// showPath tells of a path to a node. Of one that is down, a path that is lost says nothing:
// the node may just not answer.
func showPath(n cluster.NodeInfo, p cluster.Path) (state, since string) {
	if p.State == "" || p.State == cluster.Lost && !n.Alive {
		return cluster.Path{}.String(), ""
	}
	return p.String(), p.Since.UTC().Format(time.RFC3339)
}

func newNodeRemoveCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "rm NODE [NODE...]", Aliases: []string{"remove"}, Short: "Remove nodes that are gone, with what they had",
		Args: atLeast(1), DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error {
			status := 0
			for _, name := range args {
				if err := a.askCluster(false, cluster.RemoveNode, cluster.NodeArgs{Name: name}, nil); err != nil {
					a.printError(err)
					status = statusError
					continue
				}
				fmt.Fprintln(a.out(true), name)
			}
			if status != 0 {
				return &statusErr{status: status}
			}
			return nil
		},
	}
}

func newStatusCommand(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "status [OPTIONS]", Short: "Show this node, its cluster, and the store's members", Args: exactly(0), DisableFlagsInUseLine: true,
		RunE: func(*cobra.Command, []string) error { return a.clusterStatus(format) },
	}
	cmd.Flags().StringVar(&format, "format", "", "json, or a Go template")
	return cmd
}

// clusterStatus prints the status; where the store is away, it fails as well.
func (a *app) clusterStatus(format string) error {
	var s cluster.StatusReply
	if err := a.askCluster(false, cluster.Status, nil, &s); err != nil {
		return err
	}
	var err error
	if format == "" {
		err = printStatus(a.out(false), s)
	} else {
		err = listing{rows: []any{s}}.print(a.out(false), format)
	}
	for _, w := range s.Warnings {
		a.warn("%s", w)
	}
	if err == nil && s.Error != "" {
		a.printError(fmt.Errorf("%s", s.Error))
		err = &statusErr{status: statusError}
	}
	return err
}

// printStatus prints a status for people.
func printStatus(w io.Writer, s cluster.StatusReply) error {
	const width, tab, padding = 10, 1, 3
	t := tabwriter.NewWriter(w, width, tab, padding, ' ', 0)
	if s.Node != "" {
		fmt.Fprintf(t, "Cluster:\t%s\nNode:\t%s (%s)\nAddress:\t%s, MTU %d\n", s.Cluster, s.Node, s.Role, s.Address, s.MTU)
	}
	if !s.Cert.IsZero() {
		fmt.Fprintf(t, "Certificate:\tuntil %s\n", s.Cert.UTC().Format("2006-01-02"))
	}
	if s.Error == "" {
		fmt.Fprintf(t, "Nodes:\t%d, %d alive\nNetworks:\t%d\nEndpoints:\t%d\nRevision:\t%d\n", s.Nodes, s.Alive, s.Networks, s.Endpoints, s.Revision)
	}
	if l := s.Snapshot; l != nil {
		fmt.Fprintf(t, "Snapshot:\t%s, on %s: %s, %.1f MB\n", l.Time.UTC().Format("2006-01-02 15:04 UTC"), l.Node, l.Path, float64(l.Bytes)/1e6)
	}
	if s.Queued > 0 {
		fmt.Fprintf(t, "Queued:\t%d releases wait for the store\n", s.Queued)
	}
	if err := t.Flush(); err != nil || len(s.Members) == 0 {
		return err
	}
	fmt.Fprintf(t, "\nMEMBER\tURL\tSTATUS\tVERSION\tSIZE\n")
	for _, m := range s.Members {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%.1f MB\n", m.Name, m.URL, memberStatus(m), m.Version, float64(m.Bytes)/1e6)
	}
	return t.Flush()
}

func memberStatus(m cluster.StoreMember) string {
	switch {
	case m.Error != "":
		return "away: " + strings.Join(strings.Fields(m.Error), " ")
	case m.Learner:
		return "learner"
	case m.Leader:
		return "leader"
	}
	return "healthy"
}
