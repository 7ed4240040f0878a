package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dcni/pkg/firewall"
	"dcni/pkg/network/catalog"
	"dcni/pkg/service"
)

func newServiceListCommand(a *app) *cobra.Command {
	var quiet bool
	var format string
	var filters []string
	cmd := &cobra.Command{
		Use: "ls [OPTIONS]", Aliases: []string{"list"}, Short: "List services", Args: exactly(0), DisableFlagsInUseLine: true,
		RunE: func(*cobra.Command, []string) error { return a.listServices(quiet, format, filters) },
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Only display names")
	cmd.Flags().StringArrayVarP(&filters, "filter", "f", nil, "Filter output: name (its beginning), network")
	cmd.Flags().StringVar(&format, "format", "", "table, table TEMPLATE, raw, json, or a Go template")
	return cmd
}

// A serviceRow is a service as the templates of service ls have it.
type serviceRow struct {
	Name, Network, Mode, VIP, Tasks, Ports string
}

// serviceFilter reads the filters of services. Values of one name are alternatives. As with Docker a name's
// beginning is enough.
func serviceFilter(words []string) (func(v *listed) bool, error) {
	asked := catalog.Filters{}
	for _, word := range words {
		if err := asked.Add(word); err != nil {
			return nil, fmt.Errorf("invalid argument %q for \"-f, --filter\" flag: %w", word, err)
		}
	}
	for name := range asked {
		if name != "name" && name != "network" {
			return nil, fmt.Errorf("invalid filter '%s': must be name or network", name)
		}
	}
	passes := func(name string, is func(value string) bool) bool {
		return len(asked[name]) == 0 || slices.ContainsFunc(asked[name], is)
	}
	return func(v *listed) bool {
		return passes("name", func(value string) bool { return strings.HasPrefix(v.Name, value) }) &&
			passes("network", func(value string) bool { return isNamed(value)(v.Network) })
	}, nil
}

func (a *app) listServices(quiet bool, format string, filters []string) error {
	keep, err := serviceFilter(filters)
	if err != nil {
		return err
	}
	list, err := a.services(false)
	if err != nil {
		a.warn("%v", err)
	}
	l := listing{
		table: "{{.Name}}\t{{.Network}}\t{{.Mode}}\t{{.VIP}}\t{{.Tasks}}\t{{.Ports}}",
		raw:   "name: {{.Name}}\nnetwork: {{.Network}}\nmode: {{.Mode}}\nvip: {{.VIP}}\ntasks: {{.Tasks}}\nports: {{.Ports}}\n",
		heads: headers{"Name": "NAME", "Network": "NETWORK", "Mode": "MODE", "VIP": "VIP", "Tasks": "READY/TASKS", "Ports": "PORTS"},
	}
	if quiet && (format == "" || format == "table") {
		format = "{{.Name}}"
	}
	for _, v := range list {
		if !keep(v) {
			continue
		}
		ready, all := readyOf(v.tasks)
		l.rows = append(l.rows, serviceRow{
			Name: v.Name, Network: v.Network, Mode: v.Mode, VIP: addressWords(v.VIPs), Tasks: fmt.Sprintf("%d/%d", ready, all), Ports: portWords(v.Ports),
		})
	}
	return l.print(a.out(false), format)
}

// readyOf counts tasks, and those that are ready.
func readyOf(tasks []service.Task) (ready, all int) {
	for _, t := range tasks {
		if t.State == service.Ready {
			ready++
		}
	}
	return ready, len(tasks)
}

// addressWords are addresses with commas between.
func addressWords(list []netip.Addr) string {
	var words []string
	for _, a := range list {
		words = append(words, a.String())
	}
	return strings.Join(words, ",")
}

// portWords are ports with commas between, as `docker service ls` has them.
func portWords(list []service.Port) string {
	var words []string
	for _, p := range list {
		words = append(words, p.String())
	}
	return strings.Join(words, ", ")
}

func newServicePsCommand(a *app) *cobra.Command {
	var on, format string
	cmd := &cobra.Command{
		Use: "ps [OPTIONS] SERVICE [SERVICE...]", Short: "List the tasks of services", Args: atLeast(1), DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error { return a.listTasks(args, on, format) },
	}
	networkFlag(cmd, &on)
	cmd.Flags().StringVar(&format, "format", "", "table, table TEMPLATE, raw, json, or a Go template")
	return cmd
}

// A taskRow is a task as the templates of service ps and inspect have it.
type taskRow struct {
	Node, Container, Name, Address, State, Since string
}

func (a *app) listTasks(words []string, on, format string) error {
	l := listing{
		table: "{{.Node}}\t{{.Name}}\t{{.Address}}\t{{.State}}\t{{.Since}}",
		raw:   "node: {{.Node}}\ncontainer: {{.Name}}\naddress: {{.Address}}\nstate: {{.State}}\nsince: {{.Since}}\n",
		heads: headers{"Node": "NODE", "Container": "CONTAINER ID", "Name": "CONTAINER", "Address": "ADDRESS", "State": "STATE", "Since": "SINCE"},
	}
	for _, word := range words {
		v, err := a.findService(word, on, false)
		if err != nil {
			return err
		}
		rows, err := a.taskRows(v, func(t time.Time) string { return since(t, time.Now()) + " ago" })
		if err != nil {
			return err
		}
		for _, r := range rows {
			l.rows = append(l.rows, r)
		}
		if len(v.Ports) > 0 {
			a.warnRefused(v)
		}
	}
	return l.print(a.out(false), format)
}

// warnRefused tells which of a service's ports this node does not have, and why. It tries again: another
// program may have gone.
func (a *app) warnRefused(v *listed) {
	node, err := os.Hostname()
	if err != nil {
		node = "this node"
	}
	if v.ofCluster {
		if why := a.notPublishedHere(v.Service.Service); why != "" {
			a.warn("service %s: its ports are not published on %s: %s", v.Name, node, why)
			return
		}
	}
	refused, err := a.refusedPorts(v.Network)
	if err != nil {
		a.warn("%v", err)
	}
	for i, claim := range v.Claims() {
		if refused.Has(claim) {
			at := slices.IndexFunc(refused.Claims, func(e *firewall.Endpoint) bool { return e.Owner == claim.Owner && e.Ports[0] == claim.Ports[0] })
			a.warn("service %s: %s is not published on %s: %v", v.Name, v.Ports[i], node, refused.Errs[at])
		}
	}
}

// refusedPorts makes the ports of a network's services so, and returns those that can't be had.
func (a *app) refusedPorts(name string) (*firewall.RefusedError, error) {
	lock, err := a.store.LockServices(name)
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	n, err := a.store.ServicesOf(name)
	if err != nil {
		return nil, err
	}
	m, err := a.openHost(a.store)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	return m.EnsureIngress(n)
}

// taskRows describes a service's tasks.
func (a *app) taskRows(v *listed, when func(time.Time) string) ([]taskRow, error) {
	node, err := os.Hostname()
	rows := []taskRow{}
	for _, t := range v.tasks {
		since := time.Unix(t.Since, 0)
		if t.Since == 0 {
			since = a.store.TaskSince(v.Service.Service, t)
		}
		r := taskRow{Node: cmp.Or(t.Node, node), Container: t.Owner.Container, Name: t.Name, Address: addressWords(t.Addresses), State: string(t.State), Since: when(since)}
		r.Name = cmp.Or(r.Name, r.Container)
		rows = append(rows, r)
	}
	slices.SortStableFunc(rows, func(a, b taskRow) int { return catalog.Natural(a.Name, b.Name) })
	return rows, err
}

func newServiceInspectCommand(a *app) *cobra.Command {
	var on, format string
	cmd := &cobra.Command{
		Use: "inspect [OPTIONS] SERVICE [SERVICE...]", Short: "Display detailed information on services", Args: atLeast(1), DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error { return a.inspectServices(args, on, format) },
	}
	networkFlag(cmd, &on)
	cmd.Flags().StringVarP(&format, "format", "f", "", "json, or a Go template")
	return cmd
}

// A serviceInspection is what inspect prints of a service.
type serviceInspection struct {
	Name, Network, Mode string
	VIPs                []string
	Affinity, Health    string
	Ports               []service.Port
	Local               bool
	CreatedAt           time.Time
	Tasks               []taskRow
}

func (a *app) inspectServices(words []string, on, format string) error {
	show, err := inspector(format)
	if err != nil {
		return &statusErr{statusTemplate, err}
	}
	var list []any
	for _, word := range words {
		v, err := a.findService(word, on, false)
		if err != nil {
			return err
		}
		i := serviceInspection{Name: v.Name, Network: v.Network, Mode: v.Mode, VIPs: []string{}, Affinity: v.Affinity, Health: v.Health, Ports: append([]service.Port{}, v.Ports...), Local: v.Local, CreatedAt: v.Created}
		for _, vip := range v.VIPs {
			i.VIPs = append(i.VIPs, vip.String())
		}
		if i.Tasks, err = a.taskRows(v, func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }); err != nil {
			return err
		}
		list = append(list, i)
	}
	text, err := show(list)
	if err != nil {
		return err
	}
	_, err = a.out(false).Write(text)
	return err
}
