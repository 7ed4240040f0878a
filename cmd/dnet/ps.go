package main

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dcni/pkg/container"
	"dcni/pkg/firewall"
	"dcni/pkg/network/catalog"
	"dcni/pkg/records"
)

// psOptions are the flags of `dnet ps`.
type psOptions struct {
	all, quiet, long bool
	latest           bool
	last             int // show so many; 0: all
	format           string
	filters          []string
}

func newPsCommand(a *app) *cobra.Command {
	o := &psOptions{}
	cmd := &cobra.Command{
		Use:                   "ps [OPTIONS]",
		Short:                 "List the containers of dnet run",
		DisableFlagsInUseLine: true,
		Args:                  exactly(0),
		RunE:                  func(*cobra.Command, []string) error { return a.ps(o) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "Show all containers (default shows just running)")
	f.StringArrayVarP(&o.filters, "filter", "f", nil, "Filter output: id, name, network, label, publish, expose, status, exited")
	f.IntVarP(&o.last, "last", "n", 0, "Show n last created containers (includes all states)")
	f.BoolVarP(&o.latest, "latest", "l", false, "Show the latest created container (includes all states)")
	f.StringVar(&o.format, "format", "", "table, table TEMPLATE, raw, json, or a Go template")
	f.BoolVar(&o.long, "no-trunc", false, "Don't truncate output")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Only display container IDs")
	return cmd
}

// psListing is Docker's list of containers, without images and with networks.
func psListing(o *psOptions) listing {
	l := listing{
		table: "{{.ID}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Networks}}\t{{.Names}}",
		raw: "container_id: {{.ID}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{.State}}\n" +
			"status: {{.Status}}\nports: {{.Ports}}\nnetworks: {{.Networks}}\nnames: {{.Names}}\n",
		heads: headers{
			"ID": "CONTAINER ID", "Command": "COMMAND", "RunningFor": "CREATED", "CreatedAt": "CREATED AT", "State": "STATE",
			"Status": "STATUS", "Ports": "PORTS", "Networks": "NETWORKS", "Names": "NAMES", "Labels": "LABELS", "Image": "IMAGE", "Mounts": "MOUNTS",
		},
	}
	if o.quiet {
		l.raw = "container_id: {{.ID}}"
	}
	return l
}

// A psRow is a container as the templates of ps have it.
type psRow struct {
	Command, CreatedAt, ID, Labels, Names, Networks, Ports, RunningFor, State, Status string
	Image, Mounts                                                                     string // Docker's: there are none

	labels map[string]string
}

// Label is the value of one label.
func (r psRow) Label(key string) string { return r.labels[key] }

func (a *app) ps(o *psOptions) error {
	keep, all, err := a.parseFilters(o.filters)
	if err != nil {
		return err
	}
	if o.latest {
		o.last = 1
	}
	all = all || o.last > 0
	list, err := a.store.Containers()
	if err != nil {
		return err
	}
	for _, c := range list {
		if c.Unreadable != nil {
			a.warn("%v", c.Unreadable)
		}
	}
	l := psListing(o)
	for _, c := range list { // the newest first
		if o.last > 0 && len(l.rows) == o.last {
			break
		}
		if !a.present(c) {
			continue
		}
		if c.Stage != records.Running && !o.all && !all || !keep(c) {
			continue
		}
		r, err := a.psRow(c, o.long, time.Now())
		if err != nil {
			return err
		}
		l.rows = append(l.rows, r)
	}
	if o.quiet && (o.format == "" || o.format == "table") {
		o.format = "{{.ID}}"
	}
	return l.print(a.out(false), o.format)
}

// present shows a container whose dnet was killed as the next command leaves it that
// cleans up. It reports whether the container is on record then.
func (a *app) present(c *records.Container) bool {
	if c.Stage == records.Exited || a.store.ContainerLocked(c.ID) {
		return true
	}
	if c.Remove || c.NeverRan() {
		return false
	}
	c.Stage, c.ExitCode, c.Finished = records.Exited, killed, time.Now()
	return true
}

// psRow describes a container.
func (a *app) psRow(c *records.Container, long bool, now time.Time) (psRow, error) {
	endpoints, exposed, err := a.portsOf(c)
	if err != nil { // the other records were read all the same
		a.warn("%v", err)
	}
	id, command := c.ID, strconv.Quote(strings.Join(c.Command, " "))
	if !long {
		const letters = 20 // Docker's
		id, command = container.ShortID(id), strconv.Quote(container.Shorten(strings.Join(c.Command, " "), letters))
	}
	return psRow{
		ID: id, Command: command, Names: c.Name, Networks: strings.Join(a.networkNames(c), ","),
		CreatedAt: c.Created.Local().Format("2006-01-02 15:04:05 -0700 MST"), RunningFor: since(c.Created, now) + " ago",
		State: string(c.Stage), Status: status(c, now), Ports: container.ShowPorts(endpoints, exposed),
		Labels: labelWords(c.Labels), labels: c.Labels,
	}, nil
}

// portsOf returns what a container has published, and what it exposes on networks where that can
// be published.
func (a *app) portsOf(c *records.Container) (endpoints []*firewall.Endpoint, exposed []firewall.Exposed, err error) {
	list, err := a.store.OfContainer(c.ID)
	for _, r := range list {
		if r.Firewall != nil {
			exposed = unasked(c)
		}
		if r.Endpoint != nil {
			endpoints = append(endpoints, r.Endpoint)
		}
	}
	return endpoints, exposed, err
}

// unasked returns the ports that a container exposes and that were not to be published: of those
// that were, and that its networks do not publish, nothing is shown, as with Docker.
func unasked(c *records.Container) []firewall.Exposed {
	return slices.DeleteFunc(exposedBy(c), func(e firewall.Exposed) bool {
		return slices.ContainsFunc(c.Ports, func(p firewall.Port) bool { return p.ContainerPort == e.Port && p.Protocol == e.Protocol })
	})
}

// exposedBy returns the ports that a container exposes while it runs.
func exposedBy(c *records.Container) (list []firewall.Exposed) {
	if c.Stage != records.Running {
		return nil
	}
	for _, text := range c.Exposed { // as dnet run checked them
		ports, _ := firewall.ParseExposed(text)
		list = append(list, ports...)
	}
	return firewall.ExposedPorts(list, nil)
}

// labelWords are labels as KEY=VALUE words with commas between.
func labelWords(labels map[string]string) string {
	var words []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		words = append(words, key+"="+labels[key])
	}
	return strings.Join(words, ",")
}

