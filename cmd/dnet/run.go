package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"dcni/pkg/container"
	"dcni/pkg/host/sandbox"
)

// runOptions are the flags of `dnet run`.
type runOptions struct {
	container.Options
	detach, remove        bool
	interactive, terminal bool
	services              []string
	envFiles, labelFiles  []string // paths
	cidFile               string
}

func newRunCommand(a *app) *cobra.Command {
	o := &runOptions{}
	cmd := &cobra.Command{
		Use:                   "run [OPTIONS] COMMAND [ARG...]",
		Short:                 "Run a command in a network sandbox of its own, on the host's file system",
		DisableFlagsInUseLine: true,
		Args:                  atLeast(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.runCommand(o, args)
		},
	}
	o.declare(cmd)
	return cmd
}

// declare declares Docker's flags.
func (o *runOptions) declare(cmd *cobra.Command) {
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows COMMAND is COMMAND's
	f.SortFlags = false
	f.StringArrayVar(&o.Networks, "network", nil, "Connect to a network; repeat it for more (default bridge)")
	f.StringVar(&o.Name, "name", "", "Assign a name to the container")
	f.StringArrayVarP(&o.Publish, "publish", "p", nil, "Publish a container's port(s) to the host")
	f.BoolVarP(&o.PublishAll, "publish-all", "P", false, "Publish all exposed ports to random ports")
	f.StringVar(&o.IP, "ip", "", "IPv4 address (e.g., 172.30.100.104)")
	f.StringVar(&o.IP6, "ip6", "", "IPv6 address (e.g., 2001:db8::33)")
	f.StringVar(&o.MAC, "mac-address", "", "Container MAC address (e.g., 92:d0:c6:0a:29:33)")
	f.StringArrayVar(&o.Aliases, "network-alias", nil, "Add network-scoped alias for the container")
	f.StringArrayVar(&o.services, "service", nil, "Be a task of a service; repeat it for more")
	f.StringArrayVar(&o.Links, "link", nil, "Add link to another container")
	f.StringArrayVar(&o.Expose, "expose", nil, "Expose a port or a range of ports to containers that link to this one")
	f.StringVarP(&o.Hostname, "hostname", "h", "", "Container host name")
	f.StringArrayVar(&o.AddHosts, "add-host", nil, "Add a custom host-to-IP mapping (host:ip)")
	f.StringArrayVar(&o.DNS, "dns", nil, "Set custom DNS servers")
	f.StringArrayVar(&o.DNSSearch, "dns-search", nil, "Set custom DNS search domains")
	f.StringArrayVar(&o.DNSOptions, "dns-option", nil, "Set DNS options")
	f.StringArrayVarP(&o.Env, "env", "e", nil, "Set environment variables")
	f.StringArrayVar(&o.envFiles, "env-file", nil, "Read in a file of environment variables")
	f.StringVarP(&o.User, "user", "u", "", "Username or UID (format: <name|uid>[:<group|gid>])")
	f.StringArrayVarP(&o.Labels, "label", "l", nil, "Set meta data on a container")
	f.StringArrayVar(&o.labelFiles, "label-file", nil, "Read in a line delimited file of labels")
	f.StringVar(&o.cidFile, "cidfile", "", "Write the container ID to the file")
	f.StringVar(&o.Restart, "restart", "no", "Restart policy: only no, there is no daemon that would restart it")
	f.StringVarP(&o.Workdir, "workdir", "w", "", "Working directory (default: the present one)")
	f.BoolVarP(&o.interactive, "interactive", "i", false, "Keep STDIN open")
	f.BoolVarP(&o.terminal, "tty", "t", false, "Insist on a terminal, which the command gets as it is")
	f.BoolVarP(&o.detach, "detach", "d", false, "Run in background and print container ID")
	f.BoolVar(&o.remove, "rm", false, "Forget the container when it ends")
	f.Bool("help", false, "Print usage")
	for old, name := range map[string]string{"net": "network", "net-alias": "network-alias", "dns-opt": "dns-option"} {
		f.Var(f.Lookup(name).Value, old, "") // one value: what both say adds up
		f.Lookup(old).Hidden = true
	}
}

// runCommand runs a container and ends with the container's status.
func (a *app) runCommand(o *runOptions, args []string) error {
	spec, err := a.parseRun(o)
	if err != nil {
		return &statusErr{statusUsage, err}
	}
	if o.interactive && o.terminal && !o.detach && !sandbox.IsTerminal(a.stdin) {
		return &statusErr{statusError, errors.New("the input device is not a TTY")}
	}
	if o.detach && !a.detached {
		return a.runDetached()
	}
	r := &containerRun{app: a, spec: spec, opts: o, args: args}
	if status, err := r.run(); err != nil || status != 0 {
		return &statusErr{status, err}
	}
	return nil
}

// maxEnvFile is how long a file of variables or labels may be, in bytes.
const maxEnvFile = 1 << 20

// parseRun reads the flags, and the files that they name.
func (a *app) parseRun(o *runOptions) (*container.Spec, error) {
	o.EnvFiles, o.LabelFiles = nil, nil
	for _, list := range []struct {
		paths []string
		texts *[]string
	}{{o.envFiles, &o.EnvFiles}, {o.labelFiles, &o.LabelFiles}} {
		for _, path := range list.paths {
			text, _, err := a.readInput(path, maxEnvFile)
			if err != nil {
				return nil, err
			}
			*list.texts = append(*list.texts, string(text))
		}
	}
	if o.cidFile != "" {
		if _, err := os.Lstat(o.cidFile); err == nil {
			return nil, cidFileFound(o.cidFile)
		}
	}
	return o.Parse()
}

// runDetached has a second dnet do the same in the background, and prints the ID
// of the container that it started.
func (a *app) runDetached() error {
	id, status, err := sandbox.Detach(a.args, a.stderr)
	switch {
	case err != nil:
		return &statusErr{statusUsage, err}
	case id == "":
		return &statusErr{max(status, statusError), nil} // the second dnet printed the error
	}
	fmt.Fprintln(a.out(true), id)
	return nil
}
