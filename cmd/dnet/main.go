// Command dnet is the command line for networks: `docker network X` is
// `dnet X`.
//
// There is no daemon behind it. A network is a file that every CNI runtime
// reads, and dnet reads and writes such files. Which containers are attached
// dnet reads from the records that the plugins keep. Each command has one file
// here, which reads flags and prints. Decisions are in packages.
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
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"dcni/pkg/cni"
	"dcni/pkg/container"
	"dcni/pkg/doctor"
	"dcni/pkg/firewall"
	"dcni/pkg/host"
	"dcni/pkg/host/condition"
	"dcni/pkg/host/sandbox"
	"dcni/pkg/records"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// Exit statuses, which are Docker's.
const (
	statusError = 1   // what was asked for can't be done
	statusUsage = 125 // a flag that is unknown or has no such value
)

// confDirVariable is the environment variable that names the directory of
// networks in place of /etc/cni/net.d. cnitool and nerdctl read the same one.
const confDirVariable = "NETCONFPATH"

// An app is what all commands work with. No command but main looks at the
// process's own files, arguments and environment.
type app struct {
	store  records.Store
	conf   records.ConfDir
	args   []string // the command line without the program's name
	env    []string // NAME=VALUE
	stdin  *os.File
	stdout *os.File
	stderr *os.File
	root   string // the host's files are below it
	unsaid unsaid // what could not be written to stdout
	waits  *waits // the line on a terminal that says what is being waited for; nil: none
	// detached says that this process does in the background what another dnet
	// was asked for.
	detached bool
	openHost func(records.Store) (machine, error)
	// condition reads what the host is like for doctor.
	condition func() (doctor.Facts, error)
}

// A machine is the host's kernel, as far as dnet looks at it and changes it.
type machine interface {
	wire.Host
	cni.Facts
	cni.Donors
	cni.Inhabitants
	// OpenNetNS opens a sandbox. The error has code 8 when there is none at that path.
	OpenNetNS(netns string) (wire.Sandbox, error)
	// HasLink reports whether a namespace has a link of that name.
	HasLink(netns, name string) (bool, error)
	cni.Changes
	// RemoveUnusedRules deletes the base rules if no network is in them.
	RemoveUnusedRules() error
	// EnsureIngress makes the ports of a network's services so, and returns those that can't be had.
	EnsureIngress(n service.Network) (*firewall.RefusedError, error)
	Close()
}

// openHost opens the host that dnet runs on.
func openHost(store records.Store) (machine, error) { return host.New(store) }

// getenv returns a variable of the environment, "" if it is not set.
func (a *app) getenv(name string) string {
	for _, kv := range a.env {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			return v
		}
	}
	return ""
}

// A statusErr ends dnet with a status. err is nil if it was printed before.
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
		store: records.Default(), conf: records.DefaultConfDir(),
		args: os.Args[1:], env: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		waits: &waits{}, root: "/", detached: sandbox.IsDetached(), openHost: openHost, condition: condition.Read,
	}
	os.Exit(a.run())
}

// run runs the command that the arguments name and returns the exit status.
func (a *app) run() int {
	if dir := a.getenv(confDirVariable); dir != "" {
		a.conf = records.ConfDir(dir)
	}
	root := a.command()
	args, err := withoutNetwork(a.args)
	defer a.waits.clear()
	if err == nil {
		root.SetArgs(args)
		err = root.Execute()
	}
	if a.unsaid.err != nil && (err == nil || errors.Is(err, a.unsaid.err)) {
		a.printError(&a.unsaid)
		return statusError
	}
	if err == nil {
		return 0
	}
	status := statusError
	var e *statusErr
	if errors.As(err, &e) {
		status, err = e.status, e.err
	}
	if err != nil {
		a.printError(err)
	}
	return status
}

// An unsaid is the first error of writing to stdout, as on a full disk.
type unsaid struct {
	err error
	did bool // it was to say what a command did
}

func (u *unsaid) Error() string {
	text := "standard output: " + u.err.Error()
	if u.did {
		text += ": what was done stays so, and dnet ls and dnet ps show what there is"
	}
	return text
}

// out returns stdout for what a command prints. What can't be written ends dnet with status 1.
// did says that it tells of what the command did.
func (a *app) out(did bool) io.Writer { return sayer{a, did} }

type sayer struct {
	*app
	did bool
}

