package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dcni/pkg/container"
	"dcni/pkg/records"
	"dcni/pkg/service"
)

func newServiceDrainCommand(a *app) *cobra.Command {
	var undo bool
	var nodes bool
	cmd := &cobra.Command{
		Use: "drain [OPTIONS] CONTAINER|NODE [CONTAINER|NODE...]", Short: "Send no more connections to a task, or to all tasks of a node; those that run go on", Args: atLeast(1), DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.eachWord(args, func(word string) error {
				if nodes {
					return a.drainNode(word, !undo)
				}
				return a.drainWord(word, !undo)
			})
		},
	}
	cmd.Flags().BoolVar(&undo, "undo", false, "Send connections to it again")
	cmd.Flags().BoolVar(&nodes, "node", false, "It is a node's name, where a container has that too")
	return cmd
}

// drainWord drains the container that a word means, by its ID, the beginning of that, or its
// name, or else the node of that name. Of this host it reads what the word may mean: a change of
// one task is to be quick beside many.
func (a *app) drainWord(word string, drained bool) error {
	ofCluster, away := a.overlayServices()
	var tasks []service.Task
	var all []container.Named
	for _, v := range ofCluster {
		for _, t := range v.tasks {
			tasks = append(tasks, t)
			all = append(all, container.Named{ID: t.Owner.Container, Name: cmp.Or(t.Name, t.Owner.Container)})
		}
	}
	networks, err := a.store.ServiceNetworks()
	errs := []error{away, err}
	for _, name := range networks {
		list, err := a.store.Meant(name, word)
		own, unread := a.tasksAmong(list)
		tasks = append(tasks, own...)
		errs = append(errs, err, unread)
		for _, r := range records.Interfaces(list) {
			all = append(all, container.Named{ID: r.Container, Name: containerName(r)})
		}
	}
	slices.SortStableFunc(all, func(a, b container.Named) int { return strings.Compare(a.ID, b.ID) })
	all = slices.CompactFunc(all, func(a, b container.Named) bool { return a.ID == b.ID })
	i, err := container.Find(all, word)
	if err != nil && away != nil {
		return fmt.Errorf("%s: is no task of this host's, and of other nodes nothing is known: %w", word, away)
	}
	if err != nil {
		return a.drainUnless(word, drained, err)
	}
	tasks = slices.DeleteFunc(tasks, func(t service.Task) bool { return t.Owner.Container != all[i].ID })
	if len(tasks) > 0 {
		return a.drain(tasks, drained)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return fmt.Errorf("container %s is a task of no service: it bears the name of none, as its own or as an alias", word)
}

// tasksAmong returns those records' tasks of services of this host's own networks.
func (a *app) tasksAmong(list []*records.Record) (tasks []service.Task, err error) {
	for _, r := range list {
		if a.store.KnowsServices(r.Network) { // it is the cluster's
			continue
		}
		is, unread := a.store.IsTask(r)
		if is {
			tasks = append(tasks, service.Task{Endpoint: service.Endpoint{Owner: r.Attachment}})
		}
		err = errors.Join(err, unread)
	}
	return tasks, err
}

// drain notes that tasks are to get no more connections, or some again, and has it done. Those
// of the cluster's networks may be on any node.
func (a *app) drain(tasks []service.Task, drained bool) error {
	var networks []string
	var ofCluster []service.Task
	for _, t := range tasks {
		if t.Node != "" || a.store.KnowsServices(t.Owner.Network) {
			ofCluster = append(ofCluster, t)
			continue
		}
		if err := a.store.Drain(t.Owner, drained); err != nil {
			return err
		}
		if !slices.Contains(networks, t.Owner.Network) {
			networks = append(networks, t.Owner.Network)
		}
	}
	for _, name := range networks {
		a.spreadServices(name)
	}
	if len(ofCluster) == 0 {
		return nil
	}
	return a.drainOverlay(ofCluster, drained)
}

// drainBeforeStop drains a container that is about to be stopped, if it is a task.
func (a *app) drainBeforeStop(id string) {
	list, err := a.store.OfContainer(id)
	tasks, unread := a.tasksAmong(list)
	err = errors.Join(err, unread)
	for _, r := range records.Interfaces(list) {
		if !a.store.KnowsServices(r.Network) {
			continue
		}
		n, unread := a.store.ServicesOf(r.Network)
		err = errors.Join(err, unread)
		for _, s := range n.Services {
			for _, t := range n.Tasks(s) {
				if t.Node == "" && t.Owner.Container == id {
					tasks = append(tasks, t)
				}
			}
		}
	}
	if err == nil && len(tasks) > 0 {
		err = a.drain(tasks, true)
	}
	if err != nil {
		a.warn("container %s is not drained: %v", container.ShortID(id), err)
	}
}
