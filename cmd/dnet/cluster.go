package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dcni/pkg/cluster"
	"dcni/pkg/cluster/start"
	"dcni/pkg/network"
	"dcni/pkg/overlay"
	"dcni/pkg/overlay/remote"
	"dcni/pkg/trust"
)

// Limits of waiting for dclusterd.
const (
	dialTimeout  = 2 * time.Second
	startTimeout = 10 * time.Second
	verbTimeout  = 90 * time.Second // the store's first start takes seconds
)

func newClusterCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster COMMAND",
		Short: "Manage the cluster that overlay networks span",
		Args:  noCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	node := &cobra.Command{
		Use: "node COMMAND", Short: "Manage the cluster's nodes", Args: noCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	node.AddCommand(newNodeListCommand(a), newNodeRemoveCommand(a))
	cmd.AddCommand(
		newInitCommand(a), newJoinCommand(a), newTokenCommand(a), newStatusCommand(a), newLeaveCommand(a), node,
		simpleVerb(a, "members N", "Say how many members the store is to have: 1, 3, 5, or auto (1, and 3 from three nodes on)", 1, membersVerb),
		simpleVerb(a, "rotate", "Have the nodes draw new keys for encrypted networks", 0, func([]string) (string, any, error) { return cluster.Rotate, nil, nil }),
		simpleVerb(a, "renew", "Renew this node's certificate now", 0, func([]string) (string, any, error) { return cluster.Renew, nil, nil }),
		newResetCommand(a), newRestoreCommand(a),
		simpleVerb(a, "snapshot FILE", "Write the store's data to a file", 1, fileVerb(cluster.Snapshot)),
	)
	return cmd
}

// simpleVerb is a command that asks one thing of dclusterd and prints nothing.
func simpleVerb(a *app, use, short string, args int, verb func(args []string) (string, any, error)) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: exactly(args), DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error {
			name, q, err := verb(args)
			if err != nil {
				return err
			}
			return a.askCluster(false, name, q, nil)
		},
	}
}

// membersVerb reads how many members there are to be.
func membersVerb(args []string) (string, any, error) {
	if args[0] == "auto" {
		return cluster.Members, cluster.MembersArgs{}, nil
	}
	n, err := strconv.Atoi(args[0])
	if err != nil || n == 0 {
		return "", nil, fmt.Errorf("members %q: must be 1, 3, 5 or auto", args[0])
	}
	return cluster.Members, cluster.MembersArgs{Count: n}, nil
}

// fileVerb is a verb about a file of the host.
func fileVerb(verb string) func([]string) (string, any, error) {
	return func(args []string) (string, any, error) {
		path, err := filepath.Abs(args[0])
		return verb, cluster.FileArgs{Path: path}, err
	}
}

// dialCluster connects to dclusterd. Where none runs, it is started if the host is a node,
// or is about to be one.
func (a *app) dialCluster(begin bool) (*remote.Client, error) {
	home := a.store.Cluster()
	dial := func() (*remote.Client, error) {
		c, err := remote.Dial(home.Socket(), dialTimeout)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
		defer cancel()
		if _, err := c.Self(ctx); err != nil { // it is ending
			_ = c.Close()
			return nil, err
		}
		return c, nil
	}
	c, err := dial()
	if !errors.Is(err, overlay.ErrUnavailable) {
		return c, err
	}
	if !begin && !home.Joined() {
		return nil, network.Refuse(network.Forbidden, "this host is in no cluster: `dnet cluster init` makes one, and `dnet cluster join` joins one")
	}
	s := start.Starter{Store: a.store, ConfDir: a.conf, Answers: func() bool {
		c, err := dial()
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}}
	if err := s.Start(startTimeout); err != nil {
		return nil, err
	}
	return dial()
}

// askCluster asks dclusterd.
func (a *app) askCluster(start bool, verb string, args, into any) error {
	a.waiting("waiting for the cluster: %s", verb)
	defer a.waits.clear()
	c, err := a.dialCluster(start)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), verbTimeout)
	defer cancel()
	return c.Admin(ctx, verb, args, into)
}

// nodeFlags are the flags of init and join.
type nodeFlags struct {
	cluster.Self
	dataDir                               string
	etcd                                  []string
	etcdCA, etcdCert, etcdKey, etcdPrefix string
}

