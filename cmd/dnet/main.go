// Command dnet is the command line for networks: `docker network X` is
// `dnet X`.
//
// There is no daemon behind it. A network is a file that every CNI runtime
// reads, and dnet reads and writes such files; who is attached it reads from
// the records that the plugins keep. There is one file for each command:
// flags in, words out. What it decides is in packages.
//
// README.md beside this file is its manual.
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"dcni/pkg/cni"
	"dcni/pkg/host/sandbox"
	"dcni/pkg/records"
)

// Exit statuses, which are Docker's.
const (
	statusError = 1   // what was asked for can't be done
	statusUsage = 125 // a flag that is unknown or has no such value
)

// confDirVariable names the directory of networks in place of /etc/cni/net.d:
// cnitool's and nerdctl's word for it.
const confDirVariable = "NETCONFPATH"

// An app is what all commands work with.
type app struct {
	store  records.Store
	conf   records.ConfDir
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

// A statusErr ends dnet with a status; a nil error has been told already.
type statusErr struct {
	status int
	err    error
}

func (e *statusErr) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

func (e *statusErr) Unwrap() error { return e.err }

func main() {
	if len(os.Args) == 3 && os.Args[1] == sandbox.MainArg {
		os.Exit(sandbox.Main(os.Args[2]))
	}
	a := &app{
		store: records.Default(), conf: records.DefaultConfDir,
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
	}
	if dir := os.Getenv(confDirVariable); dir != "" {
		a.conf = records.ConfDir(dir)
	}
	os.Exit(a.run(os.Args[1:]))
}

// run runs one command and returns the exit status.
func (a *app) run(args []string) int {
	root := a.command()
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return 0
	}
	status := statusError
	var e *statusErr
	if errors.As(err, &e) {
		status, err = e.status, e.err
	}
	if err != nil {
		a.tell(err)
	}
	return status
}

// tell says what went wrong, and what would help where it was for want of
// permission.
func (a *app) tell(err error) {
	hint := ""
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		hint = ": run as root"
	}
	fmt.Fprintf(a.stderr, "dnet: %v%s\n", err, hint)
}

// command returns the root command, with a line here for each of the others.
func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "dnet",
		Short:         "Docker's networks for every CNI runtime",
		Version:       cni.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			dir, err := filepath.Abs(string(a.conf)) // the registry remembers it
			a.conf = records.ConfDir(dir)
			return err
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().StringVar((*string)(&a.conf), "conf-dir", string(a.conf),
		"Directory of network configurations (environment: "+confDirVariable+")")
	root.SetVersionTemplate("dnet version {{.Version}}\n")
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &statusErr{statusUsage, fmt.Errorf("%w\n\n%s", err, usage(cmd))}
	})
	root.AddCommand(
		newCreateCommand(a),
		newInspectCommand(a),
		newListCommand(a),
		newRemoveCommand(a),
		newRunCommand(a),
		newExecCommand(a),
		newPsCommand(a),
		newStopCommand(a),
	)
	return root
}

// noCommand says that the root command takes no argument of its own.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("unknown command: %s %s\n\n%s", cmd.Name(), args[0], usage(cmd))
}

// exactly wants n arguments, in Docker's words.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == n:
			return nil
		case n == 0:
			return fmt.Errorf("'%s' accepts no arguments\n\n%s", cmd.CommandPath(), usage(cmd))
		}
		return fmt.Errorf("'%s' requires %d %s\n\n%s", cmd.CommandPath(), n, plural("argument", n), usage(cmd))
	}
}

// atLeast wants n arguments or more.
func atLeast(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= n {
			return nil
		}
		return fmt.Errorf("'%s' requires at least %d %s\n\n%s", cmd.CommandPath(), n, plural("argument", n), usage(cmd))
	}
}

func plural(word string, n int) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// usage is what an error about a command line ends with.
func usage(cmd *cobra.Command) string {
	return fmt.Sprintf("Usage:  %s\n\nRun '%s --help' for more information", cmd.UseLine(), cmd.CommandPath())
}