// networkNames returns the names of a container's networks, those that it was connected to
// later behind the others; of one that has ended, those that it is to be on when it is started. One
// without a network namespace of its own uses the host's network, or another container's.
func (a *app) networkNames(c *records.Container) []string {
	if c.Donor != "" {
		return []string{"container:" + container.ShortID(c.Donor)}
	}
	if w, known, err := wanted(c); known && err == nil && c.Stage == records.Exited {
		return w.Names()
	}
	if c.Process.NetNS == 0 && len(c.Networks) == 0 && c.Unreadable == nil {
		return []string{"host"}
	}
	var names []string
	for _, at := range c.Networks {
		names = append(names, at.Network)
	}
	connected, _ := a.store.Connections(c.ID) // of one that can't be read heal warns
	for _, l := range connected {
		names = append(names, l.Network)
	}
	return names
}

func since(t, now time.Time) string { return container.Ago(int64(now.Sub(t) / time.Second)) }

// status describes a container's state in Docker's words.
func status(c *records.Container, now time.Time) string {
	switch {
	case c.Unreadable != nil && c.Stage == records.Running:
		return "Up (its record can't be read)"
	case c.Unreadable != nil:
		return "Exited (its record can't be read)"
	}
	switch c.Stage {
	case records.Running:
		return "Up " + since(c.Started, now)
	case records.Exited:
		return fmt.Sprintf("Exited (%d) %s ago", c.ExitCode, since(c.Finished, now))
	}
	return "Created"
}

