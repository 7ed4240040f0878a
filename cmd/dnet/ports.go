package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dcni/pkg/firewall"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
	"dcni/pkg/records"
)

func newPortsCommand(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "ports [OPTIONS] [CONTAINER...]",
		Short: "List published ports, and who reaches them",
		Long: "List the published ports of containers of whichever runtime, and of services, by address family: who has them, and who reaches them. " +
			"\"host\" are programs on this host, \"networks\" containers on networks that are not internal, \"outside\" other hosts that reach the address. A port that is reached by the container's own address has that as its host.",
		Example: "  dnet ports\n" +
			"  dnet ports shop\n" +
			"  dnet ports --format '{{.Host}} {{.Container}}'",
		RunE:                  func(_ *cobra.Command, args []string) error { return a.ports(args, format) },
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().StringVar(&format, "format", "", "table, table TEMPLATE, raw, json, or a Go template")
	return cmd
}

// A portRow is a published port as the templates of ports have it.
type portRow struct {
	Host, Protocol, Container, Network, To, By string
	From                                       people
	published                                  firewall.Published
	gateway                                    bool // the network is the container's gateway network of a family
}

// people are those who reach a port.
type people []string

// String names them, or says why there are none.
func (p people) String() string {
	if len(p) == 0 {
		return "none: the network is internal"
	}
	return strings.Join(p, ", ")
}

// MarshalJSON writes a list, also of none.
func (p people) MarshalJSON() ([]byte, error) { return json.Marshal(append([]string{}, p...)) }

var portListing = listing{
	table: "{{.Host}}\t{{.Protocol}}\t{{.Container}}\t{{.Network}}\t{{.To}}\t{{.By}}\t{{.From}}",
	raw:   "host: {{.Host}}\nprotocol: {{.Protocol}}\ncontainer: {{.Container}}\nnetwork: {{.Network}}\nto: {{.To}}\nby: {{.By}}\nfrom: {{.From}}\n",
	heads: headers{
		"Host": "HOST", "Protocol": "PROTOCOL", "Container": "CONTAINER", "Network": "NETWORK", "To": "TO", "By": "BY", "From": "REACHED FROM",
	},
}

// ports prints the published ports of the containers that words name, or of all.
func (a *app) ports(words []string, format string) error {
	attached, err := a.store.List("")
	if err != nil { // the other records were read all the same
		a.warn("%v", err)
	}
	attached, err = ofContainers(records.Interfaces(attached), words)
	if err != nil {
		return err
	}
	gateways, err := a.gateways()
	if err != nil {
		return err
	}
	l := portListing
	for _, row := range publishedRows(attached, gateways) {
		l.rows = append(l.rows, row)
	}
	if len(words) == 0 {
		for _, row := range a.serviceRows() {
			l.rows = append(l.rows, row)
		}
	}
	slices.SortStableFunc(l.rows, func(x, y any) int {
		return catalog.Natural(x.(*portRow).order(), y.(*portRow).order())
	})
	return l.print(a.out(false), format)
}

// publishedRows returns a row for each published port of attachments, in each family.
// gateways are containers' networks with their default routes.
func publishedRows(attached []*records.Record, gateways map[string][]string) []*portRow {
	type place struct{ container, host, protocol string }
	var rows []*portRow
	best := map[place]*portRow{} // of those of several networks
	for _, r := range attached {
		if r.State != records.Up || r.Endpoint == nil {
			continue
		}
		via := gateways[r.Container]
		var n firewall.Network
		if r.Firewall != nil {
			n = *r.Firewall
		}
		for _, p := range r.Endpoint.Published(n) {
			host := p.Host
			if !host.IsValid() { // it is the container's
				host = p.To
			}
			row := &portRow{host.String(), p.Protocol, containerName(r), r.Network, p.To.String(), servedBy(p), p.From, p, slices.Contains(via, r.Network)}
			at := place{r.Container, row.Host, p.Protocol}
			if other := best[at]; other == nil || row.before(other) {
				best[at] = row
				rows = append(slices.DeleteFunc(rows, func(r *portRow) bool { return r == other }), row)
			}
		}
	}
	return rows
}

// servedBy tells by what a port leads to the container.
func servedBy(p firewall.Published) string {
	if p.Relayed {
		return "dnetd"
	}
	return "rules"
}

