package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"dcni/pkg/container"
	"dcni/pkg/host/sandbox"
	"dcni/pkg/records"
)

// execOptions are the flags of `dnet exec`.
type execOptions struct {
	detach, interactive, terminal bool
	env, envFiles                 []string
	workdir, user                 string
}

func newExecCommand(a *app) *cobra.Command {
	o := &execOptions{}
	cmd := &cobra.Command{
		Use:                   "exec [OPTIONS] CONTAINER COMMAND [ARG...]",
		Short:                 "Run one more command in a running container",
		DisableFlagsInUseLine: true,
		Args:                  atLeast(2),
		RunE:                  func(_ *cobra.Command, args []string) error { return a.exec(o, args[0], args[1:]) },
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows CONTAINER is COMMAND's
	f.BoolVarP(&o.detach, "detach", "d", false, "Run command in the background")
	f.StringArrayVarP(&o.env, "env", "e", nil, "Set environment variables")
	f.StringArrayVar(&o.envFiles, "env-file", nil, "Read in a file of environment variables")
	f.StringVarP(&o.user, "user", "u", "", "Username or UID (format: <name|uid>[:<group|gid>]; default: root)")
	f.BoolVarP(&o.interactive, "interactive", "i", false, "Keep STDIN open")
	f.BoolVarP(&o.terminal, "tty", "t", false, "Insist on a terminal, which the command gets as it is")
	f.StringVarP(&o.workdir, "workdir", "w", "", "Working directory (default: the present one)")
	return cmd
}

// exec becomes the command: no dnet process stays between it and the caller.
func (a *app) exec(o *execOptions, word string, args []string) error {
	given, err := a.parseRun(&runOptions{Options: container.Options{Env: o.env, User: o.user}, envFiles: o.envFiles})
	if err != nil {
		return err
	}
	user, err := a.findUser(o.user)
	if err != nil {
		return err
	}
	if o.interactive && o.terminal && !o.detach && !sandbox.IsTerminal(a.stdin) {
		return errors.New("the input device is not a TTY")
	}
	c, err := a.container(word)
	if err != nil {
		return err
	}
	stopped := fmt.Errorf("container %s is not running", c.ID)
	if c.Stage != records.Running {
		return stopped
	}
	env := environment(setVariables(a.env, a.variablesNow(c)), c.Hostname, user, slices.Concat(c.Env, given.Env))
	cmd := sandbox.Command{Args: args, Env: env, Dir: o.workdir, User: credential(user), Join: &c.Process}
	if cmd.Dir == "" {
		if cmd.Dir, err = os.Getwd(); err != nil {
			return err
		}
	}
	if o.detach {
		err = sandbox.Spawn(cmd)
	} else {
		err = sandbox.Enter(cmd, o.interactive) // returns only errors
	}
	failed := &sandbox.ExecError{}
	switch {
	case errors.Is(err, sandbox.ErrGone):
		return stopped
	case errors.As(err, &failed):
		return &statusErr{failed.Status, err}
	}
	return err
}

// container returns the container that a word means. One whose record can't be read is an error.
func (a *app) container(word string) (*records.Container, error) {
	c, err := a.findContainer(word)
	if err == nil && c.Unreadable != nil {
		return nil, unreadable(c)
	}
	return c, err
}

// findContainer returns the container that a word means, see [container.Find].
func (a *app) findContainer(word string) (*records.Container, error) {
	list, err := a.store.Containers()
	if err != nil {
		return nil, err
	}
	names := make([]container.Named, len(list))
	for i, c := range list {
		names[i] = container.Named{ID: c.ID, Name: c.Name}
	}
	i, err := container.Find(names, word)
	if err != nil {
		return nil, err
	}
	return list[i], nil
}