// parseFilters reads --filter. Values of one key are alternatives, but for labels. all says that
// a filter asks for containers that may have ended.
func (a *app) parseFilters(filters []string) (keep func(*records.Container) bool, all bool, err error) {
	asked := map[string][]string{}
	for _, f := range filters {
		key, value, ok := strings.Cut(f, "=")
		key, value = strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value)
		switch {
		case !ok:
			return nil, false, fmt.Errorf("invalid argument %q for \"-f, --filter\" flag: bad format of filter (expected name=value)", f)
		case psFilters[key] == nil:
			return nil, false, fmt.Errorf("invalid filter '%s'", key)
		case key == "status" && !slices.Contains([]string{"created", "running", "exited"}, value):
			return nil, false, fmt.Errorf("invalid filter 'status=%s': must be created, running or exited", value)
		}
		if _, err := regexp.Compile(value); key == "name" && err != nil {
			return nil, false, fmt.Errorf("invalid filter 'name=%s': must be a regular expression: %w", value, err)
		}
		if _, err := strconv.Atoi(value); key == "exited" && err != nil {
			return nil, false, fmt.Errorf("invalid filter 'exited=%s': must be an exit status, a number", value)
		}
		if key == "publish" || key == "expose" {
			if _, err := container.ParsePortFilter(key, value); err != nil {
				return nil, false, err
			}
		}
		asked[key] = append(asked[key], value)
	}
	return func(c *records.Container) bool {
		for key, values := range asked {
			if key == "label" { // all of them
				if slices.ContainsFunc(values, func(v string) bool { return !psFilters[key](a, c, v) }) {
					return false
				}
				continue
			}
			if !slices.ContainsFunc(values, func(v string) bool { return psFilters[key](a, c, v) }) {
				return false
			}
		}
		return true
	}, asked["status"] != nil || asked["exited"] != nil, nil
}

// psFilters tell for each key of --filter whether a container has the value.
var psFilters = map[string]func(a *app, c *records.Container, value string) bool{
	"id": func(_ *app, c *records.Container, v string) bool { return strings.HasPrefix(c.ID, v) },
	"name": func(_ *app, c *records.Container, v string) bool {
		re, err := regexp.Compile(v)
		return err == nil && (re.MatchString(c.Name) || re.MatchString("/"+c.Name))
	},
	"network": func(a *app, c *records.Container, v string) bool {
		return slices.ContainsFunc(a.networkNames(c), isNamed(v))
	},
	"label": func(_ *app, c *records.Container, v string) bool { return catalog.HasLabel(c.Labels, v) },
	"publish": func(a *app, c *records.Container, v string) bool {
		meant, err := container.ParsePortFilter("publish", v)
		endpoints, _, _ := a.portsOf(c) // of one that can't be read ps warns
		return err == nil && slices.ContainsFunc(endpoints, func(e *firewall.Endpoint) bool {
			return slices.ContainsFunc(e.Bound(), func(p firewall.Port) bool {
				return meant(firewall.Exposed{Port: p.HostPort, Protocol: p.Protocol})
			})
		})
	},
	"expose": func(_ *app, c *records.Container, v string) bool {
		meant, err := container.ParsePortFilter("expose", v)
		return err == nil && slices.ContainsFunc(c.Exposed, func(text string) bool {
			list, err := firewall.ParseExposed(text)
			return err == nil && len(list) == 1 && meant(list[0])
		})
	},
	"status": func(_ *app, c *records.Container, v string) bool { return string(c.Stage) == v },
	"exited": func(_ *app, c *records.Container, v string) bool {
		return c.Stage == records.Exited && strconv.Itoa(c.ExitCode) == v
	},
}