// before reports whether a network has a port of the host rather than another one of the same
// container: one that is not internal, then one that need not relay it, then the gateway network.
func (r *portRow) before(o *portRow) bool {
	rank := func(r *portRow) (rank int) {
		for _, is := range []bool{len(r.From) > 0, r.published.Host.Addr().Is6() == r.published.To.Addr().Is6(), r.gateway} {
			if rank *= 2; is {
				rank++
			}
		}
		return rank
	}
	return rank(r) > rank(o)
}

// serviceRows returns a row for each published port of services, in each family.
func (a *app) serviceRows() (rows []*portRow) {
	list, err := a.services(false)
	if err != nil {
		a.warn("%v", err)
	}
	for _, v := range list {
		if v.ofCluster && !a.store.KnowsServices(v.Network) {
			continue // this node does not have the network
		}
		for _, claim := range v.Claims() {
			for _, p := range claim.Published(firewall.Network{}) {
				rows = append(rows, &portRow{p.Host.String(), p.Protocol, "service " + v.Name, v.Network, p.To.String(), servedBy(p), p.From, p, false})
			}
		}
	}
	return rows
}

func newPortCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "port CONTAINER [PRIVATE_PORT[/PROTO]]",
		Short: "List port mappings or a specific mapping for the container",
		Example: "  dnet port shop\n" +
			"  dnet port shop 53/udp",
		Args:                  between(1, 2),
		RunE:                  func(_ *cobra.Command, args []string) error { return a.port(args[0], args[1:]) },
		DisableFlagsInUseLine: true,
	}
}

// port prints where a container's ports are on the host, as `docker port` does; or where one is.
func (a *app) port(word string, private []string) error {
	attached, err := a.store.List("")
	if err != nil { // the other records were read all the same
		a.warn("%v", err)
	}
	attached, err = ofContainers(records.Interfaces(attached), []string{word})
	if notThere := (*network.NoContainerError)(nil); errors.As(err, &notThere) {
		if c, none := a.container(word); none == nil { // it is on no network
			attached, word, err = nil, c.Name, nil
		}
	}
	if err != nil {
		return err
	}
	gateways, err := a.gateways()
	if err != nil {
		return err
	}
	asked := ""
	if len(private) > 0 {
		if asked, err = privatePort(private[0]); err != nil {
			return err
		}
	}
	var lines []string
	for _, row := range publishedRows(attached, gateways) {
		inside := fmt.Sprintf("%d/%s", row.published.To.Port(), row.Protocol)
		switch {
		case len(row.From) == 0 || !row.published.Host.IsValid(): // nothing of the host leads there
		case asked == "":
			lines = append(lines, inside+" -> "+row.Host)
		case asked == inside:
			lines = append(lines, row.Host)
		}
	}
	if asked != "" && len(lines) == 0 {
		return fmt.Errorf("no public port '%s' published for %s", asked, word)
	}
	slices.SortFunc(lines, catalog.Natural)
	for _, line := range slices.Compact(lines) {
		if _, err := fmt.Fprintln(a.out(false), line); err != nil {
			return err
		}
	}
	return nil
}

// privatePort reads PORT[/PROTO], of which tcp may be left out.
func privatePort(text string) (string, error) {
	port, protocol, found := strings.Cut(text, "/")
	if !found {
		protocol = "tcp"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || !slices.Contains([]string{"tcp", "udp", "sctp"}, protocol) {
		return "", fmt.Errorf("invalid port %q: must be PORT or PORT/PROTO: 1 to 65535, tcp, udp or sctp", text)
	}
	return port + "/" + protocol, nil
}

// order is what rows are sorted by: the port, then the rest.
func (r *portRow) order() string {
	return r.Host[strings.LastIndexByte(r.Host, ':')+1:] + " " + r.Protocol + " " + r.Host
}

// ofContainers returns the records of the containers that words name, by name, ID or its
// beginning; all if there are no words.
func ofContainers(list []*records.Record, words []string) ([]*records.Record, error) {
	if len(words) == 0 {
		return list, nil
	}
	var out []*records.Record
	for _, word := range words {
		found := false
		for _, r := range list {
			if word != "" && (containerName(r) == word || strings.HasPrefix(r.Container, word)) {
				out, found = append(out, r), true
			}
		}
		if !found {
			return nil, &network.NoContainerError{Word: word}
		}
	}
	return out, nil
}
