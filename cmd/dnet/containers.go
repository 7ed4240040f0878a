package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"dcni/pkg/network"
	"dcni/pkg/records"
)

// newContainerCommand has the commands of containers once more, as `docker container` does:
// rm and inspect alone are first of all those of networks.
func newContainerCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "container COMMAND",
		Short: "Manage the containers of dnet run",
		Args:  noCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	list := newPsCommand(a)
	list.Use, list.Aliases = "ls [OPTIONS]", []string{"ps", "list"}
	cmd.AddCommand(
		newRunCommand(a), newExecCommand(a), list, newLogsCommand(a), newPortCommand(a), newStartCommand(a), newStopCommand(a), newRestartCommand(a),
		newWaitCommand(a),
		newContainerRemoveCommand(a), newContainerPruneCommand(a),
		newInspect(a, &cobra.Command{Use: "inspect [OPTIONS] CONTAINER [CONTAINER...]", Short: "Display detailed information on containers"}, "container"),
	)
	return cmd
}

func newWaitCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:                   "wait CONTAINER [CONTAINER...]",
		Short:                 "Block until containers end, then print their exit codes",
		DisableFlagsInUseLine: true,
		Args:                  atLeast(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.each(args, func(word string) error {
				status, err := a.wait(word)
				if err == nil {
					fmt.Fprintln(a.out(true), status)
				}
				return err
			})
		},
	}
}

// each does the same for all words one after the other, and goes on past errors.
func (a *app) each(words []string, do func(word string) error) error {
	failed := false
	for _, word := range words {
		if err := do(word); err != nil {
			a.printError(err)
			failed = true
		}
	}
	if failed {
		return &statusErr{status: statusError}
	}
	return nil
}

// wait waits until a container has ended and all is cleaned up, and returns its exit status:
// also of one that is then forgotten, or whose dnet is killed.
func (a *app) wait(word string) (int, error) {
	c, err := a.container(word)
	if err != nil || c.Stage == records.Exited {
		return statusOf(c), err
	}
	file, err := a.store.OpenStatus(c.ID)
	if err == nil {
		defer func() { _ = file.Close() }()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	lock, err := a.store.LockContainer(c.ID)
	if err != nil {
		return 0, err
	}
	defer lock.Unlock()
	if err := a.healLocked(c.ID); err != nil {
		a.warn("clean up container %s: %v", word, err)
	}
	now, err := a.store.Container(c.ID)
	if !errors.Is(err, fs.ErrNotExist) {
		return statusOf(now), err
	}
	return forgottenStatus(file)
}

// statusOf is the exit status of a container, 0 for none.
func statusOf(c *records.Container) int {
	if c == nil {
		return 0
	}
	return c.ExitCode
}

// forgottenStatus reads the status of a container that is forgotten.
func forgottenStatus(file *os.File) (int, error) {
	if file != nil {
		if status, ok := records.ReadStatus(file); ok {
			return status, nil
		}
	}
	return 0, errors.New("the container is gone, and its exit status with it")
}

func newContainerRemoveCommand(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:                   "rm [OPTIONS] CONTAINER [CONTAINER...]",
		Aliases:               []string{"remove"},
		Short:                 "Forget containers that have ended",
		DisableFlagsInUseLine: true,
		Args:                  atLeast(1),
		RunE: func(_ *cobra.Command, args []string) error {
			a.heal()
			return a.each(args, func(word string) error {
				err := a.removeContainer(word, force)
				if _, none := errors.AsType[*network.NoContainerError](err); none && force {
					a.printError(err) // and is none, as with Docker
					return nil
				}
				if err == nil {
					fmt.Fprintln(a.out(true), word)
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Kill containers that run")
	return cmd
}

// removeContainer forgets a container that has ended; with force it is killed first if it runs.
func (a *app) removeContainer(word string, force bool) error {
	c, err := a.findContainer(word)
	if err != nil {
		return err
	}
	if c.Stage != records.Exited && !force {
		return fmt.Errorf("cannot remove container %q: container is %s: stop the container before removing or force remove", "/"+c.Name, c.Stage)
	}
	if c.Unreadable != nil {
		return a.removeUnreadable(c, force)
	}
	return a.stop(&stopOptions{remove: true, force: force}, c.ID)
}

func newContainerPruneCommand(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:                   "prune [OPTIONS]",
		Short:                 "Forget all containers that have ended",
		DisableFlagsInUseLine: true,
		Args:                  exactly(0),
		RunE:                  func(*cobra.Command, []string) error { return a.pruneContainers(force) },
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation")
	return cmd
}

// pruneContainers forgets all containers that have ended.
func (a *app) pruneContainers(force bool) error {
	if !force && !a.confirm("WARNING! This will remove all stopped containers.") {
		return errors.New("container prune has been cancelled: nothing was removed; -f does not ask")
	}
	a.heal()
	list, err := a.store.Containers()
	if err != nil {
		return err
	}
	var ended []string
	for _, c := range list {
		if c.Stage == records.Exited {
			ended = append(ended, c.ID)
		}
	}
	if len(ended) > 0 {
		fmt.Fprintln(a.out(true), "Deleted Containers:")
	}
	return a.each(ended, func(id string) error {
		err := a.removeContainer(id, false)
		if err == nil {
			fmt.Fprintln(a.out(true), id)
		}
		return err
	})
}
