// Command scale measures what the control plane of overlay networks costs as a cluster
// grows, and prints tables:
//
//	make scale SCALE='-nodes 50,100,200 -time 10s -o FILE'
//
// All nodes are in this process, each with an etcd client of its own, the claims that
// the plugin makes, and the followers that dnetd has. A host that only counts is in the
// kernel's place. The one etcd member is a process of its own, so that its memory and
// its CPU time are its own. All of it listens on 127.0.0.1.
//
// A cluster is measured in six steps: all nodes claim their endpoints at once; all list
// their networks at once, as after a power cut; followers begin; endpoints come and go at
// a steady rate; all say which keys they have, as where all are on encrypted networks, and
// one more comes; and the member is killed and started again. In the cluster whose nodes
// are all on one network, one node of ten is a follower and the others only hear of
// changes: all share this machine's processors, and each would make a picture of 10,000
// endpoints.
//
// Last, as root, the memory of the programs themselves is measured, in namespaces of
// their own.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	if len(os.Args) > 2 && helpers[os.Args[1]] != nil {
		exit(helpers[os.Args[1]](os.Args[2:]))
	}
	o := options{}
	sizes := flag.String("nodes", "50,100,200", "sizes of clusters with 20 networks, each node on 2")
	flag.IntVar(&o.together, "together", 200, "nodes of the cluster with one network, 0: none")
	flag.IntVar(&o.endpoints, "endpoints", 50, "endpoints of a node")
	flag.IntVar(&o.rate, "rate", 100, "changes a second, half of them claims and half releases")
	flag.DurationVar(&o.time, "time", 10*time.Second, "how long endpoints come and go")
	flag.StringVar(&o.bin, "bin", "bin", "directory of the programs")
	flag.StringVar(&o.out, "o", "", "also write the table to this file")
	flag.Parse()
	exit(o.run(*sizes))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// helpers are what scale executes itself for.
var helpers = map[string]func([]string) error{"member": memberMain, "memory": memoryMain}

type options struct {
	together, endpoints, rate int
	time                      time.Duration
	bin, out                  string
}

// run measures all clusters.
func (o options) run(sizes string) error {
	var shapes []shape
	for _, s := range strings.Split(sizes, ",") {
		if s == "" {
			continue
		}
		n, err := strconv.Atoi(s)
		if err != nil || n < 2 {
			return fmt.Errorf("-nodes %q: must be numbers of 2 or more", sizes)
		}
		shapes = append(shapes, shape{nodes: n, networks: 20, each: 2, endpoints: o.endpoints, every: max(1, n/allFollow)})
	}
	if o.together > 0 {
		shapes = append(shapes, shape{nodes: o.together, networks: 1, each: 1, endpoints: o.endpoints, every: 10})
	}
	var all []result
	for _, s := range shapes {
		r, err := o.measure(context.Background(), s)
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		all = append(all, r)
	}
	to := io.Writer(os.Stdout)
	if o.out != "" {
		f, err := os.Create(o.out)
		if err != nil {
			return err
		}
		defer f.Close()
		to = io.MultiWriter(to, f)
	}
	printTable(to, all)
	if os.Geteuid() != 0 {
		note("the programs' memory: needs root")
		return nil
	}
	m, err := measureMemory(o.bin, listed)
	if err != nil {
		return err
	}
	m.print(to)
	return nil
}

// allFollow is how many nodes there may be of which all make pictures, on the processors of one
// machine. Of more, one in several does, and the others only hear of changes.
const allFollow = 250

// listed is how many endpoints the network has whose followers' memory is measured.
const listed = 10_000

// A shape is what a cluster consists of.
type shape struct {
	nodes, networks int
	each            int // networks of a node
	endpoints       int // of a node, over all its networks
	every           int // one node of so many is a follower, the others only hear of changes
}

func (s shape) String() string {
	if s.networks == 1 {
		return fmt.Sprintf("%d nodes, 1 network", s.nodes)
	}
	return fmt.Sprintf("%d nodes, %d networks", s.nodes, s.networks)
}

// on returns the networks of a node. Nodes are spread evenly.
func (s shape) on(node int) []int {
	list := make([]int, s.each)
	for i := range list {
		list[i] = (node*s.each + i) % s.networks
	}
	return list
}

func note(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
