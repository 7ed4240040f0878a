// Command dcni-node is what the container image for Kubernetes starts: it puts the plugins on the node,
// runs dnetd there, and takes the plugins away again. docs/kubernetes.md is its manual.
//
//	dcni-node install --bin DIR --conf FILE --network FILE [--node NAME]
//	dcni-node serve [FLAGS of dnetd serve]
//	dcni-node ready | alive
//	dcni-node host PROGRAM [ARG...]
//	dcni-node remove --bin DIR --conf FILE
//	dcni-node wait
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"dcni/pkg/cni"
	"dcni/pkg/host/mntns"
)

// imagePlugins is where the image has the plugins.
const imagePlugins = "/opt/cni/bin"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "dcni-node:", err)
		os.Exit(1)
	}
}

// errUsage is for a command line that is none.
var errUsage = errors.New("say install, serve, ready, alive, host, remove or wait; docs/kubernetes.md is the manual")

func run(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) == 0 {
		return errUsage
	}
	verb, args := args[0], args[1:]
	switch verb {
	case "install", "remove":
		n, err := parse(verb, args, stdout)
		if err != nil {
			return err
		}
		if verb == "install" {
			return n.install()
		}
		return n.remove(ctx)
	case "serve":
		return serve(ctx, args)
	case "ready":
		return ready()
	case "alive":
		return alive()
	case "host":
		return host(args)
	case "wait": // the container of a pod that has done its work in an init container
		<-ctx.Done()
		return nil
	case "--version":
		fmt.Fprintln(stdout, "dcni-node", cni.Version)
		return nil
	}
	return fmt.Errorf("%q: %w", verb, errUsage)
}

// A node is where the host's folders are in this container.
type node struct {
	bin     string // of the plugins
	conf    string // the network's file, which runtimes read
	network string // the configuration, from the ConfigMap; empty for removal
	name    string // as Kubernetes has it; empty where no podCIDR is asked for
	from    string // where the image has the plugins
	out     io.Writer

	podCIDRs func() ([]string, error) // asks the API server for those of the node
}

func parse(verb string, args []string, out io.Writer) (*node, error) {
	n := &node{from: imagePlugins, out: out}
	n.podCIDRs = func() ([]string, error) {
		address, err := apiServer(os.Getenv)
		if err == nil && n.name == "" {
			err = errors.New("--node: must be there, for podCIDR is that node's")
		}
		if err != nil {
			return nil, err
		}
		return askPodCIDRs(address, secrets, n.name)
	}
	f := flag.NewFlagSet("dcni-node "+verb, flag.ContinueOnError)
	f.SetOutput(out)
	f.StringVar(&n.bin, "bin", "", "`folder` of the node's plugins")
	f.StringVar(&n.conf, "conf", "", "`file` of the network on the node, which ends in .conflist")
	if verb == "install" {
		f.StringVar(&n.network, "network", "", "`file` that has the network's configuration")
		f.StringVar(&n.name, "node", "", "the node's `name`, where that configuration says podCIDR")
	}
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	switch {
	case f.NArg() > 0:
		return nil, fmt.Errorf("unknown argument %q: %s takes flags only", f.Arg(0), verb)
	case n.bin == "" || n.conf == "" || verb == "install" && n.network == "":
		return nil, fmt.Errorf("%s wants all of its flags", verb)
	}
	return n, nil
}

// host turns this process into a program of the image among the host's files: dnetd, or dnet for
// `kubectl exec`.
func host(args []string) error {
	if len(args) == 0 {
		return errors.New("host wants a program of the image, as in: dcni-node host dnet ps")
	}
	program, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	return mntns.Exec(mntns.Host, program, args, os.Environ())
}
