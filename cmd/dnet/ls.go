package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
	"dcni/pkg/records/registry"
)

// listFlags are the flags of ls.
type listFlags struct {
	quiet, noTrunc bool
	format         string
	filters        []string
}

func newListCommand(a *app) *cobra.Command {
	var f listFlags
	cmd := &cobra.Command{
		Use:                   "ls [OPTIONS]",
		Aliases:               []string{"list"},
		Short:                 "List networks",
		Args:                  exactly(0),
		RunE:                  func(*cobra.Command, []string) error { return a.list(f) },
		DisableFlagsInUseLine: true,
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "Only display network IDs")
	flags.BoolVar(&f.noTrunc, "no-trunc", false, "Do not truncate the output")
	flags.StringVar(&f.format, "format", "", "table, table TEMPLATE, raw, json, or a Go template")
	flags.StringArrayVarP(&f.filters, "filter", "f", nil,
		`Filter by driver, id, label, name, scope, type or dangling (e.g. "driver=bridge")`)
	return cmd
}

// list prints the networks that pass the filters, by name.
func (a *app) list(f listFlags) error {
	filters := catalog.Filters{}
	for _, word := range f.filters {
		if err := filters.Add(word); err != nil {
			return &statusErr{statusUsage, fmt.Errorf("invalid argument %q for \"-f, --filter\" flag: %w", word, err)}
		}
	}
	if err := filters.Validate(); err != nil {
		return err
	}
	all, err := a.allNetworks()
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(x, y Network) int { return catalog.Natural(x.Name, y.Name) })
	l := networkListing(f)
	for _, n := range all {
		inUse := func() bool {
			attached, err := a.store.Attached(n.Name)
			return err != nil || attached
		}
		if filters.Match(n.Conflist, inUse) {
			l.rows = append(l.rows, &row{app: a, n: n, trunc: !f.noTrunc})
		}
	}
	if f.quiet && (f.format == "" || f.format == "table") {
		f.format = "{{.ID}}"
	}
	return l.print(a.out(false), f.format)
}

// networkListing is Docker's list of networks.
func networkListing(f listFlags) listing {
	l := listing{
		table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
		raw:   "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
		heads: headers{
			"ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "IPv4": "IPV4", "IPv6": "IPV6",
			"Internal": "INTERNAL", "Labels": "LABELS", "CreatedAt": "CREATED AT",
		},
	}
	if f.quiet {
		l.raw = "network_id: {{.ID}}"
	}
	return l
}

// A row is a network as the templates of ls have it. The network's facts are read
// if a template asks for one of them.
type row struct {
	app   *app
	n     Network
	trunc bool
	known *catalog.Facts // nil: not read yet
}

// ID is the network's, the first 12 digits unless --no-trunc was given.
func (r *row) ID() string {
	if r.trunc {
		return r.n.ID()[:network.ShortID]
	}
	return r.n.ID()
}

// Name is the network's.
func (r *row) Name() string { return r.n.Name }

// Driver is Docker's word, or another suite's plugin type.
func (r *row) Driver() string { return r.n.Driver }

// Scope says whether other hosts have the network too.
func (r *row) Scope() string { return catalog.ScopeOf(r.n.Driver) }

// IPv4 tells whether containers get an IPv4 address.
func (r *row) IPv4() string { return strconv.FormatBool(r.facts().IPv4) }

// IPv6 tells whether containers get an IPv6 address.
func (r *row) IPv6() string { return strconv.FormatBool(r.facts().IPv6) }

// Internal tells whether the network has no route out of the host.
func (r *row) Internal() string { return strconv.FormatBool(r.facts().Internal) }

// Labels are KEY=VALUE words with commas between.
func (r *row) Labels() string { return labelWords(r.n.Labels) }

// Label is the value of one label.
func (r *row) Label(key string) string { return r.n.Labels[key] }

// CreatedAt is when the network's file was written.
func (r *row) CreatedAt() string { return r.n.Created.String() }

// facts reads the network's facts once.
func (r *row) facts() *catalog.Facts {
	if r.known == nil {
		f, _ := r.n.Facts(r.app.registered(r.n)) // inspect and ADD report the error
		r.known = &f
	}
	return r.known
}

// MarshalJSON writes the fields that have no parameter, as Docker's `{{json .}}`
// does.
func (r *row) MarshalJSON() ([]byte, error) {
	out, err := toJSON(map[string]string{
		"CreatedAt": r.CreatedAt(), "Driver": r.Driver(), "ID": r.ID(), "IPv4": r.IPv4(), "IPv6": r.IPv6(),
		"Internal": r.Internal(), "Labels": r.Labels(), "Name": r.Name(), "Scope": r.Scope(),
	})
	return []byte(out), err
}

// registered returns the subnets that a network's registration gives it.
func (a *app) registered(n Network) []netip.Prefix {
	f, _ := n.Facts(nil) // for its dataDir; the usual one if the configuration can't be read
	known, err := registry.Of(a.store, f.DataDir).Get(n.Name)
	if err != nil {
		return nil // the network was never used
	}
	return known.Subnets
}