func (f *nodeFlags) declare(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.Advertise, "advertise", "", "Address, or interface, where other nodes reach this one (default: of the default route, or to the node joined at)")
	flags.StringVar(&f.Name, "node", "", "Name of this node (default: the host's)")
	flags.StringVar(&f.dataDir, "data-dir", "", "Folder for the data of the store's member, in a folder dcni-member (default /var/lib/dcni/cluster/member)")
	flags.StringSliceVar(&f.etcd, "etcd", nil, "URLs of an etcd to use in place of one of the cluster's own")
	flags.StringVar(&f.etcdCA, "etcd-ca", "", "File with the CA of that etcd")
	flags.StringVar(&f.etcdCert, "etcd-cert", "", "File with the certificate to show to it")
	flags.StringVar(&f.etcdKey, "etcd-key", "", "File with the key of that")
	flags.StringVar(&f.etcdPrefix, "etcd-prefix", "", "What the cluster's keys begin with (default /dcni/1/default/)")
}

// external returns the etcd that the flags name; nil if they name none.
func (f *nodeFlags) external() (*cluster.External, error) {
	if len(f.etcd) == 0 {
		if f.etcdCA+f.etcdCert+f.etcdKey+f.etcdPrefix != "" {
			return nil, errors.New("--etcd-ca, --etcd-cert, --etcd-key and --etcd-prefix go with --etcd")
		}
		return nil, nil
	}
	e := &cluster.External{Endpoints: f.etcd, Prefix: f.etcdPrefix}
	for _, file := range []struct {
		flag, path string
		into       *string
	}{{"--etcd-ca", f.etcdCA, &e.CA}, {"--etcd-cert", f.etcdCert, &e.Cert}, {"--etcd-key", f.etcdKey, &e.Key}} {
		if file.path == "" {
			continue
		}
		abs, err := filepath.Abs(file.path)
		if err == nil {
			_, err = os.Stat(abs)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file.flag, err)
		}
		*file.into = abs
	}
	return e, nil
}

// dir returns the folder of --data-dir as dclusterd understands it, which is elsewhere.
func (f *nodeFlags) dir() (string, error) {
	if f.dataDir == "" {
		return "", nil
	}
	return filepath.Abs(f.dataDir)
}

// given reports whether any of the flags is.
func (f *nodeFlags) given() bool {
	return len(f.etcd) > 0 || f.Name+f.Advertise+f.dataDir+f.etcdCA+f.etcdCert+f.etcdKey+f.etcdPrefix != ""
}

func newInitCommand(a *app) *cobra.Command {
	var f nodeFlags
	var again cluster.InitArgs
	cmd := &cobra.Command{
		Use: "init [OPTIONS]", Short: "Make a cluster with this host as its first node", Args: exactly(0), DisableFlagsInUseLine: true,
		RunE: func(*cobra.Command, []string) error {
			switch {
			case again.Recover && f.given():
				return errors.New("--recover: of the other flags only --force goes with it: the host stays the node that it is")
			case again.Recover:
				return a.clusterRecover(again)
			case again.Force:
				return errors.New("--force goes with --recover")
			}
			return a.clusterInit(f)
		},
	}
	f.declare(cmd)
	cmd.Flags().BoolVar(&again.Recover, "recover", false, "Make this cluster's store anew: the nodes put into it what they run")
	cmd.Flags().BoolVarP(&again.Force, "force", "f", false, "With --recover: also if the store answers")
	return cmd
}

// clusterRecover makes a new store for this host's cluster.
func (a *app) clusterRecover(q cluster.InitArgs) error {
	var made cluster.Made
	if err := a.askCluster(false, cluster.Init, q, &made); err != nil {
		return err
	}
	fmt.Fprintf(a.out(true), "The store of cluster %s is new: each node puts into it what it runs.\n", made.Cluster)
	return nil
}

// newResetCommand is of a verb that replaces the store.
func newResetCommand(a *app) *cobra.Command {
	var q cluster.ForceArgs
	cmd := &cobra.Command{
		Use: "reset [OPTIONS]", Short: "Have this host's member be the whole store: the other members are lost", Args: exactly(0), DisableFlagsInUseLine: true,
		RunE: func(*cobra.Command, []string) error { return a.askCluster(false, cluster.Reset, q, nil) },
	}
	cmd.Flags().BoolVarP(&q.Force, "force", "f", false, "Also if the store answers")
	return cmd
}

func newRestoreCommand(a *app) *cobra.Command {
	var q cluster.FileArgs
	cmd := &cobra.Command{
		Use: "restore [OPTIONS] FILE", Short: "Make the store what a snapshot has: the nodes add what they run", Args: exactly(1), DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) (err error) {
			if q.Path, err = filepath.Abs(args[0]); err != nil {
				return err
			}
			return a.askCluster(false, cluster.Restore, q, nil)
		},
	}
	cmd.Flags().BoolVarP(&q.Force, "force", "f", false, "Also if the store answers")
	return cmd
}

