package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"dcni/pkg/host/agent"
	"dcni/pkg/overlay"
	"dcni/pkg/service"
)

// ingress has this node on each network whose services all nodes publish ports of, also where it has no
// container there: dnetd attaches the node as it would be a container, see package service.
type ingress struct {
	*node

	mu      sync.Mutex
	known   *published
	refused map[string]string // by network, why the node can't have the ports of its services
}

// published is what the store said last.
type published struct {
	networks []overlay.Existing
	services []overlay.Service
	unread   []string // networks of whose services not all can be read
}

// ingressTime is how long dnetd may take for one network: its ADD waits for the store.
const ingressTime = 20 * time.Second

// refusedPause is after how long it is tried again where it was refused, as with no address left.
const refusedPause = 4 * lookPause

// changes returns the networks that the node is to be attached to, again where it is on one of that name and another
// generation, and those that it is to leave. on has the generations of those that it is on.
func (p published) changes(on map[string]int64) (join []overlay.Existing, leave []string) {
	wanted := map[string]bool{}
	for _, name := range p.unread {
		_, wanted[name] = on[name]
	}
	for _, s := range p.services {
		wanted[s.Network] = wanted[s.Network] || s.PublishesEverywhere()
	}
	for _, n := range p.networks {
		if wanted[n.Name] && on[n.Name] != n.Generation && !slices.Contains(p.unread, n.Name) {
			join = append(join, n)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(on)) {
		if !wanted[name] {
			leave = append(leave, name)
		}
	}
	return join, leave
}

// run follows the services, and looks now and then whether what they want is there.
func (i *ingress) run(ctx context.Context) {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() {
		for pause := lookPause; sleep(ctx, pause); {
			i.mu.Lock()
			i.put()
			if pause = lookPause; len(i.refused) > 0 {
				pause = refusedPause
			}
			i.mu.Unlock()
		}
	})
	prefix := i.keys.Service("", "")
	for ctx.Err() == nil {
		revision, err := i.store.List(ctx, prefix, func(overlay.Entry) error { return nil })
		if err == nil {
			err = i.sync(ctx)
		}
		if err == nil {
			err = i.store.Watch(ctx, prefix, revision, func(int64, []overlay.Event) error { return i.sync(ctx) })
		}
		if ctx.Err() == nil {
			i.log.Debug("services are not watched", "error", err)
			sleep(ctx, retryPause)
		}
	}
}

// sync has the node on the networks that the store has now.
func (i *ingress) sync(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	known, err := i.read(ctx)
	if err != nil {
		return err
	}
	i.known = &known
	i.put()
	return nil
}

// read reads networks and services from the store. A store that `dnet cluster init --recover` made has no services until nodes
// put theirs back: this node does so first, or it would leave its networks.
func (i *ingress) read(ctx context.Context) (p published, err error) {
	if err := i.recovered(ctx); err != nil {
		return p, err
	}
	if p.networks, err = i.networks(ctx); err != nil && !unreadable(err) {
		return p, err
	}
	names, err := i.cluster().ServiceNetworks(ctx)
	if err != nil {
		return p, err
	}
	for _, name := range names {
		list, err := i.cluster().Services(ctx, name)
		switch {
		case unreadable(err):
			p.unread = append(p.unread, name)
		case err != nil:
			return p, err
		}
		p.services = append(p.services, list...)
	}
	return p, nil
}

func unreadable(err error) bool {
	_, is := errors.AsType[*overlay.UnreadableError](err)
	return is
}

// put does what there is to do. What fails is tried again. The caller has the lock.
func (i *ingress) put() {
	if i.known == nil || i.leaving.Load() {
		return
	}
	on, err := i.locks().Ingress()
	if err != nil {
		i.log.Warn("the networks that this node is on are not known", "error", err)
		return
	}
	if len(on) > 0 { // where none was asked to for long, it may have been killed
		if _, err := (agent.Client{Store: i.locks()}).Ask(agent.Request{Op: agent.Status}); err != nil {
			i.log.Warn("dnetd does not keep the ports of services", "error", err)
		}
	}
	refused := map[string]string{}
	join, leave := i.known.changes(on)
	for _, name := range leave {
		if err := i.ask(name, nil); err != nil {
			i.log.Warn("the node is left on a network", "network", name, "error", err)
		}
	}
	for _, n := range join {
		err := i.join(n)
		if here, _ := i.locks().Others(n.Name, service.IngressOf(n.Name)); err != nil && !here { // else it has the ports by a container
			refused[n.Name] = err.Error()
			if i.refused[n.Name] != err.Error() {
				i.log.Warn("the ports of a network's services are not published on this node, which tries again", "network", n.Name, "error", err)
			}
		}
	}
	i.refused = refused
}

// join has the node on a network, as its file has it, but for names.
func (i *ingress) join(n overlay.Existing) error {
	path, err := i.files.foreign(n.Name)
	if err != nil {
		return err
	}
	if path != "" {
		return fmt.Errorf("another file has the network's name: %s", path)
	}
	list, err := n.Conflist()
	if err != nil {
		return err
	}
	var file struct {
		CNIVersion string           `json:"cniVersion"`
		Plugins    []map[string]any `json:"plugins"`
	}
	if err := json.Unmarshal(list, &file); err != nil {
		return err
	}
	plugin := file.Plugins[0]
	delete(plugin, "names")
	plugin["name"], plugin["cniVersion"] = n.Name, file.CNIVersion
	conf, err := json.Marshal(plugin)
	if err != nil {
		return err
	}
	return i.ask(n.Name, conf)
}

// ask has dnetd attach the node to a network, or detach it where there is no configuration.
func (d *daemon) ask(network string, conf []byte) error {
	client := agent.Client{Store: d.store}
	a := service.IngressOf(network)
	request := agent.Request{Op: agent.Ingress, Attachment: &a, Conf: conf}
	_, err := client.Call(ingressTime, request)
	if errors.Is(err, agent.ErrAbsent) {
		if _, err = client.Ask(agent.Request{Op: agent.Status}); err == nil {
			_, err = client.Call(ingressTime, request)
		}
	}
	return err
}

// publish has the node on the networks that the store has now, and tells which can't be.
func (i *ingress) publish(ctx context.Context, _ nothing) (map[string]string, error) {
	err := i.sync(ctx)
	i.mu.Lock()
	defer i.mu.Unlock()
	return maps.Clone(i.refused), err
}

// warnings are for people who ask how the node is.
func (i *ingress) warnings() (list []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(i.refused)) {
		list = append(list, fmt.Sprintf("ports of services of network %s are not published on this node: %s", name, i.refused[name]))
	}
	return list
}

// leaveIngress has the host on no network any more, for it leaves the cluster.
func (d *daemon) leaveIngress() error {
	on, err := d.store.Ingress()
	errs := []error{err}
	for name := range on {
		errs = append(errs, d.ask(name, nil))
	}
	return errors.Join(errs...)
}