func (o sayer) Write(data []byte) (int, error) {
	o.waits.clear()
	n, err := o.stdout.Write(data)
	if err != nil && o.unsaid.err == nil {
		o.unsaid = unsaid{err, o.did}
		if path := (*fs.PathError)(nil); errors.As(err, &path) {
			o.unsaid.err = path.Err
		}
	}
	return n, err
}

// printError prints an error to stderr. If permission was missing, it adds what
// would help.
func (a *app) printError(err error) {
	a.waits.clear()
	hint := ""
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		hint = ": run as root"
	}
	fmt.Fprintf(a.stderr, "dnet: %v%s\n", err, hint)
}

// warn prints a warning to stderr.
func (a *app) warn(format string, args ...any) {
	a.waits.clear()
	fmt.Fprintf(a.stderr, "dnet: warning: "+format+"\n", args...)
}

// waits is a line at the end of a terminal that says what takes long. It is erased before all
// else that is written, and at the end.
type waits struct {
	mu    sync.Mutex
	to    *os.File
	text  string
	since time.Time // when the first wait began
	timer *time.Timer
	shown bool
}

// showAfter is how long a command may take before it says what it waits for, and lineWidth how
// many letters of that are shown: a line that a terminal breaks can't be erased.
const (
	showAfter = time.Second
	lineWidth = 70
)

// waiting shows what the command is at, on a terminal, once the command has waited for longer
// than a moment.
func (a *app) waiting(format string, args ...any) {
	w := a.waits
	if w == nil || !sandbox.IsTerminal(a.stderr) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.to, w.text = a.stderr, container.Shorten(fmt.Sprintf(format, args...), lineWidth)
	if w.since.IsZero() {
		w.since = time.Now()
	}
	w.stop()
	w.timer = time.AfterFunc(showAfter-time.Since(w.since), w.show)
}

// stop stops the timer. The caller holds the lock.
func (w *waits) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (w *waits) show() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.text != "" {
		w.shown = true
		fmt.Fprintf(w.to, "\r%s ...\x1b[K", w.text)
	}
}

// clear erases the line.
func (w *waits) clear() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stop()
	if w.shown {
		fmt.Fprint(w.to, "\r\x1b[K")
	}
	w.shown, w.text = false, ""
}

// more are commands of a dnet that is built with tags.
var more []func() *cobra.Command

// command returns the root command. Each other command is one line here.
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
			dir, err := filepath.Abs(string(a.conf)) // the registry remembers the path
			a.conf = records.ConfDir(dir)
			return err
		},
	}
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
		newAPICommand(a),
		newConnectCommand(a),
		newCreateCommand(a),
		newDisconnectCommand(a),
		newInspectCommand(a),
		newListCommand(a),
		newPruneCommand(a),
		newRemoveCommand(a),
		newRunCommand(a),
		newExecCommand(a),
		newPsCommand(a),
		newStopCommand(a),
		newStartCommand(a),
		newRestartCommand(a),
		newLogsCommand(a),
		newWaitCommand(a),
		newContainerCommand(a),
		newClusterCommand(a),
		newServiceCommand(a),
		newDoctorCommand(a),
		newGraphCommand(a),
		newPortCommand(a),
		newPortsCommand(a),
		newStatsCommand(a),
		newEventsCommand(a),
		newImportCommand(a),
		newExportCommand(a),
	)
	for _, command := range more {
		root.AddCommand(command())
	}
	addExamples(root)
	a.addCompletions(root)
	return root
}

// noCommand refuses arguments of the root command: they name no command.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("unknown command: %s %s\n\n%s", cmd.Name(), args[0], usage(cmd))
}

// exactly refuses any other number of arguments than n, in Docker's words.
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

// atLeast refuses fewer arguments than n, in Docker's words.
func atLeast(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= n {
			return nil
		}
		return fmt.Errorf("'%s' requires at least %d %s\n\n%s", cmd.CommandPath(), n, plural("argument", n), usage(cmd))
	}
}

// between refuses fewer arguments than least, and more than most, in Docker's words.
func between(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= most {
			return nil
		}
		return fmt.Errorf("'%s' requires at least %d and at most %d %s\n\n%s", cmd.CommandPath(), least, most, plural("argument", most), usage(cmd))
	}
}

func plural(word string, n int) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// usage returns how a command is used, for the end of an error about its arguments.
func usage(cmd *cobra.Command) string {
	return fmt.Sprintf("Usage:  %s\n\nRun '%s --help' for more information", cmd.UseLine(), cmd.CommandPath())
}