func (a *app) clusterInit(f nodeFlags) error {
	external, err := f.external()
	if err != nil {
		return err
	}
	dir, err := f.dir()
	if err != nil {
		return err
	}
	var made cluster.Made
	if err := a.askCluster(true, cluster.Init, cluster.InitArgs{Self: f.Self, DataDir: dir, External: external}, &made); err != nil {
		return err
	}
	fmt.Fprintf(a.out(true), "Cluster %s made: this host is node %s, at %s.\n", made.Cluster, made.Node, made.Address)
	if external != nil {
		fmt.Fprintf(a.out(true), "\nTo add a node, run this on its host, with a certificate of that etcd:\n\n    dnet cluster join --etcd %s ...\n\n", strings.Join(f.etcd, ","))
		return nil
	}
	var t cluster.TokenReply
	if err := a.askCluster(false, cluster.Token, cluster.TokenArgs{Kind: trust.Client, TTL: defaultTTL}, &t); err != nil {
		return err
	}
	fmt.Fprintf(a.out(true), "\nTo add one node within a day, run this on its host:\n\n    dnet cluster join %s --token %s\n\n"+
		"'dnet cluster token' makes a token for each further node.\n", t.Door, t.Token)
	return nil
}

func newJoinCommand(a *app) *cobra.Command {
	var f nodeFlags
	var token string
	cmd := &cobra.Command{
		Use: "join [OPTIONS] HOST[:PORT]", Short: "Make this host a node of a cluster", DisableFlagsInUseLine: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(f.etcd) > 0 {
				return exactly(0)(cmd, args)
			}
			return exactly(1)(cmd, args)
		},
		RunE: func(_ *cobra.Command, args []string) error { return a.clusterJoin(f, token, args) },
	}
	f.declare(cmd)
	cmd.Flags().StringVar(&token, "token", "", "What 'dnet cluster token' printed on a node of the cluster")
	return cmd
}

func (a *app) clusterJoin(f nodeFlags, token string, args []string) error {
	external, err := f.external()
	if err != nil {
		return err
	}
	dir, err := f.dir()
	if err != nil {
		return err
	}
	q := cluster.JoinArgs{Self: f.Self, Token: token, DataDir: dir, External: external}
	switch {
	case external == nil && token == "":
		return errors.New("--token: must be given: `dnet cluster token` on a node of the cluster makes one")
	case external != nil && token != "":
		return errors.New("--token: must not be given with --etcd: that etcd says who may be a node")
	case external == nil:
		q.Address = args[0]
	}
	var made cluster.Made
	if err := a.askCluster(true, cluster.Join, q, &made); err != nil {
		return err
	}
	fmt.Fprintf(a.out(true), "This host joined cluster %s as node %s, at %s.\n", made.Cluster, made.Node, made.Address)
	for _, w := range made.Warnings {
		a.warn("%s", w)
	}
	return nil
}

// defaultTTL is how long a token is good.
const defaultTTL = 24 * time.Hour

func newTokenCommand(a *app) *cobra.Command {
	var member bool
	q := cluster.TokenArgs{Kind: trust.Client}
	cmd := &cobra.Command{
		Use: "token [OPTIONS]", Short: "Make a token with which one host can join", Args: exactly(0), DisableFlagsInUseLine: true,
		RunE: func(*cobra.Command, []string) error {
			if member {
				q.Kind = trust.Member
			}
			var t cluster.TokenReply
			if err := a.askCluster(false, cluster.Token, q, &t); err != nil {
				return err
			}
			fmt.Fprintln(a.out(true), t.Token)
			return nil
		},
	}
	cmd.Flags().BoolVar(&member, "member", false, "Give the host the CA's key: further hosts can join there, too")
	cmd.Flags().DurationVar(&q.TTL, "ttl", defaultTTL, "How long it is good, 1m to 8760h")
	return cmd
}

func newLeaveCommand(a *app) *cobra.Command {
	var q cluster.LeaveArgs
	cmd := &cobra.Command{
		Use: "leave [OPTIONS]", Short: "Take this host out of its cluster", Args: exactly(0), DisableFlagsInUseLine: true,
		RunE: func(*cobra.Command, []string) error {
			if err := a.askCluster(false, cluster.Leave, q, nil); err != nil {
				return err
			}
			fmt.Fprintln(a.out(true), "This host left the cluster.")
			return nil
		},
	}
	cmd.Flags().BoolVarP(&q.Force, "force", "f", false, "Also with containers on its networks, with the last member of the store, or if the store is away")
	return cmd
}
