package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"dcni/pkg/host/agent"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
	"dcni/pkg/records"
)

// lookEvery is how often events compares what is there with what was there. To open the
// directories of 1,000 records takes some milliseconds, and only those that changed are
// opened.
const lookEvery = 200 * time.Millisecond

func newEventsCommand(a *app) *cobra.Command {
	var o eventOptions
	cmd := &cobra.Command{
		Use:   "events [OPTIONS]",
		Short: "Print what happens to networks and containers, until interrupted",
		Long: "Print what happens, until interrupted: networks that are created and destroyed, containers of whichever runtime that are connected " +
			"and disconnected, what dnetd puts back where others took it away, and dnetd that starts and ends. " +
			"What comes and goes within a fifth of a second is not seen.",
		Example: "  dnet events\n" +
			"  dnet events --filter event=heal --filter network=web\n" +
			"  dnet events --json | jq .Action",
		Args:                  exactly(0),
		RunE:                  func(*cobra.Command, []string) error { return a.events(o) },
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().BoolVar(&o.json, "json", false, "Print a JSON object a line, with Docker's names")
	cmd.Flags().StringArrayVarP(&o.filters, "filter", "f", nil, `Filter by type, event, network or container (e.g. "event=connect")`)
	return cmd
}

// eventOptions are the flags of events.
type eventOptions struct {
	json    bool
	filters []string
}

// eventFilters tell for each name of --filter whether an event has a value.
var eventFilters = map[string]func(e event, value string) bool{
	"type":  func(e event, v string) bool { return e.Type == v },
	"event": func(e event, v string) bool { return e.Action == v },
	"network": func(e event, v string) bool {
		return e.Type == "network" && isNamed(v)(e.Actor.Attributes["name"])
	},
	"container": func(e event, v string) bool {
		id := e.Actor.Attributes["container"]
		return v != "" && (e.Actor.Attributes["containerName"] == v || id != "" && strings.HasPrefix(id, v))
	},
}

// eventTypes are the types of events that there are. Docker has more, and lets one wait for any word.
var eventTypes = []string{"daemon", "network"}

// warnOfTypes says which types of events never come.
func (a *app) warnOfTypes(o eventOptions) {
	for _, word := range o.filters {
		name, value, _ := strings.Cut(word, "=")
		if name == "type" && !slices.Contains(eventTypes, value) {
			a.warn("--filter type=%s: there are no such events, only those of type %s", value, strings.Join(eventTypes, " and "))
		}
	}
}

// passes reads the filters. Values of one name are alternatives.
func (o eventOptions) passes() (func(event) bool, error) {
	asked := catalog.Filters{}
	for _, word := range o.filters {
		if err := asked.Add(word); err != nil {
			return nil, fmt.Errorf("invalid argument %q for \"-f, --filter\" flag: %w", word, err)
		}
	}
	for name := range asked {
		if eventFilters[name] == nil {
			return nil, fmt.Errorf("invalid filter '%s': must be container, event, network or type", name)
		}
	}
	return func(e event) bool {
		for name, values := range asked {
			if !slices.ContainsFunc(values, func(v string) bool { return eventFilters[name](e, v) }) {
				return false
			}
		}
		return true
	}, nil
}

// An event is one thing that happened, with Docker's names.
type event struct {
	Type   string // network, or daemon
	Action string // create, destroy, connect, disconnect, heal, heal_failed; start, die of a daemon
	Actor  struct {
		ID         string
		Attributes map[string]string
	}
	Scope    string `json:"scope"`
	Time     int64  `json:"time"` // seconds
	TimeNano int64  `json:"timeNano"`
}

// A scene is what events compares: each thing that is there, by a key that is its own.
type scene map[string]event

// events prints what changes.
func (a *app) events(o eventOptions) error {
	passes, err := o.passes()
	if err != nil {
		return &statusErr{statusUsage, err}
	}
	a.warnOfTypes(o)
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(ends)
	store := records.NewCachedStore(a.store)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var before scene
	healed := time.Now().UnixNano()
	for {
		now, err := a.scene(store, before)
		if err != nil {
			return err
		}
		if before != nil {
			list := append(changes(before, now, time.Now()), a.healEvents(&healed)...)
			for _, e := range list {
				if !passes(e) {
					continue
				}
				if err := e.print(a.stdout, o.json); err != nil {
					return err
				}
			}
		}
		before = now
		select {
		case <-ends:
			return nil
		case <-tick.C:
		}
	}
}

// healEvents returns what dnetd has put back, or could not, after a time in nanoseconds since
// 1970, and moves that on. Where no dnetd runs that is nothing.
func (a *app) healEvents(after *int64) (list []event) {
	for {
		reply, err := agent.Client{Store: a.store, NeverStart: true}.Call(agent.AnswerTimeout, agent.Request{Op: agent.Events, After: *after})
		if err != nil || len(reply.Events) == 0 {
			return list
		}
		for _, h := range reply.Events {
			list = append(list, healEvent(h))
			*after = h.Time
		}
	}
}

// healEvent shows what was put back.
func healEvent(h agent.Event) event {
	action, attributes := "heal", map[string]string{"object": h.Object}
	for name, value := range map[string]string{"container": h.Container, "interface": h.IfName, "was": h.Was, "error": h.Error} {
		if value != "" {
			attributes[name] = strings.ReplaceAll(value, "\n", "; ")
		}
	}
	if h.Error != "" {
		action = "heal_failed"
	}
	e := networkEvent(action, h.Network, "", attributes)
	delete(e.Actor.Attributes, "type")
	e.TimeNano = h.Time
	e.Time = h.Time / int64(time.Second)
	return e
}

// changes returns what went and what came, in an order that is always the same.
func changes(before, now scene, at time.Time) (list []event) {
	add := func(e event) {
		e.Time, e.TimeNano = at.Unix(), at.UnixNano()
		list = append(list, e)
	}
	for _, key := range slices.Sorted(maps.Keys(before)) {
		if _, still := now[key]; !still {
			e := before[key]
			e.Action = map[string]string{"create": "destroy", "connect": "disconnect", "start": "die"}[e.Action]
			add(e)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(now)) {
		if _, was := before[key]; !was {
			add(now[key])
		}
	}
	return list
}

// scene looks at what is there. A record that was there before is not read again: its
// attachment is the same as long as it was not written anew.
func (a *app) scene(store *records.CachedStore, before scene) (scene, error) {
	now := scene{}
	list, _, err := a.readNetworks()
	if err != nil {
		return nil, err
	}
	drivers := map[string]string{}
	for _, n := range list {
		drivers[n.Name] = n.Driver
		if n.Path != "" {
			now["1 network "+n.Name] = networkEvent("create", n.Name, n.Driver, nil)
		}
	}
	times, err := store.ModTimes()
	if err != nil {
		return nil, err
	}
	for key, written := range times {
		a.attachment(now, before, key, written, drivers)
	}
	reply, err := agent.Client{Store: a.store, NeverStart: true}.Call(agent.AnswerTimeout, agent.Request{Op: agent.Status})
	if err == nil && reply.PID != 0 {
		var e event
		e.Type, e.Action, e.Scope = "daemon", "start", "local"
		e.Actor.ID, e.Actor.Attributes = "dnetd", map[string]string{"name": "dnetd", "pid": fmt.Sprint(reply.PID), "version": reply.Version}
		now[fmt.Sprint("0 dnetd ", reply.PID)] = e
	}
	return now, nil
}

// attachment puts an attachment that is up into a scene, once for all plugins of its chain.
// One whose record can't be read is not seen.
func (a *app) attachment(now, before scene, key records.RecordKey, written time.Time, drivers map[string]string) {
	id := "2 attachment " + key.String()
	if old, known := before[id]; known && old.TimeNano == written.UnixNano() {
		now[id] = old
		return
	}
	r, err := a.store.Get(key.Attachment, key.Plugin)
	if err != nil || r.State != records.Up || r.Creator == records.ByIngress || len(r.AddressesThere()) == 0 && now[id].Type != "" {
		return
	}
	attributes := map[string]string{"container": r.Container, "name": r.Network, "interface": r.IfName}
	if name := containerName(r); name != r.Container {
		attributes["containerName"] = name
	}
	if len(r.Names) > 0 {
		attributes["names"] = strings.Join(r.Names, ",")
	}
	for i, addr := range r.AddressesThere() {
		attributes[[]string{"address", "address2", "address3", "address4"}[min(i, 3)]] = addr.Address.String()
	}
	e := networkEvent("connect", r.Network, drivers[r.Network], attributes)
	e.TimeNano = written.UnixNano()
	now[id] = e
}

func networkEvent(action, name, driver string, attributes map[string]string) (e event) {
	e.Type, e.Action, e.Scope = "network", action, catalog.ScopeOf(driver)
	e.Actor.ID = network.ID(name)
	e.Actor.Attributes = map[string]string{"name": name, "type": driver}
	maps.Copy(e.Actor.Attributes, attributes)
	return e
}

// print prints an event as Docker does: as a line of words, or as JSON.
func (e event) print(w *os.File, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(e)
	}
	var words []string
	for _, key := range slices.Sorted(maps.Keys(e.Actor.Attributes)) {
		words = append(words, key+"="+e.Actor.Attributes[key])
	}
	_, err := fmt.Fprintf(w, "%s %s %s %s (%s)\n", time.Unix(0, e.TimeNano).Format("2006-01-02T15:04:05.000000000Z07:00"),
		e.Type, e.Action, e.Actor.ID, strings.Join(words, ", "))
	return err
}
