package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"dcni/pkg/host/offload"
	"dcni/pkg/overlay"
	"dcni/pkg/overlay/remote"
	"dcni/pkg/records"
)

// cmdCluster makes a cluster of nodes: the first inits it, the others join there, one
// after another, each with a token of its own.
func cmdCluster(ts *testscript.TestScript, neg bool, args []string) {
	v6 := len(args) > 0 && args[0] == "-6"
	if v6 {
		args = args[1:]
	}
	if neg || len(args) == 0 {
		ts.Fatalf("usage: cluster [-6] NODE...")
	}
	var nodes []*session
	for _, name := range args {
		nodes = append(nodes, node(ts, name))
	}
	first := nodes[0]
	_, err := first.dnet("cluster", "init", "--advertise", first.address(v6))
	for _, n := range nodes[1:] {
		token, failed := first.dnet("cluster", "token")
		if err = errors.Join(err, failed); err != nil {
			break
		}
		_, err = n.dnet("cluster", "join", net.JoinHostPort(first.address(v6), "2378"), "--token", token, "--advertise", n.address(v6))
	}
	ts.Check(err)
}

// address is a node's on the wire.
func (s *session) address(v6 bool) string {
	if v6 {
		return s.IPv6.String()
	}
	return s.IPv4.String()
}

// dnet runs the command in a node.
func (s *session) dnet(args ...string) (said string, err error) {
	err = s.script.visit(s, func() error {
		out, err := dnet(args...).Output()
		said = strings.TrimSpace(string(out))
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return fmt.Errorf("%s: dnet %s: %w: %s", s.name, strings.Join(args, " "), err, exit.Stderr)
		}
		return err
	})
	return said, err
}

// cmdKeys prints what a node's dclusterd says the store has.
func cmdKeys(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 || len(args) > 2 {
		ts.Fatalf("usage: keys NODE [PREFIX]")
	}
	n, out := node(ts, args[0]), ts.Stdout() // taken also where nothing is printed
	finish(ts, neg, n.script.visit(n, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		store, err := remote.Dial(records.Default().Cluster().Socket(), patience)
		if err != nil {
			return err
		}
		self, err := store.Self(ctx)
		if err == nil {
			_, err = store.List(ctx, self.Prefix+strings.Join(args[1:], ""), func(e overlay.Entry) error {
				_, err := fmt.Fprintln(out, strings.TrimPrefix(e.Key, self.Prefix), string(e.Value))
				return err
			})
		}
		return errors.Join(err, store.Close())
	}))
}

// cmdSums prints who computes the checksums of what goes out by a link, or has the kernel do so.
func cmdSums(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 || len(args) > 2 || len(args) == 2 && args[1] != "kernel" {
		ts.Fatalf("usage: sums LINK [kernel]")
	}
	out := ts.Stdout()
	if len(args) == 2 {
		ts.Check(offload.Off(args[0]))
		return
	}
	link, err := offload.IsOn(args[0])
	ts.Check(err)
	_, err = fmt.Fprintln(out, map[bool]string{true: "link", false: "kernel"}[link])
	ts.Check(err)
}
